//! What all hosts run, as the store has it, and who wants to hear of what.
//!
//! Built from a list of the store and the batches of its watch, with no IO of its own. What a
//! subscriber is told is computed when it takes it: for each service only the generation that it was
//! told last is kept, so that a slow one costs no memory and gets the newest state.

mod catalog;
mod config;
mod hosts;
pub mod placed;
mod service;
mod subscribers;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use bytes::Bytes;
use sinew_model::{
    NodeName, ServiceName, ZoneName,
    fleet::{Delta, EndpointKey, Generation, Snapshot},
};
use sinew_proto::{Catalog, FromControl, Lineage, Zones};

use crate::{
    records::{self, Key, Poison, StoredEndpoints, StoredNetworks, StoredNode, StoredSession},
    store::{Batch, Entry, Event, Revision, lineage::StoredLineage, schema},
};

use catalog::Names;
pub use config::{Config, Record};
pub use hosts::Slice;
use hosts::{Hosts, Slices};
use placed::Placed;
use service::Service;
pub use service::{Grave, OfNode, Owned};
pub use subscribers::SubscriberId;
use subscribers::{Subscribers, Topic};

/// What a subscriber is told of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// What changed since what it has.
    Delta(Delta),
    /// Everything: what it has is too old, or nothing.
    Snapshot(Snapshot),
}

/// An update as it is sent: encoded once for all who need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Of which service.
    pub service: ServiceName,
    /// What the subscriber has afterwards.
    pub generation: Generation,
    /// Whether it is everything.
    pub snapshot: bool,
    /// A message of the protocol.
    pub bytes: Bytes,
}

/// What a revision may have changed.
#[derive(Debug, Default)]
struct Touched {
    services: BTreeSet<ServiceName>,
    sessions: BTreeSet<NodeName>,
    zones: bool,
}

/// The state of the fleet, and its subscribers.
#[derive(Debug, Default)]
pub struct Registry {
    revision: Revision,
    /// When this history began: what was known before, it may never have been told of.
    began: Generation,
    services: BTreeMap<ServiceName, Service>,
    sessions: BTreeMap<NodeName, (Revision, Option<StoredSession>)>,
    /// Hosts that are declared dead, by the revision that did.
    dead: BTreeMap<Revision, NodeName>,
    /// Where hosts are, as their endpoints say.
    places: BTreeMap<NodeName, ZoneName>,
    config: Config,
    /// The revision of their newest change.
    zones_changed: Revision,
    names: Names,
    hosts: Hosts,
    slices: Slices,
    lineage: Option<Lineage>,
    placed: Placed,
    /// Keys whose values are of no use, and why.
    poisoned: BTreeMap<Bytes, Poison>,
    /// Keys that are there, to find those that a later list lacks.
    keys: BTreeMap<Bytes, Revision>,
    subscribers: Subscribers,
}

impl Registry {
    /// The revision up to which everything is known.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// Takes all that the store has at a revision: at first, and when the watch has lost its place.
    /// Answers who has something to take now, and had not before.
    pub fn list(&mut self, revision: Revision, entries: Vec<Entry>) -> Vec<SubscriberId> {
        let first = self.revision == Revision::default();
        let there: BTreeSet<Bytes> = entries.iter().map(|entry| entry.key.clone()).collect();
        let gone = self.keys.keys().filter(|key| !there.contains(*key)).cloned();
        let mut events: Vec<Event> = gone.map(Event::Delete).collect();
        let known = |entry: &Entry| self.keys.get(&entry.key) == Some(&entry.mod_revision);
        events.extend(entries.into_iter().filter(|entry| !known(entry)).map(Event::Put));
        let woken = self.take(revision, events);
        if first {
            self.names.forget_before(Generation(revision.0));
            self.hosts.forget_before(Generation(revision.0));
        }
        woken
    }

    /// Takes the changes of a revision. Answers who has something to take now, and had not before.
    pub fn apply(&mut self, batch: Batch) -> Vec<SubscriberId> {
        if batch.revision <= self.revision {
            return Vec::new();
        }
        self.take(batch.revision, batch.events)
    }

