//! One service: its endpoints by host, and when each of them changed last.

use std::collections::{BTreeMap, BTreeSet};

use sinew_model::{
    NodeName, ServiceName,
    fleet::{Delta, Endpoint, EndpointKey, Generation, ServiceRecord, Snapshot, Tombstone},
};

use crate::{
    records::{Poison, StoredEndpoints, StoredService, StoredSweep, StoredTombstone},
    store::Revision,
};

use super::{Frame, Update};

/// Frames that are kept of a service: subscribers that keep up need the same one.
const FRAMES: usize = 4;

/// A service.
#[derive(Debug, Default)]
pub(super) struct Service {
    /// Of its newest change.
    generation: Generation,
    /// What was known before it cannot be brought up to date: what went since is forgotten.
    floor: Generation,
    owned: Owned,
    record_changed: Generation,
    nodes: BTreeMap<NodeName, (Revision, StoredEndpoints)>,
    tombstones: BTreeMap<EndpointKey, Tombstone>,
    /// Of the same: when, and whether it counts against the cap.
    buried: BTreeMap<EndpointKey, StoredTombstone>,
    /// The newest of those that were swept.
    swept: Generation,
    /// When each endpoint came, changed or went.
    at: BTreeMap<EndpointKey, Generation>,
    changes: BTreeMap<Generation, BTreeSet<EndpointKey>>,
    /// What was there before the revision that is being taken.
    before: BTreeMap<EndpointKey, Before>,
    changed: bool,
    /// Something came and went unseen.
    missed: bool,
    frames: Vec<(Generation, Frame)>,
}

/// What the store says that a service is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    /// The revision that put it; 0: it is not there.
    pub revision: Revision,
    /// What it is, and who says so.
    pub service: StoredService,
}

/// What a host has in the store of a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct OfNode<'a> {
    /// The revision that put its endpoints; 0: none did.
    pub revision: Revision,
    /// Its endpoints.
    pub endpoints: Option<&'a StoredEndpoints>,
    /// Those that went.
    tombstones: Option<&'a BTreeMap<EndpointKey, Tombstone>>,
    /// The service.
    pub owned: Option<&'a Owned>,
}

impl OfNode<'_> {
    /// Whether there is a tombstone for an instance.
    #[must_use]
    pub fn is_buried(&self, node: &NodeName, instance: u32) -> bool {
        let key = EndpointKey { node: node.clone(), instance };
        self.tombstones.is_some_and(|tombstones| tombstones.contains_key(&key))
    }
}

/// A tombstone as the store has it.
#[derive(Clone, Copy, Debug)]
pub struct Grave<'a> {
    /// Of which endpoint.
    pub key: &'a EndpointKey,
    /// The revision that put it.
    pub generation: Generation,
    /// Why and when.
    pub stored: &'a StoredTombstone,
}

#[derive(Debug)]
struct Before {
    endpoint: Option<Endpoint>,
    tombstone: Option<Tombstone>,
    /// The newest revision that it was put at meanwhile.
    put: Option<Generation>,
}

/// What came of a revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// Whether there is something to tell.
    pub(super) changed: bool,
    /// Endpoints that went without a tombstone.
    pub(super) unexplained: usize,
}

impl Service {
    pub(super) fn put_record(
        &mut self,
        revision: Revision,
        value: Result<Option<StoredService>, Poison>,
    ) -> Result<(), Poison> {
        // Who heard of it from another replica may have missed what it was put with at first.
        let first = std::mem::replace(&mut self.owned.revision, revision) == Revision(0);
        let service = value?.unwrap_or_default();
        if first || service.record != self.owned.service.record {
            self.record_changed = Generation(revision.0);
            self.changed = true;
        }
        self.owned.service = service;
        Ok(())
    }

