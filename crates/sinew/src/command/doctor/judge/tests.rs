use std::io;

use sinew_agent::Stranger;
use sinew_api::{AdoptedEndpoint, ReachedCgroup, Shadowed};
use sinew_datapath::Features;
use sinew_workload::cgroup::Enforcer;

use super::{
    super::{
        facts::{Agent, Lack},
        finding::Verdict,
    },
    *,
};

fn well() -> Facts {
    Facts {
        kernel_release: "6.18.44-amd64".to_owned(),
        features: Ok(Features { outcomes: true, deaths: true }),
        grace_period: Ok(()),
        closes: Some(Ok(())),
        loopback: true,
        ipv6: true,
        limits: vec![("memory", Some(Enforcer::V2)), ("cpu", Some(Enforcer::V1))],
        strangers: Some(Vec::new()),
        cgroup2: Some("/sys/fs/cgroup".into()),
        hooks: Ok(Vec::new()),
        lookups: Ok(0),
        pins: "/sys/fs/bpf/sinew".into(),
        pins_in_bpffs: true,
        root: true,
        capabilities: u64::MAX,
        group: true,
        nsswitch: "passwd: files\nhosts: files dns\n".to_owned(),
        nscd: false,
        agent: Agent::Absent { socket: "/run/sinew/api.sock".into() },
    }
}

/// What is not well with these facts.
fn ill(facts: &Facts) -> Vec<(&'static str, Verdict)> {
    let findings = judge(facts);
    for finding in findings.iter().filter(|finding| finding.verdict != Verdict::Ok) {
        assert!(finding.means.is_some() && finding.remedy.is_some(), "{finding:?}");
    }
    let ill = findings.iter().filter(|finding| finding.verdict != Verdict::Ok);
    ill.map(|finding| (finding.check, finding.verdict)).collect()
}

#[test]
fn a_machine_that_is_well_has_no_complaint() {
    assert_eq!(ill(&well()), []);
    assert_eq!(ill(&Facts { kernel_release: "6.1.0".to_owned(), ..well() }), []);
    assert_eq!(ill(&Facts { pins_in_bpffs: false, ..well() }), []);
    let nsswitch = "hosts: files dns resolve\n".to_owned();
    assert_eq!(ill(&Facts { nsswitch, ..well() }), []);
    assert_eq!(ill(&Facts { nsswitch: String::new(), ..well() }), []);
}

#[test]
fn what_is_missing_blocks() {
    let blocks = |check, facts: Facts| assert_eq!(ill(&facts), [(check, Verdict::Blocks)]);
    blocks("kernel", Facts { kernel_release: "5.15.0-generic".to_owned(), ..well() });
    blocks("kernel", Facts { kernel_release: "strange".to_owned(), ..well() });
    blocks("features", Facts { features: Err(lack("socket maps")), ..well() });
    blocks("grace", Facts { grace_period: Err("EPERM".to_owned()), ..well() });
    blocks("loopback", Facts { loopback: false, ..well() });
    let lookups = Err(io::ErrorKind::InvalidInput.into());
    blocks("lookup", Facts { lookups, ..well() });
    let strangers = Some(vec![stranger(true)]);
    blocks("addresses", Facts { strangers, ..well() });
    blocks("cgroup2", Facts { cgroup2: None, ..well() });
    blocks("bpffs", Facts { pins_in_bpffs: false, pins: "/srv/pins".into(), ..well() });
    blocks("rights", Facts { capabilities: !(1 << 39), ..well() });
}

fn lack(what: &str) -> Lack {
    Lack { what: format!("this kernel lacks {what}"), remedy: "boot another".to_owned() }
}

fn stranger(roots: bool) -> Stranger {
    let (who, at) = ("nginx (process 7)".to_owned(), "127.80.0.1:80".parse().unwrap());
    let protocol = sinew_model::Protocol::Tcp;
    Stranger { occupied: sinew_agent::Occupied { who, at, protocol }, roots }
}

