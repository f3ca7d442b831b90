use std::time::Duration;

use sinew_model::{PortName, Protocol};

use super::*;

fn port() -> Port {
    Port { name: PortName::new("http").unwrap(), number: 80, protocol: Protocol::Tcp }
}

fn endpoint(replica: u8, in_choice: bool) -> Endpoint {
    Endpoint {
        workload: format!("web/{replica}"),
        address: Ipv4Addr::new(127, 80, 1, replica).into(),
        listens: vec![Ipv4Addr::new(127, 80, 1, replica).into()],
        key: replica.into(),
        elsewhere: None,
        zone: None,
        weight: WEIGHT,
        state: if in_choice { WorkloadState::Up } else { WorkloadState::Exited },
        out: (!in_choice).then_some(Finding::Exited),
        reason: (!in_choice).then(|| "killed by signal 9".to_owned()),
    }
}

fn listener(replica: u8, queue: u32) -> Listener {
    let address = Ipv4Addr::new(127, 80, 1, replica).into();
    let protocol = Protocol::Tcp;
    let (cgroup, inode, ipv6_only, multipath) = (0, 0, false, false);
    Listener { address, port: 80, protocol, queue, cgroup, ipv6_only, multipath, inode, cookie: 0 }
}

fn question(balance: Balance, endpoints: Vec<Endpoint>) -> Question {
    Question {
        from: "exec".to_owned(),
        to: ServiceName::new("web").unwrap(),
        number: 7,
        port: port(),
        balance,
        callers: vec![("exec/0".to_owned(), Ipv4Addr::LOCALHOST)],
        endpoints,
    }
}

fn seen(listeners: Vec<Listener>, backends: &[(u64, BackendStats)]) -> Seen {
    Seen { listeners, backends: backends.iter().copied().collect(), kept: Vec::new() }
}

#[test]
fn each_is_judged_as_the_kernel_does() {
    let ejected = BackendStats {
        ejected_now: true,
        ejected_for_ms: 1500,
        failures_in_a_row: 5,
        ..BackendStats::default()
    };
    let unseen = BackendStats { queue_empty_ago_ms: Some(4000), ..BackendStats::default() };
    let due = BackendStats { awaits_probe: true, ..BackendStats::default() };
    let probing = BackendStats { probed_now: true, ..due };
    let dying = BackendStats { dying: true, ..unseen };
    let suspect = BackendStats { suspect: true, ..BackendStats::default() };
    let endpoints = (0..9).map(|n| endpoint(n, n != 1)).collect();
    let listeners = [(0, 0), (2, 3), (4, 0), (5, 0), (6, 0), (7, 3)];
    let listeners = listeners.map(|(n, queue)| listener(n, queue)).into();
    // The queue of 0 was not seen empty for long either, but it is empty now.
    let backends =
        [(0, unseen), (2, unseen), (4, ejected), (5, probing), (6, due), (7, dying), (8, suspect)];
    let seen = seen(listeners, &backends);
    let answer = question(Balance::LeastLoad, endpoints).answer(&seen);
    let told: Vec<_> =
        answer.endpoints.iter().map(|e| (e.fitness, e.code, e.reason.as_str())).collect();
    let due = "its ejection ended: the next caller that comes to it probes it";
    let probing = "its ejection ended: one caller probes it, the others pass it by";
    let exited = "not in the choice: it has exited (killed by signal 9)";
    let away = "its host has left calls without an answer: one caller at a time tries it";
    let hung = "hung: 3 in its accept queue, last seen empty 4.0 s ago";
    let ejected = "ejected for 1.5 s more: 5 failures in a row";
    assert_eq!(
        told,
        [
            (Fitness::Fit, Finding::Fit, "listens, keeps up, not ejected"),
            (Fitness::Out, Finding::Exited, exited),
            (Fitness::Sick, Finding::Hung, hung),
            (Fitness::Gone, Finding::NoListener, "nothing listens on port 80"),
            (Fitness::Sick, Finding::Ejected, ejected),
            (Fitness::Sick, Finding::Probing, probing),
            (Fitness::Fit, Finding::ProbeDue, due),
            (Fitness::Sick, Finding::Dying, "the process that listens was killed or exits"),
            (Fitness::Sick, Finding::Suspect, away),
        ]
    );
    assert_eq!(
        (answer.decision, answer.takes),
        (Decision::Fit, ["web/0", "web/6"].map(String::from).into())
    );
    assert_eq!(answer.outcome, "one of web/0, web/6");
    let outside = || Question {
        from: OUTSIDE.to_owned(),
        callers: Vec::new(),
        ..question(Balance::LeastLoad, Vec::new())
    };
    let multipath = Listener { multipath: true, ..listener(5, 0) };
    let unreachable = Seen { listeners: vec![multipath], ..self::seen(Vec::new(), &[]) };
    let asked = || Question { endpoints: vec![endpoint(5, true)], ..outside() };
    assert_eq!(asked().answer(&seen).endpoints[0].fitness, Fitness::Fit, "it takes no probe");
    let answer = asked().answer(&unreachable);
    assert_eq!(answer.endpoints[0].fitness, Fitness::Gone, "nobody can hand packets to it");
    assert!(answer.endpoints[0].reason.contains("MPTCP"), "{:?}", answer.endpoints);
}

