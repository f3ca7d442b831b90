//! Who wants to hear of what: for each the services that it is behind with, and what it was told
//! last. Never a queue, so what it costs is bounded by what it subscribes to.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use sinew_model::{NodeName, ServiceName, fleet::Generation};

/// Names a subscriber; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(u64);

#[derive(Debug, Default)]
pub(super) struct Subscribers {
    last: u64,
    all: BTreeMap<SubscriberId, Subscriber>,
    of_service: BTreeMap<ServiceName, BTreeSet<SubscriberId>>,
    of_node: BTreeMap<NodeName, BTreeSet<SubscriberId>>,
}

#[derive(Debug)]
struct Subscriber {
    node: NodeName,
    /// What it has of each service.
    has: BTreeMap<ServiceName, Generation>,
    /// Of these it may not have the newest.
    behind: BTreeSet<ServiceName>,
    /// Of these neither, and they wait.
    deferred: BTreeSet<ServiceName>,
    /// Where the turn is.
    turn: Option<ServiceName>,
    catalog: Option<Generation>,
    hosts: Option<Generation>,
    /// Of what is told to all, what it may not have the newest of.
    stale: BTreeSet<Topic>,
}

/// What is told to every subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    Catalog,
    Hosts,
    Zones,
}

impl Topic {
    pub(super) const ALL: [Self; 3] = [Self::Catalog, Self::Hosts, Self::Zones];
}

impl Subscriber {
    fn new(node: NodeName) -> Self {
        Self {
            node,
            has: BTreeMap::new(),
            behind: BTreeSet::new(),
            deferred: BTreeSet::new(),
            turn: None,
            catalog: None,
            hosts: None,
            stale: Topic::ALL.into(),
        }
    }

    fn is_idle(&self) -> bool {
        self.behind.is_empty() && self.stale.is_empty()
    }

    /// All in turn: one that changes all the time does not keep others waiting.
    fn next(&mut self) -> Option<ServiceName> {
        let after = self.turn.take().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.behind.range((after, Bound::Unbounded)).next();
        let next = next.or_else(|| self.behind.first()).cloned()?;
        self.behind.remove(&next);
        self.turn = Some(next.clone());
        Some(next)
    }
}

impl Subscribers {
    pub(super) fn join(&mut self, node: NodeName) -> SubscriberId {
        self.last += 1;
        let id = SubscriberId(self.last);
        self.of_node.entry(node.clone()).or_default().insert(id);
        self.all.insert(id, Subscriber::new(node));
        id
    }

    /// Those of a host.
    pub(super) fn of_node(&self, node: &NodeName) -> impl Iterator<Item = SubscriberId> {
        self.of_node.get(node).into_iter().flatten().copied()
    }

    pub(super) fn leave(&mut self, id: SubscriberId) {
        let Some(subscriber) = self.all.remove(&id) else { return };
        if let Some(ids) = self.of_node.get_mut(&subscriber.node) {
            ids.remove(&id);
            if ids.is_empty() {
                self.of_node.remove(&subscriber.node);
            }
        }
        for service in subscriber.has.keys() {
            self.remove_from(service, id);
        }
    }

    pub(super) fn subscribe(&mut self, id: SubscriberId, service: &ServiceName, has: Generation) {
        let Some(subscriber) = self.all.get_mut(&id) else { return };
        subscriber.has.insert(service.clone(), has);
        subscriber.behind.insert(service.clone());
        self.of_service.entry(service.clone()).or_default().insert(id);
    }

    pub(super) fn unsubscribe(&mut self, id: SubscriberId, service: &ServiceName) {
        let Some(subscriber) = self.all.get_mut(&id) else { return };
        subscriber.has.remove(service);
        subscriber.behind.remove(service);
        subscriber.deferred.remove(service);
        self.remove_from(service, id);
    }

    fn remove_from(&mut self, service: &ServiceName, id: SubscriberId) {
        let Some(ids) = self.of_service.get_mut(service) else { return };
        ids.remove(&id);
        if ids.is_empty() {
            self.of_service.remove(service);
        }
    }

