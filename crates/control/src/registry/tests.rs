//! The registry against a store that is written by the rules, and readers of every kind.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use sinew_model::{
    Balance, NodeName, Outlier, ServiceName,
    fleet::{
        Delta, Endpoint, EndpointKey, EndpointStatus, Generation, Removal, ServiceRecord, Snapshot,
    },
};
use sinew_proto::FromControl;

use super::{Registry, SubscriberId, Update};
use crate::{
    records::{
        Key, StoredEndpoints, StoredService, StoredSweep, StoredTombstone, read_endpoints, write,
    },
    store::{Batch, Entry, Event, Revision},
};

const SERVICES: u8 = 3;
const NODES: u8 = 3;

fn service(n: u8) -> ServiceName {
    ServiceName::new(format!("s{n}")).unwrap()
}

fn node(n: u8) -> NodeName {
    NodeName::new(format!("n{n}")).unwrap()
}

fn endpoint(weight: u32) -> Endpoint {
    Endpoint {
        address4: Some([10, 0, 0, 1].into()),
        address6: None,
        ports: BTreeMap::new(),
        zone: "a".parse().unwrap(),
        weight,
        status: EndpointStatus::Up,
    }
}

fn record(failures: u32) -> ServiceRecord {
    let outlier = Outlier { consecutive_failures: failures, ..Outlier::default() };
    ServiceRecord { ports: Vec::new(), balance: Balance::default(), outlier }
}

/// A store, as far as the registry sees it.
#[derive(Default)]
struct Stored {
    revision: u64,
    entries: BTreeMap<Bytes, Entry>,
}

impl Stored {
    fn commit(&mut self, changes: Vec<(Key, Option<Bytes>)>) -> Option<Batch> {
        let revision = Revision(self.revision.max(1) + 1);
        let mut events = Vec::new();
        for (key, value) in changes {
            let key = key.bytes();
            let Some(value) = value else {
                if self.entries.remove(&key).is_some() {
                    events.push(Event::Delete(key));
                }
                continue;
            };
            let (create_revision, mod_revision) = (revision, revision);
            let key_of = key.clone();
            let entry =
                Entry { key, value, create_revision, mod_revision, version: 1, lease: None };
            self.entries.insert(key_of, entry.clone());
            events.push(Event::Put(entry));
        }
        if events.is_empty() {
            return None;
        }
        self.revision = revision.0;
        Some(Batch { revision, events })
    }

    fn endpoints(&self, service: &ServiceName, node: &NodeName) -> StoredEndpoints {
        let key = Key::Endpoints(service.clone(), node.clone()).bytes();
        let entry = self.entries.get(&key);
        entry.map(|entry| read_endpoints(&entry.value).unwrap()).unwrap_or_default()
    }

    /// Sets what a host has, as the control plane does.
    fn set(
        &mut self,
        service: &ServiceName,
        node: &NodeName,
        new: &StoredEndpoints,
        told: bool,
    ) -> Option<Batch> {
        let old = self.endpoints(service, node);
        let tombstone = |instance: &u32| {
            Key::Tombstone(service.clone(), EndpointKey { node: node.clone(), instance: *instance })
        };
        let value = (!new.is_empty()).then(|| write(new));
        let mut changes = vec![(Key::Endpoints(service.clone(), node.clone()), value)];
        let removal =
            write(&StoredTombstone { removal: Removal::Reported, at_ms: 0, capped: false });
        for instance in old.keys().filter(|it| told && !new.contains_key(it)) {
            changes.push((tombstone(instance), Some(removal.clone())));
        }
        changes.extend(new.keys().map(|instance| (tombstone(instance), None)));
        self.commit(changes)
    }