/// The line that a machine like this gets.
fn told(facts: &Facts, check: &str) -> String {
    let findings = judge(facts);
    let finding = findings.into_iter().find(|finding| finding.check == check).unwrap();
    format!("{}; {}", finding.found, finding.means.unwrap_or_default())
}

#[test]
fn what_works_in_part_warns_and_says_in_which() {
    let warns = |check, facts: &Facts, says: &str| {
        assert_eq!(ill(facts), [(check, Verdict::Warns)]);
        let told = told(facts, check);
        assert!(told.contains(says), "{told}");
    };
    let older = Facts {
        kernel_release: "6.1.0-13-amd64".to_owned(),
        features: Ok(Features { outcomes: false, deaths: false }),
        ..well()
    };
    warns("features", &older, "no backend is ejected");
    let features = Ok(Features { outcomes: true, deaths: false });
    warns("features", &Facts { features, ..well() }, "until its listeners close");
    let closes = Some(Err(lack("closing sockets of others")));
    warns("close", &Facts { closes, ..well() }, "lacks closing sockets of others");
    warns("ipv6", &Facts { ipv6: false, ..well() }, "listen on IPv6 alone cannot");
    let limits = vec![("memory", None), ("cpu", Some(Enforcer::V1)), ("pids", None)];
    warns("limits", &Facts { limits, ..well() }, "nothing enforces limits of memory, pids");
    let strangers = Some(vec![stranger(false)]);
    warns("addresses", &Facts { strangers, ..well() }, "nginx (process 7) is at 127.80.0.1:80/tcp");

    assert_eq!(
        told(&well(), "limits"),
        "enforced: memory by cgroup version 2; cpu by cgroup version 1; "
    );
    // What only root can ask for is no complaint of another user.
    assert_eq!(ill(&Facts { closes: None, strangers: None, ..well() }), []);
}

#[test]
fn what_bypasses_sinew_warns() {
    let warns = |check, facts: Facts| assert_eq!(ill(&facts), [(check, Verdict::Warns)]);
    warns("group", Facts { group: false, ..well() });
    warns("nscd", Facts { nscd: true, ..well() });
    warns("rights", Facts { root: false, capabilities: 0, ..well() });
    let nsswitch = "hosts:  mymachines resolve [!UNAVAIL=return] files dns\n".to_owned();
    warns("nsswitch", Facts { nsswitch, ..well() });
}

#[test]
fn programs_of_others_are_told_by_how_they_share() {
    let occupied = |sharing| Occupied { hook: "connect4", programs: 2, sharing };
    let with = |sharing| Facts { hooks: Ok(vec![occupied(sharing)]), ..well() };
    assert_eq!(ill(&with(Sharing::Together)), []);
    assert_eq!(ill(&with(Sharing::Overridden)), [("hooks", Verdict::Warns)]);
    assert_eq!(ill(&with(Sharing::Exclusive)), [("hooks", Verdict::Blocks)]);
    let error = io::ErrorKind::PermissionDenied.into();
    assert_eq!(ill(&Facts { hooks: Err(error), ..well() }), [("hooks", Verdict::Warns)]);
}

#[test]
fn who_else_chooses_sockets_for_packets() {
    let with = |lookups| Facts { lookups, ..well() };
    assert_eq!(ill(&with(Ok(2))), [("lookup", Verdict::Warns)]);
    let error = io::ErrorKind::PermissionDenied.into();
    assert_eq!(ill(&with(Err(error))), [("lookup", Verdict::Warns)]);
}

#[test]
fn an_agent_that_runs_needs_no_rights_of_the_caller() {
    let agent = Agent::Running(Box::new(agent()));
    assert_eq!(ill(&Facts { root: false, capabilities: 0, agent, ..well() }), []);
}