    pub(super) fn subscriptions(&self, id: SubscriberId) -> usize {
        self.all.get(&id).map_or(0, |subscriber| subscriber.has.len())
    }

    pub(super) fn of(&self, id: SubscriberId) -> impl Iterator<Item = &ServiceName> {
        self.all.get(&id).into_iter().flat_map(|subscriber| subscriber.has.keys())
    }

    pub(super) fn has(&self, id: SubscriberId, service: &ServiceName) -> Option<Generation> {
        self.all.get(&id)?.has.get(service).copied()
    }

    /// Services changed, and what all are told of. Answers who had nothing to take before.
    pub(super) fn changed(
        &mut self,
        services: &[ServiceName],
        topics: &[Topic],
    ) -> Vec<SubscriberId> {
        let mut woken = Vec::new();
        for service in services {
            for id in self.of_service.get(service).into_iter().flatten() {
                let Some(subscriber) = self.all.get_mut(id) else { continue };
                if subscriber.deferred.contains(service) {
                    continue;
                }
                if subscriber.is_idle() {
                    woken.push(*id);
                }
                subscriber.behind.insert(service.clone());
            }
        }
        if !topics.is_empty() {
            for (id, subscriber) in &mut self.all {
                if subscriber.is_idle() {
                    woken.push(*id);
                }
                subscriber.stale.extend(topics);
            }
        }
        woken
    }

    /// Those that have nothing to take.
    pub(super) fn idle(&self) -> impl Iterator<Item = SubscriberId> {
        self.all.iter().filter(|(_, subscriber)| subscriber.is_idle()).map(|(id, _)| *id)
    }

    /// What it was told of the catalog; `None`: nothing is newer.
    pub(super) fn take_catalog(&mut self, id: SubscriberId) -> Option<Option<Generation>> {
        let subscriber = self.all.get_mut(&id)?;
        subscriber.stale.remove(&Topic::Catalog).then_some(subscriber.catalog)
    }

    /// What it was told of the hosts; `None`: nothing is newer.
    pub(super) fn take_hosts(&mut self, id: SubscriberId) -> Option<Option<Generation>> {
        let subscriber = self.all.get_mut(&id)?;
        subscriber.stale.remove(&Topic::Hosts).then_some(subscriber.hosts)
    }

    pub(super) fn told_hosts(&mut self, id: SubscriberId, generation: Generation) {
        if let Some(subscriber) = self.all.get_mut(&id) {
            subscriber.hosts = Some(generation);
        }
    }

    /// Whether it is to be told of the zones.
    pub(super) fn take_zones(&mut self, id: SubscriberId) -> bool {
        self.all.get_mut(&id).is_some_and(|subscriber| subscriber.stale.remove(&Topic::Zones))
    }

    pub(super) fn told_catalog(&mut self, id: SubscriberId, generation: Generation) {
        if let Some(subscriber) = self.all.get_mut(&id) {
            subscriber.catalog = Some(generation);
        }
    }

    /// The next service that it may be behind with, and what it has of it.
    pub(super) fn next(&mut self, id: SubscriberId) -> Option<(ServiceName, Generation)> {
        let subscriber = self.all.get_mut(&id)?;
        let service = subscriber.next()?;
        let has = subscriber.has.get(&service).copied()?;
        Some((service, has))
    }

    pub(super) fn told(&mut self, id: SubscriberId, service: &ServiceName, now: Generation) {
        if let Some(has) = self.all.get_mut(&id).and_then(|it| it.has.get_mut(service)) {
            *has = now;
        }
    }

    pub(super) fn defer(&mut self, id: SubscriberId, service: ServiceName) {
        if let Some(subscriber) = self.all.get_mut(&id) {
            subscriber.deferred.insert(service);
        }
    }

    pub(super) fn resume(&mut self, id: SubscriberId) {
        if let Some(subscriber) = self.all.get_mut(&id) {
            subscriber.behind.append(&mut subscriber.deferred);
        }
    }
}