    /// Deletes tombstones of a service, the oldest half, and says so.
    fn sweep(&mut self, service: &ServiceName) -> Option<Batch> {
        let prefix = format!("sinew/tombstones/{service}/");
        let of = |entry: &&Entry| entry.key.starts_with(prefix.as_bytes());
        let mut all: Vec<Entry> = self.entries.values().filter(of).cloned().collect();
        all.sort_by_key(|entry| entry.mod_revision);
        all.truncate(all.len().div_ceil(2));
        let generation = Generation(all.last()?.mod_revision.0);
        let key = |entry: &Entry| Key::parse(&entry.key).unwrap().unwrap();
        let mut changes: Vec<_> = all.iter().map(|entry| (key(entry), None)).collect();
        let sweep = write(&StoredSweep { generation });
        changes.push((Key::Swept(service.clone()), Some(sweep)));
        self.commit(changes)
    }

    fn list(&self) -> (Revision, Vec<Entry>) {
        (Revision(self.revision.max(1)), self.entries.values().cloned().collect())
    }

    /// What everybody has to end with.
    fn truth(&self, service: &ServiceName) -> Known {
        let stored = self.entries.get(&Key::Service(service.clone()).bytes());
        let stored: Option<StoredService> =
            stored.map(|entry| serde_json::from_slice(&entry.value).unwrap());
        let of_node = |n| {
            let node = node(n);
            let placed = self.endpoints(service, &node).into_iter();
            placed.map(move |(instance, endpoint)| {
                (EndpointKey { node: node.clone(), instance }, endpoint)
            })
        };
        let endpoints = (0..NODES).flat_map(of_node).collect();
        Known { record: stored.and_then(|stored| stored.record), endpoints }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    record: Option<ServiceRecord>,
    endpoints: BTreeMap<EndpointKey, Endpoint>,
}

/// An agent: takes what it is told when it wants to.
#[derive(Default)]
struct Reader {
    id: Option<SubscriberId>,
    known: BTreeMap<ServiceName, (Generation, Known)>,
}

impl Reader {
    fn connect(&mut self, registry: &mut Registry) {
        if let Some(old) = self.id.take() {
            registry.leave(old);
        }
        let id = registry.join("n".parse().unwrap());
        for service in (0..SERVICES).map(service) {
            let has = self.known.get(&service).map_or(Generation(0), |(generation, _)| *generation);
            registry.subscribe(id, &service, has);
        }
        self.id = Some(id);
    }

    /// Takes at most so many updates; whether there was no more.
    fn read(&mut self, registry: &mut Registry, most: usize) -> bool {
        let id = self.id.unwrap();
        for _ in 0..most {
            let Some(frame) = registry.take_update(id, |_| true) else { return true };
            match FromControl::decode(frame.bytes).unwrap() {
                FromControl::Snapshot(snapshot) => self.snapshot(snapshot),
                FromControl::Delta(delta) => self.delta(delta),
                other => panic!("{other:?}"),
            }
        }
        false
    }

    fn snapshot(&mut self, snapshot: Snapshot) {
        let Snapshot { service, generation, record, endpoints, tombstones } = snapshot;
        assert!(endpoints.keys().all(|key| !tombstones.contains_key(key)));
        let held = self.known.entry(service).or_default();
        assert!(generation > held.0, "{generation} after {}", held.0);
        *held = (generation, Known { record, endpoints });
    }

