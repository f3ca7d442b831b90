//! Sessions against a registry and a store that compares.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use bytes::Bytes;
use sinew_model::{
    Balance, NodeName, Outlier, ServiceName,
    fleet::{Endpoint, EndpointStatus, Generation, Host, Removal, Resources, ServiceRecord},
};
use sinew_proto::{FromAgent, FromControl, Hello, PROTOCOL, Report, Reported, ServiceReport};

use super::{Admission, Member, Now, Outcome, Refused, Session, Settings, Write};
use crate::{
    records::{Key, StoredSession, StoredTombstone, read, read_endpoints, read_service},
    registry::Registry,
    store::{Batch, Embedded, ManualClock, Range, Span, Store, Update, embedded::Options},
};

/// A replica of control over an embedded store.
struct World {
    store: Embedded,
    registry: Registry,
    watch: crate::store::Watch,
    admission: Admission,
    now: Now,
}

impl World {
    async fn new() -> Self {
        let clock = std::sync::Arc::new(ManualClock::default());
        let store = Embedded::in_memory(Options::default(), clock).await.unwrap();
        let watch = store.watch(Span::prefix("sinew/"), None).await.unwrap();
        let mut registry = Registry::default();
        let listed = store.range(Range::of(Span::prefix("sinew/"))).await.unwrap();
        registry.list(listed.revision, listed.entries);
        let admission = Admission::new(1 << 20, Duration::from_secs(1));
        let now = Now { monotonic: Duration::from_secs(100), wall: Duration::from_secs(1000) };
        Self { store, registry, watch, admission, now }
    }

    async fn commit(&mut self, write: Write) -> Outcome {
        let committed = self.store.commit(write.transaction()).await.unwrap();
        if !committed.succeeded {
            return Outcome::Conflict(committed.revision);
        }
        while self.registry.revision() < committed.revision {
            let batch = self.batch().await;
            self.registry.apply(batch);
        }
        Outcome::Done(committed.revision)
    }

    async fn batch(&mut self) -> Batch {
        use futures_util::StreamExt as _;
        loop {
            if let Update::Batch(batch) = self.watch.next().await.unwrap().unwrap() {
                return batch;
            }
        }
    }

    /// Writes all that a session wants to. Answers how many writes there were.
    async fn drain(&mut self, session: &mut Session) -> usize {
        let mut number = 0;
        while let Some(write) = session.write(self.now, &mut self.registry) {
            let outcome = self.commit(write).await;
            session.written(outcome, self.now, 0.5);
            number += 1;
        }
        number
    }

    /// What is said, but for hosts and zones.
    fn said(&mut self, session: &mut Session) -> Vec<FromControl> {
        let mut said = self.all_said(session);
        said.retain(|it| !matches!(it, FromControl::Hosts(_) | FromControl::Zones(_)));
        said
    }

    fn all_said(&mut self, session: &mut Session) -> Vec<FromControl> {
        let next = || session.send(self.now, &mut self.registry, &mut self.admission, 0.5);
        let all = std::iter::from_fn(next);
        all.map(|bytes| FromControl::decode(bytes).unwrap()).collect()
    }

    async fn open(&mut self, node: &str, known: &[(&str, u64)]) -> Session {
        let mut session = session(node);
        session.receive(hello(node, known), &mut self.registry).unwrap();
        assert_eq!(self.drain(&mut session).await, 1);
        session
    }

    /// Reports, and has it written. Answers what was said of it.
    async fn report(&mut self, session: &mut Session, report: Report) -> Reported {
        session.receive(FromAgent::Report(report), &mut self.registry).unwrap();
        self.drain(session).await;
        let said = self.said(session).into_iter();
        let mut reported = said.filter_map(|message| match message {
            FromControl::Reported(reported) => Some(reported),
            _ => None,
        });
        reported.next().unwrap()
    }

    async fn get(&self, key: Key) -> Option<Bytes> {
        let ranged = self.store.range(Range::of(Span::key(key.bytes()))).await.unwrap();
        ranged.entries.into_iter().next().map(|entry| entry.value)
    }

    async fn instances(&self, node: &str) -> Vec<u32> {
        let key = Key::Endpoints(orders(), node.parse().unwrap());
        let value = self.get(key).await;
        value.map(|value| read_endpoints(&value).unwrap().into_keys().collect()).unwrap_or_default()
    }

    async fn tombstones(&self) -> Vec<String> {
        let span = Span::prefix("sinew/tombstones/");
        let entries = self.store.range(Range::of(span)).await.unwrap().entries;
        let text = |entry: &crate::store::Entry| {
            let tombstone: StoredTombstone = read(&entry.value).unwrap();
            assert_eq!(tombstone.removal, Removal::Reported);
            String::from_utf8_lossy(&entry.key).replace("sinew/tombstones/", "")
        };
        entries.iter().map(text).collect()
    }
}

