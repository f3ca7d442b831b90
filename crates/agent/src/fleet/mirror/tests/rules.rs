//! The rules one by one.

use super::*;

#[test]
fn r2_an_empty_snapshot_removes_nothing_however_often_it_comes() {
    let mut host = Host::knowing(snapshot(5, 0..20));
    for generation in 6..50 {
        host.accept(snapshot(generation, []));
        host.wait();
    }
    let mut nothing = snapshot(50, []);
    nothing.record = None;
    host.accept(nothing);
    assert_eq!((host.count(), host.chosen(), host.doubted()), (20, 20, 20));
    assert!(host.mirror.remote(&orders()).unwrap().record.is_some(), "nothing is reached without");
    let suspected = Notice::Suspected { service: orders(), count: 20 };
    assert_eq!(host.mirror.take_notices(), [suspected], "told once");
    host.accept(snapshot(51, 0..20));
    assert_eq!(host.doubted(), 0);
}

#[test]
fn r2_what_is_missing_from_one_snapshot_stays_in_use() {
    let mut host = Host::knowing(snapshot(5, 0..20));
    host.accept(snapshot(6, 0..19));
    host.accept(snapshot(6, 0..19));
    assert_eq!((host.count(), host.chosen()), (20, 20), "and a copy of it says nothing new");
    for _ in 0..5 {
        host.wait();
        host.accept_delta(delta(host.generation(), host.generation() + 1));
    }
    assert_eq!(host.count(), 20, "only a snapshot can say again that it is missing");
    host.accept(snapshot(11, 0..19));
    assert_eq!((host.count(), host.doubted()), (19, 0));
}

#[test]
fn r2_the_own_endpoints_of_a_host_do_not_fill_a_set() {
    let mut host = Host::knowing(snapshot(5, 0..4));
    let mut own = snapshot(6, []);
    own.endpoints.insert(EndpointKey { node: node("here"), instance: 0 }, up(9));
    host.accept(own);
    assert_eq!(host.count(), 4, "and are not taken");
}

#[test]
fn r3_a_share_goes_an_interval_and_only_while_snapshots_confirm_it() {
    let mut host = Host::knowing(snapshot(5, 0..100));
    let mut dead = delta(5, 6);
    dead.removed = buried(6, Removal::NodeDead, 0..50);
    host.accept_delta(dead);
    assert_eq!((host.count(), host.doubted()), (90, 40));
    let notices = host.mirror.take_notices();
    assert!(notices.contains(&Notice::Parked { service: orders(), count: 40 }), "{notices:?}");
    for _ in 0..10 {
        host.wait();
    }
    assert_eq!(host.count(), 90, "time alone removes nothing");
    let told = || {
        let mut told = snapshot(6, 50..100);
        told.tombstones = buried(6, Removal::NodeDead, 0..50);
        told
    };
    assert_eq!(host.mirror.asks(host.now), [orders()]);
    assert_eq!(host.mirror.asks(host.now), [], "once an interval");
    host.accept(told());
    assert_eq!(host.count(), 81);
    host.accept(told());
    assert_eq!(host.count(), 81, "a copy in the same interval releases nothing");
    host.wait();
    host.accept(told());
    assert_eq!(host.count(), 73);
    host.wait();
    host.accept(snapshot(7, 0..100));
    assert_eq!((host.count(), host.doubted()), (100, 0), "they were not dead");
    assert_eq!(host.mirror.next_ask(), None);
}

#[test]
fn r3_one_may_go_however_few_there_are() {
    let mut host = Host::knowing(snapshot(5, 0..2));
    let mut dead = delta(5, 6);
    dead.removed = buried(6, Removal::NodeDead, 0..2);
    host.accept_delta(dead);
    assert_eq!((host.count(), host.doubted()), (1, 1));
    host.wait();
    let mut told = snapshot(6, []);
    told.tombstones = buried(6, Removal::NodeDead, 0..2);
    host.accept(told);
    assert_eq!(host.count(), 0, "named by its tombstone, an empty set confirms it");
}