    pub(super) fn put_endpoints(
        &mut self,
        node: NodeName,
        revision: Revision,
        value: Result<Option<StoredEndpoints>, Poison>,
    ) -> Result<(), Poison> {
        let value = match value {
            Ok(value) => value,
            Err(poison) => {
                self.nodes.entry(node).or_default().0 = revision;
                return Err(poison);
            }
        };
        let deleted = value.is_none();
        let new = value.unwrap_or_default();
        let old = self.nodes.get(&node).map(|(_, endpoints)| endpoints.clone()).unwrap_or_default();
        let instances: BTreeSet<u32> = old.keys().chain(new.keys()).copied().collect();
        for instance in instances.into_iter().filter(|it| old.get(it) != new.get(it)) {
            let put = new.contains_key(&instance).then_some(Generation(revision.0));
            self.note(EndpointKey { node: node.clone(), instance }, put);
        }
        if deleted {
            self.nodes.remove(&node);
        } else {
            self.nodes.insert(node, (revision, new));
        }
        Ok(())
    }

    pub(super) fn put_tombstone(
        &mut self,
        key: EndpointKey,
        revision: Revision,
        tombstone: Option<StoredTombstone>,
    ) {
        let generation = Generation(revision.0);
        self.note(key.clone(), tombstone.map(|_| generation));
        match tombstone {
            Some(stored) => {
                self.buried.insert(key.clone(), stored);
                let removal = stored.removal;
                self.tombstones.insert(key, Tombstone { generation, removal });
            }
            None => {
                self.buried.remove(&key);
                self.tombstones.remove(&key);
            }
        }
    }

    /// Tombstones were deleted, here or before anything was known.
    pub(super) fn swept(&mut self, sweep: Option<StoredSweep>) {
        if let Some(StoredSweep { generation }) = sweep {
            self.floor = self.floor.max(generation);
            self.swept = self.swept.max(generation);
            // What went while the watch had lost its place is never seen.
            if generation > self.generation {
                (self.generation, self.missed) = (generation, true);
            }
        }
    }

    /// Remembers what there was before it is changed.
    fn note(&mut self, key: EndpointKey, put: Option<Generation>) {
        let endpoint = self.endpoint(&key).cloned();
        let tombstone = self.tombstones.get(&key).cloned();
        let before = self.before.entry(key);
        let before = before.or_insert(Before { endpoint, tombstone, put });
        before.put = before.put.max(put);
    }

    /// Numbers what changed in a revision, all of which is there.
    pub(super) fn settle(&mut self, now: Generation) -> Settled {
        let changed = std::mem::take(&mut self.missed);
        let mut settled = Settled { changed, unexplained: 0 };
        for (key, before) in std::mem::take(&mut self.before) {
            let (endpoint, tombstone) = (self.endpoint(&key), self.tombstones.get(&key));
            let there = endpoint.is_some() || tombstone.is_some();
            let same = match endpoint {
                Some(endpoint) => before.endpoint.as_ref() == Some(endpoint),
                None => before.endpoint.is_none() && before.tombstone.as_ref() == tombstone,
            };
            if there && !same {
                self.mark(key, before.put.unwrap_or(now));
                settled.changed = true;
            } else if !there {
                self.forget(&key);
                if before.endpoint.is_some() {
                    settled.unexplained += 1;
                    (self.floor, self.generation) = (now, self.generation.max(now));
                    settled.changed = true;
                } else if let Some(tombstone) = before.tombstone {
                    self.floor = self.floor.max(tombstone.generation);
                }
            }
        }
        if std::mem::take(&mut self.changed) {
            self.settle_record(now);
            settled.changed = true;
        }
        if settled.changed {
            self.frames.clear();
        }
        settled
    }

    /// A delta tells that a record changed, and cannot tell that there is none.
    fn settle_record(&mut self, now: Generation) {
        if self.record_changed == Generation(0) {
            self.record_changed = now;
        }
        self.generation = self.generation.max(self.record_changed);
        if !self.is_there() {
            self.floor = self.floor.max(self.record_changed);
        }
    }

    fn mark(&mut self, key: EndpointKey, generation: Generation) {
        self.forget(&key);
        self.changes.entry(generation).or_default().insert(key.clone());
        self.at.insert(key, generation);
        self.generation = self.generation.max(generation);
    }

    fn forget(&mut self, key: &EndpointKey) {
        let Some(generation) = self.at.remove(key) else { return };
        let Some(keys) = self.changes.get_mut(&generation) else { return };
        keys.remove(key);
        if keys.is_empty() {
            self.changes.remove(&generation);
        }
    }