#[test]
fn the_outcome_follows_the_policy() {
    let both = || vec![endpoint(0, true), endpoint(1, true)];
    let here = || vec![listener(0, 0), listener(1, 0)];
    let busy = BackendStats { active: 4, ..BackendStats::default() };
    let outcome = |balance, seen: &Seen| question(balance, both()).answer(seen).outcome;
    let decision = |balance, seen: &Seen| question(balance, both()).answer(seen).decision;
    let loaded = seen(here(), &[(0, busy)]);
    assert_eq!(outcome(Balance::LeastLoad, &loaded), "web/1, which has fewer open connections");
    assert_eq!(outcome(Balance::Random, &loaded), "one of web/0, web/1");
    let nobody = seen(Vec::new(), &[]);
    assert_eq!(outcome(Balance::Random, &nobody), "refused at once: none listens (no-backend)");
    assert_eq!(decision(Balance::Random, &nobody), Decision::NoBackend);
    let sick = BackendStats { ejected_now: true, ..BackendStats::default() };
    let panic = seen(vec![listener(1, 0)], &[(1, sick)]);
    let told = "web/1, although sick: no fit one is left (panic)";
    assert_eq!(outcome(Balance::Random, &panic), told);
    assert_eq!(decision(Balance::Random, &panic), Decision::Panic);
    let source = Balance::Source { timeout: Duration::from_secs(60) };
    let affinity = Affinity { backend: 0, left_ms: 5000 };
    let kept = Seen { kept: vec![("exec/0".to_owned(), affinity)], ..loaded };
    let answer = question(source, both()).answer(&kept);
    assert_eq!(answer.outcome, "web/0, which exec/0 has");
    assert_eq!((answer.decision, answer.takes), (Decision::Kept, vec!["web/0".to_owned()]));
    assert_eq!(answer.kept[0].left_ms, 5000);
}

#[test]
fn a_port_is_named_when_there_are_several() {
    let web = ServiceName::new("web").unwrap();
    let other = Port { name: PortName::new("admin").unwrap(), number: 81, ..port() };
    let both = [port(), other];
    let chosen = |ports: &[Port], wanted| choose_port(&web, ports, wanted).map(|p| p.number);
    assert_eq!(chosen(&both[..1], None).unwrap(), 80);
    assert_eq!(chosen(&both, Some("admin")).unwrap(), 81);
    assert_eq!(chosen(&both, Some("81")).unwrap(), 81);
    assert!(chosen(&both, None).is_err());
    let refusal = chosen(&both, Some("9")).unwrap_err().to_string();
    assert_eq!(refusal, "to: web has no port 9: a call there is refused at once");
}

#[test]
fn what_is_on_another_host_is_told_with_its_host_and_zone_and_is_not_looked_at() {
    let there = Endpoint {
        workload: "web/0@there".to_owned(),
        listens: Vec::new(),
        elsewhere: Some("there".parse().unwrap()),
        zone: Some("b".parse().unwrap()),
        ..endpoint(0, true)
    };
    let question = question(Balance::LeastLoad, vec![there, endpoint(1, true)]);
    let answer = question.answer(&seen(vec![listener(1, 0)], &[]));
    let places: Vec<_> = answer.endpoints.iter().map(|e| (&e.node, &e.zone, e.code)).collect();
    let (node, zone) = (Some("there".parse().unwrap()), Some("b".parse().unwrap()));
    assert_eq!(places, [(&node, &zone, Finding::Fit), (&None, &None, Finding::Fit)]);
    assert!(!answer.endpoints[0].reason.contains("there"), "{}", answer.endpoints[0].reason);
}
