//! What is known of one service, and what is in doubt of it.
//!
//! What its own host or somebody's hand took out goes at once. All else that control says is gone,
//! by name or by silence, goes by a share at a time: at once only as long as the share suffices and
//! a reason was named, later only on the word of a snapshot that still says so an interval after.
//! One dead host an interval goes whole, while another host serves.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use sinew_model::{
    NodeName, ServiceName,
    fleet::{
        Delta, Endpoint, EndpointKey, EndpointStatus, Generation, Removal, ServiceRecord, Snapshot,
        Tombstone,
    },
};

use super::{Notice, routed::Census, saved::pairs};
use crate::fleet::doubts::{Doubts, Turn};

/// Why an endpoint that is in use may be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doubt {
    /// It is missing from a snapshot, which names no reason.
    Missing,
    /// Its host was declared dead, with too many others at once.
    NodeDead,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) endpoint: Endpoint,
    /// The latest generation at which it was told to be there.
    pub(super) seen: Generation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) doubt: Option<Doubt>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) generation: Generation,
    pub(super) record: Option<ServiceRecord>,
    #[serde(with = "pairs")]
    pub(super) endpoints: BTreeMap<EndpointKey, Held>,
    /// Those that went at exactly this generation: of an earlier removal nothing has to be kept,
    /// since no message that could bring them back is taken any more.
    gone: BTreeSet<EndpointKey>,
    /// Since when those in doubt are, and which of them went.
    #[serde(skip)]
    waiting: Doubts<EndpointKey>,
    #[serde(skip)]
    pub(super) ask_at: Option<Instant>,
    #[serde(skip)]
    pub(super) panic: bool,
}

/// What came of a message.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) changed: bool,
    suspected: usize,
    parked: usize,
    released: usize,
    left: usize,
    /// Panic began or ended.
    turned: Option<Census>,
}

/// Those that a message says are gone.
#[derive(Debug, Default)]
struct Leaving {
    /// Removed already.
    facts: usize,
    /// Named now as being on a dead host.
    fresh: BTreeSet<EndpointKey>,
    /// In doubt for long enough, and the message still says so.
    confirmed: BTreeSet<EndpointKey>,
}

impl Outcome {
    pub(super) fn notices(self, service: &ServiceName) -> impl Iterator<Item = Notice> {
        let service = || service.clone();
        let some = |count: usize| (count > 0).then_some(count);
        let (released, left) = (some(self.released), self.left);
        [
            some(self.suspected).map(|count| Notice::Suspected { service: service(), count }),
            some(self.parked).map(|count| Notice::Parked { service: service(), count }),
            released.map(|count| Notice::Released { service: service(), count, left }),
            self.turned.map(|census| {
                if census.is_panic() {
                    Notice::Panic { service: service(), out: census.out, of: census.of }
                } else {
                    Notice::Calm { service: service() }
                }
            }),
        ]
        .into_iter()
        .flatten()
    }
}

impl Known {
    pub(super) fn len(&self) -> usize {
        self.endpoints.len()
    }

    pub(super) fn holds(&self, key: &EndpointKey) -> bool {
        self.endpoints.contains_key(key)
    }

    pub(super) fn doubts(&self) -> impl Iterator<Item = (&EndpointKey, Doubt)> {
        self.endpoints.iter().filter_map(|(key, held)| Some((key, held.doubt?)))
    }

    pub(super) fn asks(&mut self, now: Instant, interval: Duration) -> bool {
        let due = self.ask_at.is_some_and(|at| at <= now);
        if due {
            self.ask_at = Some(now + interval);
        }
        due
    }

    /// `empty`: nothing at all was told to be there, which says nothing of those that are missing.
    pub(super) fn take_snapshot(
        &mut self,
        turn: &Turn,
        snapshot: Snapshot,
        empty: bool,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        self.advance(snapshot.generation);
        let missing: Vec<_> = self
            .endpoints
            .keys()
            .filter(|k| !snapshot.endpoints.contains_key(k))
            .cloned()
            .collect();
        let mut leaving = Leaving::default();
        for (key, tombstone) in &snapshot.tombstones {
            if !snapshot.endpoints.contains_key(key) {
                self.bury(turn, key, tombstone, &mut leaving);
            }
        }
        for key in missing {
            let Some(held) = self.endpoints.get(&key) else { continue };
            let named = snapshot.tombstones.get(&key).is_some_and(|t| t.generation >= held.seen);
            if held.doubt.is_none() {
                self.doubt(turn, &key, Doubt::Missing);
                outcome.suspected += 1;
            } else if (named || !empty) && self.waiting.has_waited(turn, &key) {
                leaving.confirmed.insert(key);
            }
        }
        for (key, endpoint) in snapshot.endpoints {
            self.put(key, endpoint, &mut outcome);
        }
        // The record of a service with endpoints is kept: without it they could not be reached.
        if snapshot.record.is_some() || self.endpoints.is_empty() {
            self.set_record(snapshot.record, &mut outcome);
        }
        self.settle(turn, &leaving, &mut outcome);
        outcome
    }