fn agent() -> sinew_api::Agent {
    sinew_api::Agent {
        version: "0.1.0".to_owned(),
        abi_version: 1,
        pid: 7,
        started_at_ms: 0,
        cgroup: "/sys/fs/cgroup/sinew/members".into(),
        pins: "/sys/fs/bpf/sinew".into(),
        metrics: None,
        missing: Vec::new(),
        reach: Vec::new(),
        adopted: Vec::new(),
        shadowed: Vec::new(),
        warnings: Vec::new(),
    }
}

#[test]
fn what_the_agent_warns_of_is_shown() {
    let told = "13200 of at most 16384 instances are in use".to_owned();
    let agent = sinew_api::Agent { warnings: vec![told.clone()], ..agent() };
    let facts = Facts { agent: Agent::Running(Box::new(agent)), ..well() };
    assert_eq!(ill(&facts), [("agent", Verdict::Warns)]);
    assert!(judge(&facts).into_iter().any(|finding| finding.found == told));
}

#[test]
fn a_program_behind_a_published_port_is_told() {
    let shadowed = Shadowed {
        service: "web".parse().unwrap(),
        published: "127.0.0.1:8000".parse().unwrap(),
        listens_at: "0.0.0.0:8000".parse().unwrap(),
        program: Some("nginx (process 7)".to_owned()),
    };
    let agent = sinew_api::Agent { shadowed: vec![shadowed], ..agent() };
    let facts = Facts { agent: Agent::Running(Box::new(agent)), ..well() };
    assert_eq!(ill(&facts), [("publish", Verdict::Warns)]);
    let told = "nginx (process 7) listens on 0.0.0.0:8000; what comes to 127.0.0.1:8000 goes \
                to web";
    assert!(judge(&facts).into_iter().any(|finding| finding.found == told));
}

#[test]
fn a_missing_group_is_told_once() {
    let warnings = vec![sinew_api::NO_GROUP.to_owned()];
    let agent = sinew_api::Agent { warnings, ..agent() };
    let with = |group| Facts { agent: Agent::Running(Box::new(agent.clone())), group, ..well() };
    assert_eq!(ill(&with(false)), [("group", Verdict::Warns)]);
    // Made since: the agent does not know it yet.
    assert_eq!(ill(&with(true)), [("agent", Verdict::Warns)]);
}

#[test]
fn what_members_lack_is_told() {
    let missing = vec!["connect4".to_owned()];
    let agent = Agent::Running(Box::new(sinew_api::Agent { missing, ..agent() }));
    assert_eq!(ill(&Facts { agent, ..well() }), [("members", Verdict::Warns)]);
}

#[test]
fn what_lacks_programs_outside_of_the_members_is_told() {
    let with = |missing: &[&str]| {
        let missing: Vec<String> = missing.iter().map(|hook| (*hook).to_owned()).collect();
        let reach = ReachedCgroup { cgroup: "/sys/fs/cgroup".into(), missing: missing.clone() };
        let (endpoint, adopted) = ("db/0".to_owned(), "unit redis.service".to_owned());
        let state = sinew_api::WorkloadState::Up;
        let adopted = AdoptedEndpoint { endpoint, adopted, state, missing };
        let agent = sinew_api::Agent { reach: vec![reach], adopted: vec![adopted], ..agent() };
        Facts { agent: Agent::Running(Box::new(agent)), ..well() }
    };
    assert_eq!(ill(&with(&[])), []);
    let found = judge(&with(&[])).into_iter().map(|finding| finding.found).collect::<Vec<_>>();
    assert!(found.contains(&"db/0, which is unit redis.service: up".to_owned()), "{found:?}");
    assert!(found.contains(&"what runs in /sys/fs/cgroup may call services".to_owned()));
    let ill = ill(&with(&["connect4", "sendmsg6"]));
    assert_eq!(ill, [("reach", Verdict::Warns), ("adopted", Verdict::Warns)]);
}