    /// Nothing changed up to that revision.
    pub fn progress(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    fn take(&mut self, revision: Revision, events: Vec<Event>) -> Vec<SubscriberId> {
        self.revision = self.revision.max(revision);
        let mut touched = Touched::default();
        let newest_dead = self.newest_dead();
        let lineage = self.lineage.clone();
        for event in events {
            let bytes = event.key().clone();
            if let (Event::Put(entry), true) = (&event, bytes == schema::KEY) {
                self.began = self.began.max(Generation(entry.mod_revision.0));
            }
            let Some(key) = Key::parse(&bytes) else { continue };
            let entry = match event {
                Event::Put(entry) => Some(entry),
                Event::Delete(_) => None,
            };
            match &entry {
                Some(entry) => self.keys.insert(bytes.clone(), entry.mod_revision),
                None => self.keys.remove(&bytes),
            };
            let taken = key.and_then(|key| self.take_one(key, entry.as_ref(), &mut touched));
            match taken {
                Ok(()) => self.poisoned.remove(&bytes),
                Err(poison) => {
                    tracing::warn!(key = %bytes.escape_ascii(), %poison, "the store has a value of no use: the one before stays");
                    self.poisoned.insert(bytes, poison)
                }
            };
        }
        let mut woken = self.settle(Generation(revision.0), touched);
        if self.newest_dead() > newest_dead || self.lineage != lineage {
            woken.extend(self.subscribers.idle());
            woken.sort_unstable();
            woken.dedup();
        }
        woken
    }

    fn newest_dead(&self) -> Revision {
        self.dead.last_key_value().map_or(Revision(0), |(revision, _)| *revision)
    }

    fn take_one(
        &mut self,
        key: Key,
        entry: Option<&Entry>,
        touched: &mut Touched,
    ) -> Result<(), Poison> {
        let revision = entry.map_or(Revision(0), |entry| entry.mod_revision);
        let value = entry.map(|entry| entry.value.as_ref());
        let name = match key {
            Key::Session(node) => {
                touched.sessions.insert(node.clone());
                return self.take_session(node, revision, value);
            }
            Key::Node(node) => return self.hosts.put(node, revision, value),
            Key::Slice(index) => return self.slices.put(index, revision, value),
            Key::Lineage => {
                let stored = value.map(records::read::<StoredLineage>).transpose()?;
                let since = Generation(revision.0);
                self.lineage = stored.map(|StoredLineage { id }| Lineage { id, since });
                return Ok(());
            }
            Key::Networks => return self.slices.put_networks(revision, value),
            Key::Project(_) | Key::Assigned(_) => return self.placed.take(key, revision, value),
            Key::Zone(_) => {
                touched.zones = true;
                return self.config.take(key, revision, value);
            }
            Key::Control(_) | Key::Lead | Key::Pause(_) | Key::Limits | Key::History(_) => {
                return self.config.take(key, revision, value);
            }
            Key::Service(ref name)
            | Key::Endpoints(ref name, _)
            | Key::Tombstone(ref name, _)
            | Key::Swept(ref name) => name.clone(),
        };
        let service = self.services.entry(name.clone()).or_default();
        touched.services.insert(name);
        match key {
            Key::Service(_) => {
                service.put_record(revision, value.map(records::read_service).transpose())
            }
            Key::Endpoints(_, node) => {
                let value = value.map(records::read_endpoints).transpose();
                let first = |endpoints: &StoredEndpoints| endpoints.values().next().cloned();
                if let Ok(Some(endpoint)) = value.as_ref().map(|it| it.as_ref().and_then(first)) {
                    self.places.insert(node.clone(), endpoint.zone);
                }
                service.put_endpoints(node, revision, value)
            }
            Key::Tombstone(_, endpoint) => {
                let tombstone = value.map(records::read).transpose()?;
                service.put_tombstone(endpoint, revision, tombstone);
                Ok(())
            }
            Key::Swept(_) => {
                let sweep = value.map(records::read).transpose()?;
                service.swept(sweep);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn take_session(
        &mut self,
        node: NodeName,
        revision: Revision,
        value: Option<&[u8]>,
    ) -> Result<(), Poison> {
        let (before, _) = self.session(&node);
        self.dead.remove(&before);
        let Some(value) = value else {
            self.sessions.remove(&node);
            self.places.remove(&node);
            return Ok(());
        };
        let held = self.sessions.entry(node.clone()).or_default();
        held.0 = revision;
        let session: StoredSession = records::read(value)?;
        if session.dead_since_ms.is_some() {
            self.dead.insert(revision, node);
        }
        held.1 = Some(session);
        Ok(())
    }

    /// Numbers what changed, when all of a revision is there.
    fn settle(&mut self, now: Generation, touched: Touched) -> Vec<SubscriberId> {
        let (mut changed, mut renamed) = (Vec::new(), false);
        for name in touched.services {
            let Some(service) = self.services.get_mut(&name) else { continue };
            let settled = service.settle(now);
            if settled.unexplained > 0 {
                tracing::warn!(service = %name, endpoints = settled.unexplained, "endpoints disappeared from the store and nothing says why");
            }
            renamed |= self.names.set(&name, service.is_there(), now);
            if settled.changed {
                changed.push(name);
            }
        }
        let mut topics = Vec::new();
        if renamed {
            topics.push(Topic::Catalog);
        }
        if self.hosts.settle(now) {
            topics.push(Topic::Hosts);
        }
        if touched.zones {
            self.zones_changed = Revision(now.0);
            topics.push(Topic::Zones);
        }
        let mut woken = self.subscribers.changed(&changed, &topics);
        let assigned = self.placed.take_touched();
        for node in touched.sessions.union(&assigned) {
            woken.extend(self.subscribers.of_node(node));
        }
        woken
    }

    /// What a subscriber that has a service as it was at `since` is told; `None`: nothing is newer.
    #[must_use]
    pub fn update(&self, service: &ServiceName, since: Generation) -> Option<Update> {
        let unknown = Service::default();
        let known = self.services.get(service).unwrap_or(&unknown);
        let now = Generation(self.revision.0);
        if since >= self.began {
            return known.update(service, since, now);
        }
        // The whole, which is as new as the history is.
        let mut update = known.update(service, Generation(0), now);
        if let Some(Update::Snapshot(snapshot)) = &mut update {
            snapshot.generation = snapshot.generation.max(self.began);
        }
        update
    }

    /// The same, encoded.
    pub fn frame(&mut self, service: &ServiceName, since: Generation) -> Option<Frame> {
        if let Some(frame) = self.services.get(service).and_then(|known| known.cached(since)) {
            return Some(frame);
        }
        let update = self.update(service, since)?;
        let (generation, snapshot) = match &update {
            Update::Delta(delta) => (delta.to, false),
            Update::Snapshot(snapshot) => (snapshot.generation, true),
        };
        let message = match update {
            Update::Delta(delta) => FromControl::Delta(delta),
            Update::Snapshot(snapshot) => FromControl::Snapshot(snapshot),
        };
        let frame =
            Frame { service: service.clone(), generation, snapshot, bytes: message.encode() };
        if let Some(known) = self.services.get_mut(service) {
            known.cache(since, frame.clone());
        }
        Some(frame)
    }

    /// The names of all services, or how they changed since; `None`: they did not.
    #[must_use]
    pub fn catalog(&self, since: Option<Generation>) -> Option<Catalog> {
        self.names.since(since)
    }

    /// What a host has in the store of a service.
    #[must_use]
    pub fn of_node(&self, service: &ServiceName, node: &NodeName) -> OfNode<'_> {
        self.services.get(service).map_or_else(OfNode::default, |service| service.of_node(node))
    }

    /// Services that have endpoints on a host, or that it owns.
    pub fn services_of(&self, node: &NodeName) -> impl Iterator<Item = &ServiceName> {
        let has = move |service: &Service| service.has(node);
        self.services.iter().filter(move |(_, service)| has(service)).map(|(name, _)| name)
    }

    /// The number of endpoints of a service.
    #[must_use]
    pub fn endpoints(&self, service: &ServiceName) -> usize {
        self.services.get(service).map_or(0, Service::endpoints)
    }

    /// The session of a host, and the revision that put it.
    #[must_use]
    pub fn session(&self, node: &NodeName) -> (Revision, Option<&StoredSession>) {
        self.sessions
            .get(node)
            .map_or((Revision(0), None), |(revision, session)| (*revision, session.as_ref()))
    }

    /// All hosts that have had a session, with the revision that put it.
    pub fn sessions(&self) -> impl Iterator<Item = (&NodeName, Revision, &StoredSession)> {
        let all = self.sessions.iter();
        all.filter_map(|(node, (revision, session))| Some((node, *revision, session.as_ref()?)))
    }

    /// Hosts that were declared dead after that revision, and are still.
    pub fn dead_since(&self, since: Revision) -> impl Iterator<Item = (Revision, &NodeName)> {
        self.dead.range(since.next()..).map(|(revision, node)| (*revision, node))
    }

    /// Whether a host is declared dead.
    #[must_use]
    pub fn is_dead(&self, node: &NodeName) -> bool {
        self.session(node).1.is_some_and(|session| session.dead_since_ms.is_some())
    }

    /// Where a host is; `None`: it has not said so.
    #[must_use]
    pub fn zone(&self, node: &NodeName) -> Option<&ZoneName> {
        let told = self.hosts.get(node).1.map(|stored| &stored.zone);
        told.or_else(|| self.places.get(node))
    }

    /// What a host said of itself when its newest session began, and the revision that put it.
    #[must_use]
    pub fn node(&self, node: &NodeName) -> (Revision, Option<&StoredNode>) {
        self.hosts.get(node)
    }

    /// All hosts that have said something of themselves.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeName, &StoredNode)> {
        self.hosts.iter()
    }

    /// Another host whose own address that is: a dead one's as long as it is known, if it was seen to
    /// come from there, for it may come back.
    #[must_use]
    pub fn who_has(&self, address: IpAddr, but: &NodeName) -> Option<&NodeName> {
        let has = |node: &NodeName, stored: &StoredNode| {
            stored.has_proven(address) || (stored.says(address) && !self.is_dead(node))
        };
        let mut others = self.nodes().filter(|(node, _)| *node != but);
        others.find(|(node, stored)| has(node, stored)).map(|(node, _)| node)
    }

    /// Other hosts that were seen to come from that address.
    pub fn proven_by<'a>(
        &'a self,
        address: IpAddr,
        but: &'a NodeName,
    ) -> impl Iterator<Item = (&'a NodeName, &'a StoredNode)> {
        self.nodes().filter(move |(node, stored)| *node != but && stored.has_proven(address))
    }

    /// In what revisions count; `None`: the store bears no mark.
    #[must_use]
    pub const fn lineage(&self) -> Option<&Lineage> {
        self.lineage.as_ref()
    }

    /// The instance networks, and the revision that put them.
    #[must_use]
    pub const fn networks(&self) -> Option<&(Revision, StoredNetworks)> {
        self.slices.networks()
    }

    /// The slice of the instance networks that a host has, or may try to get: the lowest that nobody
    /// has, nor had lately, and no other host is given here. `None`: all numbers are given.
    pub fn slice(&mut self, node: &NodeName, now_ms: u64) -> Option<Slice> {
        let free_before_ms = self.rested_ms(now_ms);
        self.slices.of(node, free_before_ms)
    }

    /// The slice that a host has by the store.
    #[must_use]
    pub fn given_slice(&self, node: &NodeName) -> Option<Slice> {
        self.slices.given(node)
    }

    /// How many slices nobody can have who has none.
    #[must_use]
    pub fn taken_slices(&self, now_ms: u64) -> usize {
        self.slices.taken(self.rested_ms(now_ms))
    }

    /// What is free since then may be given anew.
    fn rested_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.config.limits().slice_rest_ms)
    }

    /// A host does not try any more to get what [`Registry::slice`] gave it.
    pub fn release_slice(&mut self, node: &NodeName) {
        self.slices.release(node);
    }

    /// What is set for the whole network.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// All services that have, or lately had, something in the store.
    pub fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.services.keys()
    }

    /// The endpoints of a service by host.
    pub fn hosts_of(
        &self,
        service: &ServiceName,
    ) -> impl Iterator<Item = (&NodeName, &StoredEndpoints)> {
        self.services.get(service).into_iter().flat_map(Service::hosts)
    }

    /// The tombstones of a service.
    pub fn graves(&self, service: &ServiceName) -> impl Iterator<Item = Grave<'_>> {
        self.services.get(service).into_iter().flat_map(Service::graves)
    }

    /// Endpoints of a service that went in the interval before `now_ms` though nobody saw them end:
    /// what counts against the cap of removals, whoever removed them.
    #[must_use]
    pub fn removed_lately(&self, service: &ServiceName, now_ms: u64) -> usize {
        self.removed_lately_of(service, now_ms, |_| true)
    }

    /// The same of some endpoints.
    #[must_use]
    pub fn removed_lately_of(
        &self,
        service: &ServiceName,
        now_ms: u64,
        of: impl Fn(&EndpointKey) -> bool,
    ) -> usize {
        let interval_ms = self.config.limits().removal_interval_ms;
        let lately = |grave: &Grave<'_>| {
            let Grave { key, stored, .. } = grave;
            stored.capped && now_ms.saturating_sub(stored.at_ms) < interval_ms && of(key)
        };
        self.graves(service).filter(lately).count()
    }

    /// The newest tombstone of a service that was swept.
    #[must_use]
    pub fn swept(&self, service: &ServiceName) -> Generation {
        self.services.get(service).map_or(Generation(0), Service::swept_to)
    }

    /// Whether what the store has under a key is of no use.
    #[must_use]
    pub fn is_poisoned(&self, key: &Key) -> bool {
        self.poisoned.contains_key(&key.bytes())
    }

    /// Keys whose values are of no use, and why: what was there before is in force.
    pub fn poisoned(&self) -> impl Iterator<Item = (&Bytes, &Poison)> {
        self.poisoned.iter()
    }

    /// A subscriber that wants the catalog, and no service yet: the session of that host. It is
    /// woken too when another session of the host begins.
    pub fn join(&mut self, node: NodeName) -> SubscriberId {
        self.subscribers.join(node)
    }

    /// It is gone.
    pub fn leave(&mut self, subscriber: SubscriberId) {
        self.subscribers.leave(subscriber);
    }

    /// It wants to hear of a service, and has it as it was at `since`; 0: it has nothing.
    pub fn subscribe(
        &mut self,
        subscriber: SubscriberId,
        service: &ServiceName,
        since: Generation,
    ) {
        self.subscribers.subscribe(subscriber, service, since);
    }

    /// No longer.
    pub fn unsubscribe(&mut self, subscriber: SubscriberId, service: &ServiceName) {
        self.subscribers.unsubscribe(subscriber, service);
    }

    /// The number of services that it hears of.
    #[must_use]
    pub fn subscriptions(&self, subscriber: SubscriberId) -> usize {
        self.subscribers.subscriptions(subscriber)
    }

    /// Services that it hears of.
    pub fn subscribed(&self, subscriber: SubscriberId) -> impl Iterator<Item = &ServiceName> {
        self.subscribers.of(subscriber)
    }

    /// The generation of a service's newest change.
    #[must_use]
    pub fn newest(&self, service: &ServiceName) -> Generation {
        self.services.get(service).map_or(Generation(1), Service::current)
    }

    /// What it was told last of a service that it hears of.
    #[must_use]
    pub fn told(&self, subscriber: SubscriberId, service: &ServiceName) -> Option<Generation> {
        self.subscribers.has(subscriber, service)
    }

    /// How the catalog changed since it was told last. It counts as told.
    pub fn take_catalog(&mut self, subscriber: SubscriberId) -> Option<Catalog> {
        let since = self.subscribers.take_catalog(subscriber)?;
        let catalog = self.catalog(since)?;
        self.subscribers.told_catalog(subscriber, catalog.to);
        Some(catalog)
    }

    /// How the hosts changed since it was told last. It counts as told.
    pub fn take_hosts(&mut self, subscriber: SubscriberId) -> Option<sinew_proto::Hosts> {
        let since = self.subscribers.take_hosts(subscriber)?;
        let hosts = self.hosts.since(since)?;
        self.subscribers.told_hosts(subscriber, hosts.to);
        Some(hosts)
    }

    /// How many services there are: not those of which only the end is remembered.
    #[must_use]
    pub fn offered(&self) -> usize {
        self.names.count()
    }

    /// Whether something of what is placed, or of the hosts that it is placed on, cannot be read: what
    /// is known of it then lacks what is there.
    #[must_use]
    pub fn is_placement_poisoned(&self) -> bool {
        let of_placement =
            |key: &Key| matches!(key, Key::Project(_) | Key::Assigned(_) | Key::Node(_));
        self.poisoned.keys().any(|bytes| {
            Key::parse(bytes).is_some_and(|key| key.is_ok_and(|key| of_placement(&key)))
        })
    }

    /// What is placed on which hosts.
    #[must_use]
    pub const fn placed(&self) -> &Placed {
        &self.placed
    }

    /// The zones that get less than their share, when they changed since it was told last. They
    /// count as told.
    pub fn take_zones(&mut self, subscriber: SubscriberId) -> Option<Zones> {
        self.subscribers.take_zones(subscriber).then(|| {
            let limited = self.config.zones().iter();
            let limited =
                limited.map(|(zone, (_, stored))| (zone.clone(), stored.percent.min(100)));
            Zones { generation: Generation(self.zones_changed.0), limited: limited.collect() }
        })
    }

    /// The next update for a subscriber, all services in turn. It counts as told when `admit` lets
    /// it through; when not, it waits for [`Registry::resume`], with what comes of it meanwhile.
    pub fn take_update(
        &mut self,
        subscriber: SubscriberId,
        mut admit: impl FnMut(&Frame) -> bool,
    ) -> Option<Frame> {
        while let Some((service, since)) = self.subscribers.next(subscriber) {
            let Some(frame) = self.frame(&service, since) else { continue };
            if admit(&frame) {
                self.subscribers.told(subscriber, &service, frame.generation);
                return Some(frame);
            }
            self.subscribers.defer(subscriber, service);
        }
        None
    }

    /// What waited is to be tried again.
    pub fn resume(&mut self, subscriber: SubscriberId) {
        self.subscribers.resume(subscriber);
    }
}