    pub(super) fn take_delta(&mut self, turn: &Turn, delta: Delta) -> Outcome {
        let mut outcome = Outcome::default();
        self.advance(delta.to);
        let mut leaving = Leaving::default();
        for (key, tombstone) in &delta.removed {
            self.bury(turn, key, tombstone, &mut leaving);
        }
        for (key, endpoint) in delta.put {
            self.put(key, endpoint, &mut outcome);
        }
        if delta.record.is_some() {
            self.set_record(delta.record, &mut outcome);
        }
        self.settle(turn, &leaving, &mut outcome);
        outcome
    }

    fn advance(&mut self, generation: Generation) {
        if generation > self.generation {
            self.generation = generation;
            self.gone.clear();
        }
    }

    fn set_record(&mut self, record: Option<ServiceRecord>, outcome: &mut Outcome) {
        outcome.changed |= self.record != record;
        self.record = record;
    }

    fn put(&mut self, key: EndpointKey, endpoint: Endpoint, outcome: &mut Outcome) {
        if self.gone.contains(&key) {
            return;
        }
        self.waiting.end(&key);
        let held = Held { endpoint, seen: self.generation, doubt: None };
        let before = self.endpoints.get(&key).map(|held| &held.endpoint);
        outcome.changed |= before != Some(&held.endpoint);
        self.endpoints.insert(key, held);
    }

    /// Takes word that an endpoint went.
    fn bury(
        &mut self,
        turn: &Turn,
        key: &EndpointKey,
        tombstone: &Tombstone,
        leaving: &mut Leaving,
    ) {
        if tombstone.generation == self.generation {
            self.gone.insert(key.clone());
        }
        let Some(held) = self.endpoints.get(key) else { return };
        if tombstone.generation < held.seen {
            return;
        }
        match tombstone.removal {
            Removal::Reported | Removal::Withdrawn => {
                self.remove(key);
                leaving.facts += 1;
            }
            Removal::NodeDead if held.doubt == Some(Doubt::NodeDead) => {}
            Removal::NodeDead => {
                self.doubt(turn, key, Doubt::NodeDead);
                leaving.fresh.insert(key.clone());
            }
        }
    }

    fn doubt(&mut self, turn: &Turn, key: &EndpointKey, doubt: Doubt) {
        if let Some(held) = self.endpoints.get_mut(key) {
            held.doubt = Some(doubt);
            self.waiting.begin(turn.now, key);
        }
    }

    fn remove(&mut self, key: &EndpointKey) {
        self.endpoints.remove(key);
        self.waiting.end(key);
    }

    /// Removes what the share allows, longest in doubt first, and counts what is left.
    fn settle(&mut self, turn: &Turn, leaving: &Leaving, outcome: &mut Outcome) {
        let mut keys: Vec<_> = leaving.confirmed.union(&leaving.fresh).cloned().collect();
        self.waiting.sort(&mut keys);
        let share = self.waiting.share(turn, self.endpoints.len());
        match self.leaves_whole(turn, &leaving.fresh) {
            Some(node) if leaving.fresh.len() > share => keys.retain(|key| key.node == node),
            _ => keys.truncate(share),
        }
        for key in &keys {
            self.remove(key);
            self.waiting.release(turn.now, key);
        }
        outcome.released = keys.len();
        outcome.parked = leaving.fresh.iter().filter(|key| self.holds(key)).count();
        outcome.left = self.waiting.len();
        outcome.changed |= leaving.facts + outcome.released + outcome.parked > 0;
        self.ask_at = (!self.waiting.is_empty()).then(|| turn.now + turn.interval);
        self.judge(outcome);
    }

    /// The host that was declared dead alone: no other has lost anything in the interval, and one is
    /// up that is in no doubt.
    fn leaves_whole(&self, turn: &Turn, fresh: &BTreeSet<EndpointKey>) -> Option<NodeName> {
        let node = &fresh.first()?.node;
        let alone = fresh.iter().all(|key| key.node == *node)
            && self.waiting.released().all(|other| other.node == *node);
        let serves = |(key, held): (&EndpointKey, &Held)| {
            let up = held.endpoint.status == EndpointStatus::Up && held.doubt.is_none();
            up && key.node != *node
        };
        let whole = !turn.quiet && alone && self.endpoints.iter().any(serves);
        whole.then(|| node.clone())
    }

    fn judge(&mut self, outcome: &mut Outcome) {
        let census = self.census();
        if census.is_panic() != self.panic {
            self.panic = census.is_panic();
            outcome.turned = Some(census);
            outcome.changed = true;
        }
    }

    /// All of it was told in another lineage than that which begins at `since`.
    pub(super) fn begin_lineage(&mut self, since: Generation) {
        self.generation = Generation(0);
        self.gone.clear();
        self.endpoints.values_mut().for_each(|held| held.seen = since);
    }

    /// Goes on with what was saved.
    pub(super) fn wake(&mut self, now: Instant, interval: Duration) {
        let doubted = self.endpoints.iter().filter(|(_, held)| held.doubt.is_some());
        doubted.for_each(|(key, _)| self.waiting.begin(now, key));
        self.ask_at = (!self.waiting.is_empty()).then(|| now + interval);
        self.panic = self.census().is_panic();
    }
}
