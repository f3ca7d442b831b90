//! The duty over an embedded store: what it declares and removes when, against a naive model.

mod forgetting;
mod liveness;
mod people;
mod placing;
mod removal;

use std::time::Duration;

use futures_util::StreamExt as _;
use sinew_model::{
    NodeName, ServiceName,
    fleet::{Endpoint, EndpointStatus, Generation},
};

use super::{Act, Duty, history::Entry, plan::Plan};
use crate::{
    records::{Key, StoredEndpoints, StoredSession, StoredTombstone, read, write},
    registry::Registry,
    session::{Now, milliseconds},
    store::{
        Embedded, ManualClock, Op, Range, Span, Store, Transaction, Update, Watch,
        embedded::Options,
    },
};

/// A replica that may have the duty, over its own store.
pub(super) struct World {
    pub(super) store: Embedded,
    pub(super) registry: Registry,
    watch: Watch,
    pub(super) now: Now,
    pub(super) duty: Duty,
}

pub(super) fn node(name: &str) -> NodeName {
    name.parse().unwrap()
}

pub(super) fn service(name: &str) -> ServiceName {
    name.parse().unwrap()
}

pub(super) fn endpoint(zone: &str) -> Endpoint {
    Endpoint {
        address4: Some([10, 0, 0, 1].into()),
        address6: None,
        ports: Default::default(),
        zone: zone.parse().unwrap(),
        weight: 256,
        status: EndpointStatus::Up,
    }
}

impl World {
    pub(super) async fn new() -> Self {
        let clock = std::sync::Arc::new(ManualClock::default());
        let store = Embedded::in_memory(Options::default(), clock).await.unwrap();
        let watch = store.watch(Span::prefix("sinew/"), None).await.unwrap();
        let now = Now { monotonic: Duration::from_secs(100), wall: Duration::from_secs(10_000) };
        let registry = Registry::default();
        let mut world = Self { store, registry, watch, now, duty: Duty::new(now) };
        for control in ["c1", "c2"] {
            world.put(Key::Control(control.to_owned()), &()).await;
        }
        world
    }

    pub(super) async fn commit(&mut self, transaction: Transaction) -> bool {
        let committed = self.store.commit(transaction).await.unwrap();
        while self.registry.revision() < committed.revision {
            if let Update::Batch(batch) = self.watch.next().await.unwrap().unwrap() {
                self.registry.apply(batch);
            }
        }
        committed.succeeded
    }

    pub(super) async fn put<T: serde::Serialize>(&mut self, key: Key, value: &T) {
        self.commit(Transaction::put(key.bytes(), write(value))).await;
    }

    pub(super) async fn delete(&mut self, key: Key) {
        self.commit(Transaction::new().then(Op::delete(key.bytes()))).await;
    }

    /// A session begins at a replica.
    pub(super) async fn open(&mut self, name: &str, control: &str) {
        let epoch = self.registry.session(&node(name)).1.map_or(1, |it| it.epoch + 1);
        let session = StoredSession {
            control: control.to_owned(),
            epoch,
            since_ms: milliseconds(self.now.wall),
            lost_since_ms: None,
            silent_ms: 0,
            dead_since_ms: None,
            withdrawn: false,
        };
        self.put(Key::Session(node(name)), &session).await;
    }

    /// It ends, after so long a silence.
    pub(super) async fn lose(&mut self, name: &str, silent: Duration) {
        let mut session = self.registry.session(&node(name)).1.unwrap().clone();
        session.lost_since_ms = Some(milliseconds(self.now.wall));
        session.silent_ms = milliseconds(silent);
        self.put(Key::Session(node(name)), &session).await;
    }

    /// A host has so many endpoints of a service.
    pub(super) async fn run(&mut self, name: &str, zone: &str, of: &str, number: u32) {
        let endpoints: StoredEndpoints = (0..number).map(|it| (it, endpoint(zone))).collect();
        self.put(Key::Endpoints(service(of), node(name)), &endpoints).await;
    }

    /// Time passes, and the duty looks as often as it does. Answers what it did, in words.
    pub(super) async fn pass(&mut self, time: Duration) -> Vec<String> {
        let step = Duration::from_millis(250);
        let end = self.now.monotonic + time;
        let mut done = Vec::new();
        loop {
            self.act(&mut done).await;
            if self.now.monotonic >= end {
                return done;
            }
            let by = step.min(end - self.now.monotonic);
            self.now.monotonic += by;
            self.now.wall += by;
        }
    }