#[test]
fn r3_one_dead_host_goes_whole_while_another_serves() {
    let of = |host: &str, instance| EndpointKey { node: node(host), instance };
    let known = |hosts: &[&str]| {
        let keys = hosts.iter().flat_map(|host| (0..4).map(|instance| of(host, instance)));
        Snapshot { endpoints: keys.map(|key| (key, up(1))).collect(), ..snapshot(5, []) }
    };
    let dies = |host: &mut Host, from: u64, name: &str, instances: std::ops::Range<u32>| {
        let generation = Generation(from + 1);
        let tombstone = Tombstone { generation, removal: Removal::NodeDead };
        let removed = instances.map(|it| (of(name, it), tombstone.clone())).collect();
        host.accept_delta(Delta { removed, ..delta(from, from + 1) });
    };
    let mut host = Host::knowing(known(&["b", "c", "d"]));
    dies(&mut host, 5, "b", 0..3);
    assert_eq!((host.count(), host.doubted()), (9, 0));
    dies(&mut host, 6, "b", 3..4);
    assert_eq!((host.count(), host.doubted()), (8, 0), "the rest of it in another message");
    dies(&mut host, 7, "c", 0..4);
    assert_eq!((host.count(), host.doubted()), (8, 4), "a second one waits");
    host.wait();
    dies(&mut host, 8, "d", 0..4);
    assert_eq!((host.count(), host.doubted()), (7, 7), "nobody else is up without doubt");
}

#[test]
fn r3_facts_are_not_delayed() {
    for removal in [Removal::Reported, Removal::Withdrawn] {
        let mut host = Host::knowing(snapshot(5, 0..100));
        let mut told = delta(5, 6);
        told.removed = buried(6, removal, 0..90);
        host.accept_delta(told);
        assert_eq!((host.count(), host.doubted()), (10, 0));
        let mut told = snapshot(7, []);
        told.tombstones = buried(7, removal, 90..100);
        host.accept(told);
        assert_eq!(host.count(), 0);
    }
}

#[test]
fn r3_an_agent_that_begins_again_has_no_new_share() {
    let mut host = Host::knowing(snapshot(5, 0..100));
    let mut dead = delta(5, 6);
    dead.removed = buried(6, Removal::NodeDead, 0..50);
    host.accept_delta(dead);
    let text = serde_json::to_vec(&host.mirror).unwrap();
    let saved = serde_json::from_slice(&text).unwrap();
    host.mirror = Mirror::restore(saved, host.mirror.limits.clone(), host.now);
    assert_eq!((host.count(), host.doubted(), host.generation()), (90, 40, 6));
    let mut dead = delta(6, 7);
    dead.removed = buried(7, Removal::NodeDead, 50..60);
    host.accept_delta(dead);
    assert_eq!(host.count(), 90);
    host.wait();
    let mut told = snapshot(7, 60..100);
    told.tombstones = buried(6, Removal::NodeDead, 0..60);
    host.accept(told);
    assert_eq!((host.count(), host.doubted()), (81, 41));
}

#[test]
fn r10_when_more_than_half_are_out_all_are_routed_to() {
    let mut host = Host::knowing(snapshot(5, 0..10));
    let sick = |range: std::ops::Range<u32>| {
        range.map(|n| (key(n), endpoint(n, EndpointStatus::Unhealthy))).collect()
    };
    host.accept_delta(Delta { put: sick(0..5), ..delta(5, 6) });
    assert_eq!(host.chosen(), 5, "half is not more than half");
    assert_eq!(host.mirror.take_notices(), []);
    host.accept_delta(Delta { put: sick(5..6), ..delta(6, 7) });
    assert_eq!(host.chosen(), 10);
    let told = Notice::Panic { service: orders(), out: 6, of: 10 };
    assert_eq!(host.mirror.take_notices(), [told]);
    let drained = (key(0), endpoint(0, EndpointStatus::Draining));
    let starting = (key(10), endpoint(10, EndpointStatus::Starting));
    host.accept_delta(Delta { put: [drained, starting].into(), ..delta(7, 8) });
    assert_eq!(host.chosen(), 9, "those that drain or start are no case of doubt");
    host.accept_delta(Delta { put: [(key(1), up(1))].into(), ..delta(8, 9) });
    assert_eq!(host.chosen(), 5);
    assert_eq!(host.mirror.take_notices(), [Notice::Calm { service: orders() }]);
}