fn settings() -> Settings {
    Settings { control: "c1".to_owned(), session_timeout: Duration::from_secs(5) }
}

fn session(node: &str) -> Session {
    let address = [10, 0, 0, 1].into();
    Session::new(Member { node: node.parse().unwrap(), zone: None, address }, settings())
}

fn orders() -> ServiceName {
    "orders".parse().unwrap()
}

fn hello(node: &str, known: &[(&str, u64)]) -> FromAgent {
    let known = known.iter().map(|(name, has)| (name.parse().unwrap(), Generation(*has)));
    FromAgent::Hello(Hello {
        node: node.parse().unwrap(),
        zone: "a".parse().unwrap(),
        labels: BTreeMap::new(),
        version: "0.1.0".to_owned(),
        protocol: PROTOCOL,
        boot_id: "b".to_owned(),
        address4: None,
        address6: None,
        capacity: Resources::default(),
        lineage: None,
        newest: Generation(0),
        wall_clock: Duration::from_secs(1000),
        known: known.collect(),
    })
}

fn record(failures: u32) -> ServiceRecord {
    let outlier = Outlier { consecutive_failures: failures, ..Outlier::default() };
    ServiceRecord { ports: Vec::new(), balance: Balance::default(), outlier }
}

fn service(instances: impl IntoIterator<Item = u32>, gone: &[u32]) -> ServiceReport {
    let endpoint = Endpoint {
        address4: Some([10, 0, 0, 1].into()),
        address6: None,
        ports: BTreeMap::new(),
        zone: "a".parse().unwrap(),
        weight: 256,
        status: EndpointStatus::Up,
    };
    let endpoints = instances.into_iter().map(|instance| (instance, endpoint.clone())).collect();
    ServiceReport { record: Some(record(3)), endpoints, gone: gone.iter().copied().collect() }
}

fn report(sequence: u64, full: bool, orders_: Option<ServiceReport>) -> Report {
    let services = orders_.map(|report| (orders(), report)).into_iter().collect();
    Report { sequence, full, services }
}