    fn delta(&mut self, delta: Delta) {
        let held = self.known.get_mut(&delta.service).unwrap();
        assert_eq!(delta.from, held.0, "a delta applies to what is there");
        assert!(delta.to > held.0);
        held.0 = delta.to;
        if let Some(record) = delta.record {
            held.1.record = Some(record);
        }
        for key in delta.removed.keys() {
            held.1.endpoints.remove(key);
        }
        held.1.endpoints.extend(delta.put);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set {
        service: u8,
        node: u8,
        instances: Vec<(u32, u32)>,
        told: bool,
    },
    Record {
        service: u8,
        record: Option<u32>,
    },
    Sweep {
        service: u8,
    },
    /// The watch lost its place: nothing is heard until the next list.
    Deaf,
    List,
    Restart,
    Read {
        reader: usize,
        most: usize,
    },
    Reconnect {
        reader: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let instances = vec((0..4u32, 1..4u32), 0..4);
    prop_oneof![
        8 => (0..SERVICES, 0..NODES, instances, prop::bool::weighted(0.9)).prop_map(
            |(service, node, instances, told)| Step::Set { service, node, instances, told }),
        2 => (0..SERVICES, prop::option::weighted(0.8, 1..4u32))
            .prop_map(|(service, record)| Step::Record { service, record }),
        2 => (0..SERVICES).prop_map(|service| Step::Sweep { service }),
        1 => Just(Step::Deaf),
        1 => Just(Step::List),
        1 => Just(Step::Restart),
        5 => (0..3usize, 1..4usize).prop_map(|(reader, most)| Step::Read { reader, most }),
        2 => (0..3usize).prop_map(|reader| Step::Reconnect { reader }),
    ]
}

struct World {
    stored: Stored,
    registry: Registry,
    readers: [Reader; 3],
    deaf: bool,
    /// Whether all is written by the rules: only then can control restart without a loss.
    lawful: bool,
}

impl World {
    fn new(lawful: bool) -> Self {
        let mut world = Self {
            stored: Stored::default(),
            registry: Registry::default(),
            readers: Default::default(),
            deaf: false,
            lawful,
        };
        world.list();
        for reader in &mut world.readers {
            reader.connect(&mut world.registry);
        }
        world
    }

    fn list(&mut self) {
        let (revision, entries) = self.stored.list();
        self.registry.list(revision, entries);
        self.deaf = false;
    }

    fn hear(&mut self, batch: Option<Batch>) {
        if let Some(batch) = batch.filter(|_| !self.deaf) {
            self.registry.apply(batch);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Set { service: s, node: n, instances, told } => {
                let new = instances.into_iter().map(|(it, weight)| (it, endpoint(weight)));
                let told = told || self.lawful;
                let batch = self.stored.set(&service(s), &node(n), &new.collect(), told);
                self.hear(batch);
            }
            Step::Record { service: s, record: failures } => {
                let stored =
                    StoredService { record: failures.map(record), ..StoredService::default() };
                let key = Key::Service(service(s));
                let batch = self.stored.commit(vec![(key, Some(write(&stored)))]);
                self.hear(batch);
            }
            Step::Sweep { service: s } => {
                let batch = self.stored.sweep(&service(s));
                self.hear(batch);
            }
            Step::Deaf => self.deaf = true,
            Step::List => self.list(),
            Step::Restart if self.lawful => {
                self.registry = Registry::default();
                self.list();
                self.readers.iter_mut().for_each(|reader| reader.connect(&mut self.registry));
            }
            Step::Restart => (),
            Step::Read { reader, most } => {
                self.readers[reader].read(&mut self.registry, most);
            }
            Step::Reconnect { reader } => self.readers[reader].connect(&mut self.registry),
        }
    }

    fn end(mut self) {
        if self.deaf {
            self.list();
        }
        for reader in &mut self.readers {
            assert!(reader.read(&mut self.registry, 1000));
            for service in (0..SERVICES).map(service) {
                let (generation, known) = &reader.known[&service];
                assert_eq!(*known, self.stored.truth(&service), "{service} at {generation}");
                assert_eq!(self.registry.update(&service, *generation), None);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_reader_ends_with_what_the_store_has(
        lawful in any::<bool>(),
        steps in vec(step(), 1..60),
    ) {
        let mut world = World::new(lawful);
        steps.into_iter().for_each(|step| world.step(step));
        world.end();
    }
}

/// One service with that endpoint in it, at revision 2.
fn one() -> (Stored, Registry) {
    let (mut stored, mut registry) = (Stored::default(), Registry::default());
    registry.list(Revision(1), Vec::new());
    let endpoints = [(1, endpoint(1))].into();
    registry.apply(stored.set(&service(0), &node(0), &endpoints, true).unwrap());
    (stored, registry)
}

#[test]
fn r11_a_value_of_no_use_is_told_and_the_last_good_one_stays() {
    let (mut stored, mut registry) = one();
    let key = Key::Endpoints(service(0), node(0));
    let poison = stored.commit(vec![(key.clone(), Some("{".into()))]).unwrap();
    assert_eq!(registry.apply(poison), []);
    let (told, why) = registry.poisoned().next().unwrap();
    assert_eq!((told, why.to_string().is_empty()), (&key.bytes(), false));
    assert_eq!(registry.update(&service(0), Generation(2)), None);
    assert_eq!(registry.endpoints(&service(0)), 1);
    // Who replaces it compares with what is there.
    assert_eq!(registry.of_node(&service(0), &node(0)).revision, Revision(3));
    let endpoints = write(&StoredEndpoints::from([(1, endpoint(2))]));
    registry.apply(stored.commit(vec![(key, Some(endpoints))]).unwrap());
    assert_eq!(registry.poisoned().next(), None);
    let Some(Update::Delta(delta)) = registry.update(&service(0), Generation(2)) else { panic!() };
    assert_eq!((delta.to, delta.put.len()), (Generation(4), 1));
}

#[test]
fn a_slow_reader_costs_what_it_subscribes_to_and_gets_the_newest() {
    let (mut stored, mut registry) = one();
    let (slow, fast) = (registry.join("n".parse().unwrap()), registry.join("n".parse().unwrap()));
    registry.subscribe(slow, &service(0), Generation(2));
    registry.subscribe(fast, &service(0), Generation(2));
    let take = |registry: &mut Registry, id| registry.take_update(id, |_| true);
    for id in [slow, fast] {
        assert!(registry.take_catalog(id).is_some() && registry.take_hosts(id).is_some());
        assert!(registry.take_zones(id).is_some() && registry.take_zones(id).is_none());
    }
    assert_eq!((take(&mut registry, slow), take(&mut registry, fast)), (None, None));
    for weight in 2..1000 {
        let batch = stored.set(&service(0), &node(0), &[(1, endpoint(weight))].into(), true);
        let woken = registry.apply(batch.unwrap());
        // The slow one is woken once, and is not told again that it is behind.
        assert_eq!(woken.contains(&slow), weight == 2);
        assert!(woken.contains(&fast) && take(&mut registry, fast).is_some());
    }
    let frame = take(&mut registry, slow).unwrap();
    let Ok(FromControl::Delta(delta)) = FromControl::decode(frame.bytes) else { panic!() };
    assert_eq!((delta.from, delta.to), (Generation(2), Generation(1000)));
    assert_eq!(delta.put.values().map(|it| it.weight).collect::<Vec<_>>(), [999]);
    assert_eq!(take(&mut registry, slow), None);
}

#[test]
fn what_is_refused_waits_and_is_the_newest_when_it_comes() {
    let (mut stored, mut registry) = one();
    let id = registry.join("n".parse().unwrap());
    registry.take_catalog(id);
    registry.subscribe(id, &service(0), Generation(0));
    registry.subscribe(id, &service(1), Generation(1));
    assert_eq!(registry.take_update(id, |frame| !frame.snapshot), None);
    registry.apply(stored.set(&service(0), &node(1), &[(1, endpoint(1))].into(), true).unwrap());
    registry.apply(stored.set(&service(1), &node(1), &[(1, endpoint(1))].into(), true).unwrap());
    let delta = registry.take_update(id, |frame| !frame.snapshot).unwrap();
    assert_eq!((delta.service, delta.snapshot), (service(1), false));
    assert_eq!(registry.take_update(id, |_| true), None);
    registry.resume(id);
    let snapshot = registry.take_update(id, |_| true).unwrap();
    assert_eq!((snapshot.service, snapshot.generation), (service(0), Generation(3)));
}

#[test]
fn one_encoding_serves_all_who_keep_up() {
    let (_, mut registry) = one();
    let first = registry.frame(&service(0), Generation(0)).unwrap();
    let second = registry.frame(&service(0), Generation(0)).unwrap();
    assert_eq!(first.bytes.as_ptr(), second.bytes.as_ptr());
}

#[test]
fn who_knows_more_than_the_store_gets_everything() {
    let (_, registry) = one();
    let rewound = registry.update(&service(0), Generation(1000));
    assert!(matches!(rewound, Some(Update::Snapshot(it)) if it.generation == Generation(2)));
}