    async fn act(&mut self, done: &mut Vec<String>) {
        while let Some(act) = self.duty.next(self.now, &self.registry) {
            let transaction = match act {
                Act::Plan(plan) => {
                    done.push(plan.words.clone());
                    super::history::recorded(&plan, "duty", self.now, None)
                }
                Act::Sweep(transaction) => transaction,
            };
            assert!(self.commit(transaction).await);
        }
    }

    /// A person does something.
    pub(super) async fn does(&mut self, plan: &Plan) {
        let transaction = super::history::recorded(plan, "me", self.now, None);
        assert!(self.commit(transaction).await);
    }

    pub(super) async fn history(&self) -> Vec<Entry> {
        let range = Range::of(Span::prefix("sinew/history/"));
        let entries = self.store.range(range).await.unwrap().entries;
        entries.iter().map(|entry| super::history::read(entry).unwrap()).collect()
    }

    pub(super) fn dead(&self) -> Vec<&str> {
        let dead = self.registry.sessions().filter(|(node, ..)| self.registry.is_dead(node));
        dead.map(|(node, ..)| node.as_str()).collect()
    }
}

pub(super) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn tombstones_are_swept_by_age_and_by_number() {
    let mut world = World::new().await;
    let grave = |instance: u32| {
        let endpoint = sinew_model::fleet::EndpointKey { node: node("a"), instance };
        Key::Tombstone(service("orders"), endpoint)
    };
    let removal = sinew_model::fleet::Removal::Reported;
    world.pass(s(1)).await;
    let at_ms = milliseconds(world.now.wall);
    for instance in 0..1200 {
        // Two of them count against the cap.
        let stored = StoredTombstone { removal, at_ms, capped: instance < 2 };
        world.put(grave(instance), &stored).await;
    }
    let newest = world.registry.revision();
    let left = |world: &World| -> Vec<u32> {
        world.registry.graves(&service("orders")).map(|grave| grave.key.instance).collect()
    };
    world.pass(s(9)).await;
    let kept = left(&world);
    assert_eq!((kept.len(), kept[..3].to_vec()), (1026, vec![0, 1, 176]), "of 1024 beside the two");
    world.pass(s(10)).await;
    assert_eq!((left(&world).len(), left(&world)[0]), (1024, 176));
    world.pass(s(3540)).await;
    assert_eq!(left(&world).len(), 1024);
    world.pass(s(60)).await;
    assert_eq!(left(&world).len(), 0);
    assert_eq!(world.registry.swept(&service("orders")), Generation(newest.0));
    let key = Key::Swept(service("orders")).bytes();
    let stored = world.store.range(Range::of(Span::key(key))).await.unwrap();
    let sweep: crate::records::StoredSweep = read(&stored.entries[0].value).unwrap();
    assert_eq!(sweep.generation, Generation(newest.0), "who knows less is told everything");
}

#[tokio::test]
async fn r09_while_removals_are_paused_nothing_is_removed() {
    use crate::records::config::{Pausable, StoredPause};
    for what in [Pausable::Removals, Pausable::All] {
        let mut world = World::new().await;
        for name in ["a", "b", "c"] {
            world.open(name, "c1").await;
            world.run(name, "z", "orders", 2).await;
        }
        let pause = StoredPause { by: "me".to_owned(), reason: String::new(), since_ms: 1 };
        world.put(Key::Pause(what), &pause).await;
        world.lose("a", s(5)).await;
        assert_eq!(world.pass(s(60)).await, [""; 0]);
        // Another replica takes the duty: it is paused too.
        world.duty = Duty::new(world.now);
        assert_eq!(world.pass(s(60)).await, [""; 0]);
        world.delete(Key::Pause(what)).await;
        world.pass(s(1)).await;
        assert_eq!(world.dead(), ["a"]);
        assert_eq!(world.registry.endpoints(&service("orders")), 4);
    }
}

#[tokio::test]
async fn r16_what_is_nearly_full_is_told() {
    let mut world = World::new().await;
    let limits = crate::records::config::Limits { service_endpoints: 10, ..Default::default() };
    world.put(Key::Limits, &limits).await;
    world.run("a", "z", "orders", 7).await;
    assert_eq!(super::capacity::nearly_full(world.now, &world.registry), []);
    world.run("b", "z", "orders", 1).await;
    let told: Vec<_> = super::capacity::nearly_full(world.now, &world.registry);
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        ["8 of 10 endpoints of service orders: no more are taken at 10; see `sinew limits`"]
    );
}