#[test]
fn r10_parked_endpoints_of_dead_hosts_count_as_out() {
    let mut host = Host::knowing(snapshot(5, 0..10));
    let sick: BTreeMap<_, _> =
        (6..8).map(|n| (key(n), endpoint(n, EndpointStatus::Unhealthy))).collect();
    let removed = buried(6, Removal::NodeDead, 0..5);
    host.accept_delta(Delta { put: sick, removed, ..delta(5, 6) });
    assert_eq!((host.count(), host.chosen()), (9, 9), "6 of 9 are out");
}

#[test]
fn r11_what_is_impossible_changes_nothing() {
    let mut host = Host::knowing(snapshot(5, 0..4));
    let before = host.held();
    let with = |change: fn(&mut Endpoint)| {
        let mut bad = snapshot(6, [1, 7]);
        change(bad.endpoints.get_mut(&key(7)).unwrap());
        bad
    };
    let listed = |generation| {
        let mut bad = snapshot(6, 0..4);
        bad.tombstones = buried(generation, Removal::Reported, [3, 9]);
        bad
    };
    let mut ports = snapshot(6, 0..5);
    ports.record.as_mut().unwrap().ports.push(record().ports[0].clone());
    for (message, reason) in [
        (
            with(|e| e.address4 = None),
            "endpoint n7/0: address4 is none: is there unless address6 is",
        ),
        (
            with(|e| e.address4 = Some(Ipv4Addr::LOCALHOST)),
            "address4 is 127.0.0.1: leads from one host",
        ),
        (with(|e| e.address4 = Some(Ipv4Addr::BROADCAST)), "is the address of one host"),
        (with(|e| e.address6 = Some("::1".parse().unwrap())), "address6 is ::1: leads"),
        (with(|e| e.address6 = Some("fe80::1".parse().unwrap())), "address6 is fe80::1: leads"),
        (with(|e| e.address6 = Some("::ffff:10.0.0.1".parse().unwrap())), "nor an IPv4 address"),
        (with(|e| _ = e.ports.insert("http".parse().unwrap(), 0)), "ports.http is 0"),
        (with(|e| e.weight = 65_537), "weight is 65537: is at most 65536"),
        (listed(6), "endpoint n3/0 is told to be there and to be gone"),
        (listed(7), "endpoint n3/0 went at 7, which is not after 0 and up to 6"),
        (ports, "service record: ports[1].name is http: is that of one port"),
        (snapshot(4, 0..5), "its generation 4 is older than 5"),
    ] {
        let told = message.generation;
        let Answer::Nack { generation, reason: why } = host.mirror.snapshot(host.now, message)
        else {
            panic!("taken: {reason}");
        };
        assert_eq!(generation, told);
        assert!(why.to_string().contains(reason), "{why}");
    }
    assert_eq!((host.held(), host.doubted(), host.generation()), (before, 0, 5));
    assert!(host.mirror.take_changed().is_empty());
}