    fn endpoint(&self, key: &EndpointKey) -> Option<&Endpoint> {
        self.nodes.get(&key.node)?.1.get(&key.instance)
    }

    fn record(&self) -> Option<&ServiceRecord> {
        self.owned.service.record.as_ref()
    }

    /// Whether there is such a service.
    pub(super) fn is_there(&self) -> bool {
        self.record().is_some()
    }

    pub(super) fn endpoints(&self) -> usize {
        self.nodes.values().map(|(_, endpoints)| endpoints.len()).sum()
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = (&NodeName, &StoredEndpoints)> {
        self.nodes.iter().map(|(node, (_, endpoints))| (node, endpoints))
    }

    pub(super) fn graves(&self) -> impl Iterator<Item = Grave<'_>> {
        self.tombstones.iter().filter_map(|(key, tombstone)| {
            let stored = self.buried.get(key)?;
            Some(Grave { key, generation: tombstone.generation, stored })
        })
    }

    pub(super) const fn swept_to(&self) -> Generation {
        self.swept
    }

    pub(super) fn has(&self, node: &NodeName) -> bool {
        self.nodes.contains_key(node) || self.owned.service.owners.contains(node)
    }

    pub(super) fn of_node(&self, node: &NodeName) -> OfNode<'_> {
        let held = self.nodes.get(node);
        OfNode {
            revision: held.map_or(Revision(0), |(revision, _)| *revision),
            endpoints: held.map(|(_, endpoints)| endpoints),
            tombstones: Some(&self.tombstones),
            owned: Some(&self.owned),
        }
    }

    /// What there is to know now. 1 is what an empty store has: 0 is who knows nothing.
    pub(super) fn current(&self) -> Generation {
        self.generation.max(self.floor).max(Generation(1))
    }

    /// What a subscriber that has `since` is told, when everything up to `now` is known here.
    pub(super) fn update(
        &self,
        name: &ServiceName,
        since: Generation,
        now: Generation,
    ) -> Option<Update> {
        // Who knows more than the store was told by one that is gone.
        let rewound = since > now.max(self.current());
        if since == Generation(0) || since < self.floor || rewound {
            return Some(Update::Snapshot(self.snapshot(name)));
        }
        (since < self.current()).then(|| Update::Delta(self.delta(name, since)))
    }

    fn snapshot(&self, name: &ServiceName) -> Snapshot {
        let of_node = |(node, (_, endpoints)): (&NodeName, &(Revision, StoredEndpoints))| {
            let placed = |(instance, endpoint): (&u32, &Endpoint)| {
                (EndpointKey { node: node.clone(), instance: *instance }, endpoint.clone())
            };
            endpoints.iter().map(placed).collect::<Vec<_>>()
        };
        let gone = self.tombstones.iter().filter(|(key, _)| self.endpoint(key).is_none());
        Snapshot {
            service: name.clone(),
            generation: self.current(),
            record: self.record().cloned(),
            endpoints: self.nodes.iter().flat_map(of_node).collect(),
            tombstones: gone.map(|(key, tombstone)| (key.clone(), tombstone.clone())).collect(),
        }
    }

    fn delta(&self, name: &ServiceName, since: Generation) -> Delta {
        let (mut put, mut removed) = (BTreeMap::new(), BTreeMap::new());
        let later = self.changes.range(Generation(since.0.saturating_add(1))..);
        for key in later.flat_map(|(_, keys)| keys) {
            if let Some(endpoint) = self.endpoint(key) {
                put.insert(key.clone(), endpoint.clone());
            } else if let Some(tombstone) = self.tombstones.get(key) {
                removed.insert(key.clone(), tombstone.clone());
            }
        }
        let record = self.record().filter(|_| self.record_changed > since).cloned();
        Delta { service: name.clone(), from: since, to: self.current(), record, put, removed }
    }

    pub(super) fn cached(&self, since: Generation) -> Option<Frame> {
        let found = self.frames.iter().find(|(from, _)| *from == since);
        found.map(|(_, frame)| frame.clone())
    }

    pub(super) fn cache(&mut self, since: Generation, frame: Frame) {
        if self.frames.len() == FRAMES {
            self.frames.remove(0);
        }
        self.frames.push((since, frame));
    }
}