#[tokio::test]
async fn a_session_opens_with_an_epoch_and_tells_what_there_is() {
    let mut world = World::new().await;
    let mut first = world.open("n1", &[]).await;
    let said = world.said(&mut first);
    let [FromControl::Welcome(welcome), FromControl::Catalog(catalog)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!((welcome.epoch, catalog.added.len()), (1, 0));
    let reported = world.report(&mut first, report(7, true, Some(service([1, 2], &[])))).await;
    assert_eq!((reported.sequence, reported.held.len()), (7, 0));
    assert_eq!(world.instances("n1").await, [1, 2]);
    let stored = read_service(&world.get(Key::Service(orders())).await.unwrap()).unwrap();
    assert_eq!((stored.record, stored.owners.len()), (Some(record(3)), 1));

    let mut other = world.open("n2", &[("orders", 0)]).await;
    let said = world.said(&mut other);
    let FromControl::Snapshot(snapshot) = &said[2] else { panic!("{said:?}") };
    assert_eq!((snapshot.endpoints.len(), &snapshot.record), (2, &Some(record(3))));
    let generation = snapshot.generation;
    world.report(&mut first, report(8, false, Some(service([1], &[])))).await;
    let said = world.said(&mut other);
    let [FromControl::Delta(delta)] = &said[..] else { panic!("{said:?}") };
    assert_eq!((delta.from, delta.put.len(), delta.removed.len()), (generation, 0, 1));
    let ack = FromAgent::Ack { service: orders(), generation: delta.to };
    other.receive(ack, &mut world.registry).unwrap();
    assert_eq!(other.acked()[&orders()], delta.to);
    let reason = "no".to_owned();
    let nack = FromAgent::Nack { service: orders(), generation: delta.to, reason };
    other.receive(nack, &mut world.registry).unwrap();
    assert_eq!(other.nacked()[&orders()].1, "no");
    assert_eq!(world.said(&mut other), [], "r11: what was refused is not said again");
}

#[tokio::test]
async fn r2_an_empty_report_removes_nothing() {
    let mut world = World::new().await;
    let mut session = world.open("n1", &[]).await;
    world.report(&mut session, report(1, true, Some(service(0..20, &[])))).await;
    for empty in [None, Some(ServiceReport::default()), Some(service([5], &[]))] {
        let mut again = world.open("n1", &[]).await;
        let reported = world.report(&mut again, report(1, true, empty)).await;
        assert_eq!(reported.held[0].service, orders());
        assert!(reported.held[0].reason.contains("more than 10 % of 20"), "{reported:?}");
        assert_eq!(world.instances("n1").await.len(), 20);
        assert_eq!(world.tombstones().await, [""; 0]);
    }
    // Those that it says are gone go, however many they are.
    let mut again = world.open("n1", &[]).await;
    let gone: Vec<u32> = (1..20).collect();
    let reported = world.report(&mut again, report(1, true, Some(service([0], &gone)))).await;
    assert_eq!((reported.held.len(), world.instances("n1").await), (0, vec![0]));
    assert_eq!(world.tombstones().await.len(), 19);
}

#[tokio::test]
async fn r3_a_full_report_may_lack_what_the_cap_lets_go() {
    let mut world = World::new().await;
    let mut session = world.open("n1", &[]).await;
    world.report(&mut session, report(1, true, Some(service(0..20, &[])))).await;
    let mut again = world.open("n1", &[]).await;
    let reported = world.report(&mut again, report(1, true, Some(service(2..20, &[])))).await;
    assert_eq!((reported.held.len(), world.instances("n1").await.len()), (0, 18));
    // What it reports in a session and then does not is a fact.
    world.report(&mut again, report(2, false, Some(service([], &[])))).await;
    assert_eq!(world.instances("n1").await, [0; 0]);
    assert_eq!(world.tombstones().await.len(), 20);
    // What comes back has no tombstone any more.
    world.report(&mut again, report(3, false, Some(service(0..20, &[])))).await;
    assert_eq!((world.instances("n1").await.len(), world.tombstones().await.len()), (20, 0));
}

#[tokio::test]
async fn what_is_held_stays_until_the_host_says_what_became_of_it() {
    let mut world = World::new().await;
    let mut session = world.open("n1", &[]).await;
    world.report(&mut session, report(1, true, Some(service([1, 2], &[])))).await;
    let mut again = world.open("n1", &[]).await;
    world.report(&mut again, report(1, true, Some(service([1], &[])))).await;
    let reported = world.report(&mut again, report(2, false, Some(service([1, 3], &[])))).await;
    assert_eq!((reported.held.len(), world.instances("n1").await), (1, vec![1, 2, 3]));
    let reported = world.report(&mut again, report(3, false, Some(service([1, 3], &[2])))).await;
    assert_eq!((reported.held.len(), world.instances("n1").await), (0, vec![1, 3]));
}

#[tokio::test]
async fn r7_a_session_that_was_superseded_writes_nothing() {
    let mut world = World::new().await;
    let mut old = world.open("n1", &[]).await;
    world.report(&mut old, report(1, true, Some(service([1], &[])))).await;
    // Its write was computed before the new session began.
    let late = FromAgent::Report(report(2, false, Some(service([], &[]))));
    old.receive(late, &mut world.registry).unwrap();
    let write = old.write(world.now, &mut world.registry).unwrap();
    let mut new = world.open("n1", &[]).await;
    let outcome = world.commit(write).await;
    assert!(matches!(outcome, Outcome::Conflict(_)));
    old.written(outcome, world.now, 0.5);
    assert_eq!(world.instances("n1").await, [1]);
    assert_eq!(old.write(world.now, &mut world.registry), None);
    let said = world.said(&mut old);
    let [FromControl::Goodbye { reason, .. }] = &said[..] else { panic!("{said:?}") };
    assert!(reason.starts_with("the session of epoch 1 was superseded by another at replica c1"));
    assert!(old.is_closed() && new.epoch() == Some(2));
    world.report(&mut new, report(1, true, Some(service([1, 2], &[])))).await;
    assert_eq!(world.instances("n1").await, [1, 2]);
}

#[tokio::test]
async fn while_the_store_is_away_the_newest_report_waits() {
    let mut world = World::new().await;
    let mut session = world.open("n1", &[]).await;
    let send = |session: &mut Session, world: &mut World, sequence, instances: &[u32]| {
        let instances = service(instances.iter().copied(), &[]);
        let report = FromAgent::Report(report(sequence, sequence == 1, Some(instances)));
        session.receive(report, &mut world.registry).unwrap();
    };
    send(&mut session, &mut world, 1, &[1]);
    for sequence in 2..6 {
        assert!(session.write(world.now, &mut world.registry).is_some());
        assert_eq!(session.write(world.now, &mut world.registry), None, "one at a time");
        send(&mut session, &mut world, sequence, &[1, sequence as u32]);
        session.written(Outcome::Failed, world.now, 1.0);
        assert_eq!(session.write(world.now, &mut world.registry), None, "not at once again");
        world.now.monotonic = session.wakes_at().unwrap();
    }
    assert_eq!(world.drain(&mut session).await, 1);
    assert_eq!(world.instances("n1").await, [1, 5]);
    let reported = world.said(&mut session).into_iter().find_map(|message| match message {
        FromControl::Reported(reported) => Some(reported.sequence),
        _ => None,
    });
    assert_eq!(reported, Some(5));
}

#[tokio::test]
async fn a_thousand_endpoints_come_and_go_in_bounded_writes() {
    let mut world = World::new().await;
    let mut session = world.open("n1", &[]).await;
    world.report(&mut session, report(1, true, Some(service(0..1000, &[])))).await;
    assert_eq!(world.instances("n1").await.len(), 1000);
    let none = FromAgent::Report(report(2, false, Some(service([], &[]))));
    session.receive(none, &mut world.registry).unwrap();
    let mut writes = 0;
    while let Some(write) = session.write(world.now, &mut world.registry) {
        assert!(write.len() <= 64, "{}", write.len());
        let outcome = world.commit(write).await;
        session.written(outcome, world.now, 0.5);
        writes += 1;
    }
    assert!((15..25).contains(&writes), "{writes}");
    assert_eq!((world.instances("n1").await.len(), world.tombstones().await.len()), (0, 1000));
}

#[tokio::test]
async fn r13_snapshots_wait_and_deltas_do_not() {
    let mut world = World::new().await;
    let mut owner = world.open("n1", &[]).await;
    world.report(&mut owner, report(1, true, Some(service(0..100, &[])))).await;
    world.admission = Admission::new(100, Duration::from_secs(1));
    let mut first = world.open("n2", &[("orders", 0)]).await;
    assert!(matches!(world.said(&mut first)[2], FromControl::Snapshot(_)));
    let mut second = world.open("n3", &[("orders", 0)]).await;
    let said = world.said(&mut second);
    let [_, _, FromControl::Busy { retry_after }] = said[..] else { panic!("{said:?}") };
    assert_eq!(second.wakes_at(), Some(world.now.monotonic + retry_after));
    world.report(&mut owner, report(2, false, Some(service(0..99, &[])))).await;
    let said = world.said(&mut first);
    assert!(matches!(&said[..], [FromControl::Delta(_)]), "{said:?}");
    assert_eq!(world.said(&mut second), []);
    world.now.monotonic += retry_after;
    let said = world.said(&mut second);
    let [FromControl::Snapshot(snapshot)] = &said[..] else { panic!("{said:?}") };
    assert_eq!(snapshot.endpoints.len(), 99);
}

#[tokio::test]
async fn what_a_service_is_changes_when_most_of_its_hosts_say_so() {
    let mut world = World::new().await;
    let with = |failures| ServiceReport { record: Some(record(failures)), ..service([1], &[]) };
    let is = async |world: &World| {
        let stored = world.get(Key::Service(orders())).await.unwrap();
        let stored = read_service(&stored).unwrap();
        (stored.record.map(|it| it.outlier.consecutive_failures), stored.owners.len())
    };
    let mut sessions = Vec::new();
    for name in ["n1", "n2", "n3"] {
        let mut session = world.open(name, &[]).await;
        world.report(&mut session, report(1, true, Some(with(1)))).await;
        sessions.push(session);
    }
    let [a, b, _] = &mut sessions[..] else { panic!() };
    let reported = world.report(a, report(2, false, Some(with(2)))).await;
    let told = &reported.held[0].reason;
    assert!(told.starts_with("other hosts that offer it say otherwise"), "{told}");
    assert_eq!(is(&world).await, (Some(1), 3), "one host alone changes nothing");
    let reported = world.report(b, report(2, false, Some(with(2)))).await;
    assert_eq!((reported.held.len(), is(&world).await), (0, (Some(2), 3)));
    let mut again = world.open("n3", &[]).await;
    let reported = world.report(&mut again, report(1, true, Some(with(1)))).await;
    assert_eq!((reported.held.len(), is(&world).await), (1, (Some(2), 3)), "it was away");
    // Who has nothing of it any more owns it no longer; when nobody does, it is gone.
    world.report(&mut again, report(9, false, Some(ServiceReport::default()))).await;
    assert_eq!(is(&world).await, (Some(2), 2));
    for session in [a, b] {
        world.report(session, report(9, false, Some(ServiceReport::default()))).await;
    }
    assert_eq!(is(&world).await, (None, 0));
}

#[tokio::test]
async fn endpoints_that_are_not_on_their_host_are_refused_and_the_rest_is_taken() {
    let mut world = World::new().await;
    crate::networks::open(&world.store, None).await.unwrap();
    let batch = world.batch().await;
    world.registry.apply(batch);
    let mut session = world.open("n1", &[]).await;
    let at = |address: [u8; 4], zone: &str| {
        let mut endpoint = service([1], &[]).endpoints.remove(&1).unwrap();
        (endpoint.address4, endpoint.zone) = (Some(address.into()), zone.parse().unwrap());
        endpoint
    };
    let with = |endpoints: Vec<(u32, Endpoint)>| ServiceReport {
        record: Some(record(3)),
        endpoints: endpoints.into_iter().collect(),
        gone: [].into(),
    };
    // In its slice, its own address, a neighbour's slice, anywhere, in another zone.
    let first = with(vec![
        (1, at([10, 111, 0, 7], "a")),
        (2, at([10, 0, 0, 1], "a")),
        (3, at([10, 111, 1, 7], "a")),
        (4, at([192, 0, 2, 1], "a")),
        (5, at([10, 111, 0, 8], "b")),
    ]);
    let reported = world.report(&mut session, report(1, true, Some(first))).await;
    let told = &reported.held[0].reason;
    assert!(
        told.starts_with("2 of its endpoints on the host are not taken (instances 3, 4)"),
        "{told}"
    );
    assert!(told.contains("said to be in another zone: other hosts know them in a"), "{told}");
    assert_eq!(world.instances("n1").await, [1, 2, 5]);
    let key = Key::Endpoints(orders(), "n1".parse().unwrap());
    let stored = read_endpoints(&world.get(key).await.unwrap()).unwrap();
    assert_eq!(stored[&5].zone.as_str(), "a");
    // One that is there stays where it is, when it is said to be where it may not.
    let moved = with(vec![(1, at([10, 111, 1, 7], "a"))]);
    let reported = world.report(&mut session, report(2, false, Some(moved))).await;
    assert_eq!((reported.held.len(), world.instances("n1").await), (1, vec![1]));

    // What had the host's own address goes when that is not its own any more.
    let own = with(vec![(1, at([10, 111, 0, 7], "a")), (2, at([10, 0, 0, 1], "a"))]);
    world.report(&mut session, report(3, false, Some(own.clone()))).await;
    let mut again = self::session("n1");
    let FromAgent::Hello(hello) = hello("n1", &[]) else { panic!() };
    let hello = Hello { address4: Some([10, 0, 0, 9].into()), ..hello };
    again.receive(FromAgent::Hello(hello), &mut world.registry).unwrap();
    world.drain(&mut again).await;
    let reported = world.report(&mut again, report(1, true, Some(own))).await;
    assert_eq!((reported.held.len(), world.instances("n1").await), (1, vec![1]));
}

/// A session of a host that says which address is its own.
fn claims(name: &str, own: [u8; 4], from: [u8; 4]) -> (Session, FromAgent) {
    let FromAgent::Hello(hello) = hello(name, &[]) else { panic!() };
    let hello = Hello { address4: Some(own.into()), ..hello };
    let member = Member { node: name.parse().unwrap(), zone: None, address: from.into() };
    (Session::new(member, settings()), FromAgent::Hello(hello))
}

/// Why it is sent away.
async fn open(world: &mut World, (mut session, hello): (Session, FromAgent)) -> String {
    session.receive(hello, &mut world.registry).unwrap();
    world.drain(&mut session).await;
    let said = world.all_said(&mut session);
    let goodbye = said.into_iter().find_map(|message| match message {
        FromControl::Goodbye { reason, .. } => Some(reason),
        _ => None,
    });
    goodbye.unwrap_or_default()
}

async fn declare_dead(world: &mut World, name: &str) {
    let key = Key::Session(name.parse().unwrap());
    let mut stored: StoredSession = read(&world.get(key.clone()).await.unwrap()).unwrap();
    stored.dead_since_ms = Some(1);
    let put = crate::store::Op::put(key.bytes(), crate::records::write(&stored));
    world.commit(Write::new(vec![put])).await;
}

#[tokio::test]
async fn a_host_does_not_get_the_address_of_another_that_is_there() {
    let mut world = World::new().await;
    // Behind a translator of addresses: it is not where it seems to be.
    assert_eq!(open(&mut world, claims("n1", [10, 0, 0, 1], [192, 0, 2, 1])).await, "");
    let told = open(&mut world, claims("n2", [10, 0, 0, 1], [10, 0, 0, 2])).await;
    assert_eq!(
        told,
        "the host says that its own address is 10.0.0.1, which is that of host n1, and it connects \
         from 10.0.0.2: give the agent its own with --address, or take the other out with `sinew \
         nodes withdraw n1`"
    );
    // It comes back with another address; then the first is free.
    assert_eq!(open(&mut world, claims("n1", [10, 0, 0, 3], [10, 0, 0, 3])).await, "");
    assert_eq!(open(&mut world, claims("n2", [10, 0, 0, 1], [10, 0, 0, 2])).await, "");
    // Who connects from it has it.
    assert_eq!(open(&mut world, claims("n3", [10, 0, 0, 1], [10, 0, 0, 1])).await, "");
    // A dead host may come back, if it was there.
    declare_dead(&mut world, "n1").await;
    let told = open(&mut world, claims("n4", [10, 0, 0, 3], [10, 0, 0, 4])).await;
    assert!(told.contains("which is that of host n1"), "{told}");
    assert_eq!(open(&mut world, claims("n4", [10, 0, 0, 3], [10, 0, 0, 3])).await, "");
    // And one that only said so has nothing to come back to.
    assert_eq!(open(&mut world, claims("n5", [10, 0, 0, 5], [10, 0, 0, 6])).await, "");
    declare_dead(&mut world, "n5").await;
    assert_eq!(open(&mut world, claims("n6", [10, 0, 0, 5], [10, 0, 0, 7])).await, "");
}

#[tokio::test]
async fn an_address_is_proven_by_the_host_that_came_from_it_last() {
    let mut world = World::new().await;
    let told = async |world: &mut World, name: &str| {
        let mut observer = world.open("observer", &[]).await;
        let hosts = world.all_said(&mut observer).into_iter().find_map(|message| match message {
            FromControl::Hosts(hosts) => Some(hosts),
            _ => None,
        });
        hosts.unwrap().put.remove(&name.parse::<NodeName>().unwrap()).unwrap()
    };
    // A database, say, whose clients are to lose nothing when n1 dies.
    open(&mut world, claims("n1", [10, 0, 0, 9], [10, 0, 0, 5])).await;
    let n1 = told(&mut world, "n1").await;
    assert_eq!((n1.address4, n1.proven().count()), (Some([10, 0, 0, 9].into()), 0));
    open(&mut world, claims("n2", [10, 0, 0, 2], [10, 0, 0, 2])).await;
    let own = |host: &Host| host.proven().collect::<Vec<_>>();
    assert_eq!(own(&told(&mut world, "n2").await), [IpAddr::from([10, 0, 0, 2])]);
    // By another way it is still its own, and no longer when another comes from there.
    open(&mut world, claims("n2", [10, 0, 0, 2], [192, 0, 2, 2])).await;
    assert_eq!(own(&told(&mut world, "n2").await), [IpAddr::from([10, 0, 0, 2])]);
    declare_dead(&mut world, "n2").await;
    open(&mut world, claims("n3", [10, 0, 0, 2], [10, 0, 0, 2])).await;
    assert!(own(&told(&mut world, "n2").await).is_empty());
    assert_eq!(own(&told(&mut world, "n3").await), [IpAddr::from([10, 0, 0, 2])]);
    // Who is told that n2 is dead knows by then what is not its own.
    let mut late = world.open("late", &[]).await;
    let said = world.all_said(&mut late);
    let at = |is: fn(&FromControl) -> bool| said.iter().position(is).unwrap();
    let dead = at(|message| matches!(message, FromControl::Dead { .. }));
    assert!(at(|message| matches!(message, FromControl::Hosts(_))) < dead, "{said:?}");
}

#[tokio::test]
async fn a_lost_session_says_since_when() {
    let mut world = World::new().await;
    let mut session = world.open("n1", &[]).await;
    let write = session.lost(world.now, Duration::from_secs(2), &mut world.registry).unwrap();
    assert!(matches!(world.commit(write).await, Outcome::Done(_)));
    let stored = world.get(Key::Session("n1".parse().unwrap())).await.unwrap();
    let stored: StoredSession = read(&stored).unwrap();
    assert_eq!((stored.epoch, stored.lost_since_ms), (1, Some(1_000_000)));
    assert_eq!(stored.silent_ms, 2_000);
}

#[tokio::test]
async fn who_is_not_who_it_says_is_refused() {
    let mut world = World::new().await;
    let mut refused = |message: FromAgent| {
        session("n1").receive(message, &mut world.registry).unwrap_err().to_string()
    };
    assert_eq!(refused(hello("n2", &[])), "hello.node is n2, and the certificate is that of n1");
    let FromAgent::Hello(other) = hello("n1", &[]) else { panic!() };
    assert_eq!(
        refused(FromAgent::Hello(Hello { protocol: 9, ..other })),
        "the agent is Sinew 0.1.0 and speaks protocol version 9, and this is 1: bring both to \
         versions that are next to each other"
    );
    assert_eq!(refused(FromAgent::Subscribe(Vec::new())), Refused::Hello.to_string());
}

#[tokio::test]
async fn r3_the_cap_counts_across_sessions() {
    let mut world = World::new().await;
    let mut session = world.open("n1", &[]).await;
    world.report(&mut session, report(1, true, Some(service(0..30, &[])))).await;
    let lacks = async |world: &mut World, from: u32| {
        let mut again = world.open("n1", &[]).await;
        let reported =
            world.report(&mut again, report(1, true, Some(service(from..30, &[])))).await;
        (reported.held.len(), world.instances("n1").await.len())
    };
    assert_eq!(lacks(&mut world, 2).await, (0, 28));
    assert_eq!(lacks(&mut world, 4).await, (1, 28), "4 of 30 are more than the cap");
    assert_eq!(lacks(&mut world, 3).await, (0, 27));
    world.now.wall += Duration::from_secs(11);
    assert_eq!(lacks(&mut world, 5).await, (0, 25), "another interval");
}

#[tokio::test]
async fn hosts_that_are_declared_dead_are_told_to_all_sessions() {
    let mut world = World::new().await;
    let mut early = world.open("n1", &[]).await;
    world.said(&mut early);
    let n2 = world.open("n2", &[]).await;
    let key = Key::Session("n2".parse().unwrap());
    let mut stored: StoredSession = read(&world.get(key.clone()).await.unwrap()).unwrap();
    stored.dead_since_ms = Some(1);
    let put = crate::store::Op::put(key.bytes(), crate::records::write(&stored));
    world.commit(Write::new(vec![put])).await;
    let dead = FromControl::Dead { node: "n2".parse().unwrap() };
    assert_eq!(world.said(&mut early), std::slice::from_ref(&dead));
    assert_eq!(world.said(&mut early), [], "once");
    let mut late = world.open("n3", &[]).await;
    assert!(world.said(&mut late).contains(&dead));
    // What is left of its session has ended.
    let mut n2 = n2;
    let said = world.said(&mut n2);
    let [FromControl::Goodbye { reason, .. }] = &said[..] else { panic!("{said:?}") };
    assert!(reason.contains("declared dead"), "{reason}");
    world.open("n2", &[]).await;
    let mut later = world.open("n4", &[]).await;
    assert!(!world.said(&mut later).contains(&dead), "it is back");
}

fn node(world: &World, name: &str) -> crate::records::StoredNode {
    world.registry.node(&name.parse().unwrap()).1.unwrap().clone()
}

#[tokio::test]
async fn hosts_get_slices_that_they_keep_and_are_told_of_each_other() {
    let mut world = World::new().await;
    let networks = crate::networks::open(&world.store, None).await.unwrap();
    let batch = world.batch().await;
    world.registry.apply(batch);
    let mut first = world.open("n1", &[]).await;
    let said = world.all_said(&mut first);
    let [FromControl::Welcome(welcome), FromControl::Hosts(hosts), _, FromControl::Zones(zones)] =
        &said[..]
    else {
        panic!("{said:?}")
    };
    let (four, six) = networks.slices(0).unwrap();
    assert_eq!((welcome.instances4, welcome.instances6), (Some(four), Some(six)));
    assert_eq!((hosts.from, hosts.put.len(), zones.limited.len()), (None, 1, 0));
    // Who tells no address of its own has the one that it connects from.
    assert_eq!(node(&world, "n1").address4, Some([10, 0, 0, 1].into()));

    // Two that open at once, and of which one does not get through at first.
    let (mut second, hello2) = claims("n2", [10, 0, 0, 2], [10, 0, 0, 2]);
    let (mut third, hello3) = claims("n3", [10, 0, 0, 3], [10, 0, 0, 3]);
    for (session, hello) in [(&mut second, hello2), (&mut third, hello3)] {
        session.receive(hello, &mut world.registry).unwrap();
    }
    let writes = [&mut second, &mut third]
        .map(|session| session.write(world.now, &mut world.registry).unwrap());
    assert!(writes[0].fits(&writes[1]), "they want different slices");
    for (session, write) in [&mut second, &mut third].into_iter().zip(writes) {
        let outcome = world.commit(write).await;
        assert!(matches!(outcome, Outcome::Done(_)));
        session.written(outcome, world.now, 0.5);
    }
    assert_eq!(node(&world, "n3").instances4, networks.slices(2).map(|(four, _)| four));
    let said = world.all_said(&mut first);
    let [FromControl::Hosts(hosts)] = &said[..] else { panic!("{said:?}") };
    assert!(hosts.from.is_some() && hosts.put.len() == 2);

    let mut again = world.open("n1", &[]).await;
    let FromControl::Welcome(welcome) = &world.all_said(&mut again)[0] else { panic!() };
    assert_eq!(welcome.instances4, Some(four));
    let given = crate::networks::open(&world.store, Some("10.9.0.0/16".parse().unwrap())).await;
    let told = given.unwrap_err().to_string();
    assert!(told.contains("it cannot become 10.9.0.0/16 any more"), "{told}");
}

#[tokio::test]
async fn a_host_whose_address_is_an_instances_is_sent_away_and_so_are_hosts_without_room() {
    let mut world = World::new().await;
    let small = "10.0.0.0/22".parse().unwrap();
    crate::networks::open(&world.store, Some(small)).await.unwrap();
    let batch = world.batch().await;
    world.registry.apply(batch);
    let goodbye = |world: &mut World, session: &mut Session| {
        assert_eq!(session.write(world.now, &mut world.registry), None);
        let said = world.all_said(session);
        let [FromControl::Goodbye { reason, .. }] = &said[..] else { panic!("{said:?}") };
        reason.clone()
    };
    let mut inside = session("n1");
    inside.receive(hello("n1", &[]), &mut world.registry).unwrap();
    let told = goodbye(&mut world, &mut inside);
    assert!(told.starts_with("the host's own address 10.0.0.1 is one of"), "{told}");
    let outside = |name: &str, n: u8| {
        let FromAgent::Hello(hello) = hello(name, &[]) else { panic!() };
        FromAgent::Hello(Hello { address4: Some([10, 9, 0, n].into()), ..hello })
    };
    for n in 0..4 {
        let name = format!("n{n}");
        let mut session = session(&name);
        session.receive(outside(&name, n), &mut world.registry).unwrap();
        assert_eq!(world.drain(&mut session).await, 1);
    }
    let mut fifth = session("n9");
    fifth.receive(outside("n9", 9), &mut world.registry).unwrap();
    let told = goodbye(&mut world, &mut fifth);
    assert!(told.contains("10.0.0.0/22 has 4 slices, and all are given"), "{told}");
}

#[tokio::test]
async fn zones_with_less_than_their_share_are_told_when_that_changes() {
    let mut world = World::new().await;
    let mut session = world.open("n1", &[]).await;
    world.all_said(&mut session);
    let key = Key::Zone("a".parse().unwrap());
    let zone = r#"{"percent":20,"since_ms":1}"#;
    for (op, limited) in [
        (crate::store::Op::put(key.bytes(), zone), vec![20]),
        (crate::store::Op::delete(key.bytes()), vec![]),
    ] {
        world.store.commit(crate::store::Transaction::new().then(op)).await.unwrap();
        let batch = world.batch().await;
        assert_eq!(world.registry.apply(batch).len(), 1, "it is woken");
        let said = world.all_said(&mut session);
        let [FromControl::Zones(zones)] = &said[..] else { panic!("{said:?}") };
        assert_eq!(zones.limited.values().copied().collect::<Vec<_>>(), limited);
    }
}

#[tokio::test]
async fn a_host_that_reports_without_end_loses_its_session() {
    let mut world = World::new().await;
    let mut many = world.open("n1", &[]).await;
    let mut other = world.open("n2", &[]).await;
    let named = |from: u32| {
        let all = (from..from + 5000).map(|n| format!("s{n}").parse().unwrap());
        let services = all.map(|name: ServiceName| (name, service([0], &[]))).collect();
        FromAgent::Report(Report { sequence: 1, full: false, services })
    };
    let gone = |from: u32| {
        let gone: Vec<u32> = (from..from + 1000).collect();
        FromAgent::Report(report(1, false, Some(service([0], &gone))))
    };
    let mut ended = |session: &mut Session, say: &dyn Fn(u32) -> FromAgent| {
        let said = (0..100).map(|n| session.receive(say(n * 5000), &mut world.registry));
        said.into_iter().find_map(Result::err).map(|refused| refused.to_string())
    };
    let told = ended(&mut many, &named).unwrap();
    assert!(told.starts_with("the agent reports 20000 services with"), "{told}");
    let told = ended(&mut other, &gone).unwrap();
    assert!(told.contains("at most 16384 with 65536 are taken of a host"), "{told}");
}

#[tokio::test]
async fn who_says_again_what_a_service_is_writes_nothing() {
    let mut world = World::new().await;
    let with = |failures| ServiceReport { record: Some(record(failures)), ..service([1], &[]) };
    let mut sessions = Vec::new();
    for (name, failures) in [("n1", 1), ("n2", 1), ("n3", 1), ("n4", 2), ("n5", 3)] {
        let mut session = world.open(name, &[]).await;
        world.report(&mut session, report(1, true, Some(with(failures)))).await;
        sessions.push((session, failures));
    }
    for (session, failures) in &mut sessions {
        let again = FromAgent::Report(report(2, false, Some(with(*failures))));
        session.receive(again, &mut world.registry).unwrap();
        assert_eq!(world.drain(session).await, 0, "{failures}");
    }
}