#[test]
fn r11_a_delta_applies_to_what_is_known_and_to_nothing_else() {
    let mut host = Host::knowing(snapshot(5, 0..4));
    let nack = |host: &mut Host, delta: Delta| match host.mirror.delta(host.now, delta) {
        Answer::Nack { reason, .. } => reason,
        Answer::Ack { .. } => panic!("taken"),
    };
    for from in [4, 6] {
        let reason = nack(&mut host, delta(from, 9));
        assert_eq!(reason, Refused::Gap { from: Generation(from), known: Generation(5) });
    }
    let both = Delta {
        put: [(key(1), up(1))].into(),
        removed: buried(6, Removal::Reported, [1]),
        ..delta(5, 6)
    };
    assert_eq!(nack(&mut host, both), Refused::Contradiction { key: key(1) });
    let early = Delta { removed: buried(5, Removal::Reported, [1]), ..delta(5, 6) };
    assert!(nack(&mut host, early).to_string().contains("not after 5 and up to 6"));
    let again = Delta { removed: buried(5, Removal::Reported, [1]), ..delta(4, 5) };
    host.accept_delta(again);
    assert_eq!((host.count(), host.generation()), (4, 5), "a copy of an old one is of no effect");
}

#[test]
fn r11_more_endpoints_than_declared_are_refused_and_nearing_that_is_told() {
    let mut host = Host::new();
    host.mirror.limits =
        Limits { service_endpoints: 8, endpoints: 10, services: 2, ..Limits::default() };
    host.accept(snapshot(5, 0..7));
    assert_eq!(host.mirror.take_notices(), []);
    host.accept(snapshot(6, 0..8));
    assert_eq!(host.mirror.take_notices(), [Notice::NearlyFull { used: 8, holds: 10 }]);
    let refused = |host: &mut Host, snapshot| match host.mirror.snapshot(host.now, snapshot) {
        Answer::Nack { reason, .. } => reason.to_string(),
        Answer::Ack { .. } => panic!("taken"),
    };
    assert_eq!(
        refused(&mut host, snapshot(7, 0..9)),
        "it would make 9 endpoints of one service, and this host holds at most 8: use fewer, or \
         subscribe to fewer services"
    );
    let other =
        |name: &str, range| Snapshot { service: name.parse().unwrap(), ..snapshot(7, range) };
    assert!(refused(&mut host, other("users", 0..3)).contains("11 endpoints,"));
    assert_eq!(
        host.mirror.snapshot(host.now, other("users", 0..1)),
        Answer::Ack { generation: Generation(7) }
    );
    assert!(refused(&mut host, other("third", 0..1)).contains("3 services"));
    assert_eq!(host.count(), 8);
    host.mirror.forget(&orders());
    assert!(matches!(host.mirror.snapshot(host.now, other("third", 0..8)), Answer::Ack { .. }));
}

#[test]
fn a_tombstone_wins_over_an_older_put_and_loses_to_a_newer_one() {
    let mut host = Host::knowing(snapshot(5, 0..4));
    host.accept_delta(Delta { removed: buried(6, Removal::Reported, [1]), ..delta(5, 6) });
    host.accept(snapshot(6, 0..4));
    assert!(!host.held().contains_key(&key(1)), "a set of the same generation that has it still");
    host.accept_delta(Delta { put: [(key(1), up(1))].into(), ..delta(6, 8) });
    let mut partial = snapshot(9, [0]);
    partial.tombstones = buried(6, Removal::Reported, [1]);
    host.accept(partial);
    assert!(host.held().contains_key(&key(1)), "it was put after it went");
}

#[test]
fn what_was_forgotten_is_not_taken_from_an_older_message() {
    let mut host = Host::knowing(snapshot(5, 0..4));
    host.mirror.forget(&orders());
    assert!(host.mirror.remote(&orders()).is_none());
    assert_eq!(host.mirror.take_changed(), [orders()].into());
    let older = host.mirror.snapshot(host.now, snapshot(4, 0..4));
    assert!(matches!(older, Answer::Nack { reason: Refused::Older { .. }, .. }), "{older:?}");
    let older = host.mirror.delta(host.now, delta(0, 4));
    assert!(matches!(older, Answer::Nack { reason: Refused::Older { .. }, .. }), "{older:?}");
    host.accept(snapshot(5, 0..4));
    assert_eq!(host.count(), 4);
}
