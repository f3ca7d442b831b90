//! What this host knows of services of other hosts.
//!
//! A message is applied as a whole or refused as a whole, and what is known never goes back to an
//! earlier generation. What a message merely does not mention stays in use: it may be missing by
//! mistake. What this host runs itself is known here best and is never taken from the network.

mod check;
mod known;
mod notice;
mod routed;
mod saved;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use sinew_model::{
    NodeName, ServiceName,
    fleet::{Delta, EndpointKey, Generation, Snapshot},
};

use super::doubts::Turn;
use known::Known;

pub use check::Refused;
pub use known::Doubt;
pub use notice::Notice;
pub use routed::{Backend, Remote};
pub use saved::Saved;

/// What bounds the mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// At most this share of a service's endpoints, and at least one, goes in an
    /// [`interval`](Self::interval) on control's word alone; or all of one dead host, while another
    /// serves.
    pub removed_percent: u8,
    /// See there.
    pub interval: Duration,
    /// Endpoints of one service.
    pub service_endpoints: usize,
    /// Endpoints of all services.
    pub endpoints: usize,
    /// Services.
    pub services: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            removed_percent: 10,
            interval: Duration::from_secs(10),
            service_endpoints: 16_384,
            endpoints: sinew_abi::capacity::BACKENDS as usize,
            services: sinew_abi::capacity::SERVICES as usize,
        }
    }
}

impl Limits {
    /// Nothing in doubt goes before `quiet_until`.
    pub(super) fn turn(&self, now: Instant, quiet_until: Option<Instant>) -> Turn {
        Turn {
            now,
            percent: self.removed_percent,
            interval: self.interval,
            quiet: quiet_until.is_some_and(|until| now < until),
        }
    }
}

/// What control is told about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Applied.
    Ack {
        /// Of what is known now.
        generation: Generation,
    },
    /// Nothing of it was applied.
    Nack {
        /// Of what was told.
        generation: Generation,
        /// Why.
        reason: Refused,
    },
}

/// What is known of the services that this host subscribes to.
#[derive(Debug)]
pub struct Mirror {
    node: NodeName,
    limits: Limits,
    services: BTreeMap<ServiceName, Known>,
    /// Held of all of them.
    endpoints: usize,
    /// How far what was forgotten had come: nothing older is taken for it later.
    floors: BTreeMap<ServiceName, Generation>,
    /// Nothing in doubt goes before: how much went just before this agent began is not known.
    quiet_until: Option<Instant>,
    changed: BTreeSet<ServiceName>,
    notices: Vec<Notice>,
    nearly_full: bool,
}

impl Mirror {
    /// Knows nothing yet; `node` is this host.
    #[must_use]
    pub fn new(node: NodeName, limits: Limits) -> Self {
        Self {
            node,
            limits,
            services: BTreeMap::new(),
            endpoints: 0,
            floors: BTreeMap::new(),
            quiet_until: None,
            changed: BTreeSet::new(),
            notices: Vec::new(),
            nearly_full: false,
        }
    }

    /// Takes all that control knows of a service.
    pub fn snapshot(&mut self, now: Instant, mut snapshot: Snapshot) -> Answer {
        let (generation, floor) = self.reached(&snapshot.service);
        // Told from nothing by what else was there: only an empty set says nothing of the missing.
        let empty = snapshot.endpoints.is_empty();
        snapshot.endpoints.retain(|key, _| key.node != self.node);
        let checked = check::snapshot(&snapshot, generation.max(floor))
            .and_then(|()| self.check_room(&snapshot.service, snapshot.endpoints.keys()));
        if let Err(reason) = checked {
            return Answer::Nack { generation: snapshot.generation, reason };
        }
        let service = snapshot.service.clone();
        self.apply(now, &service, |known, turn| known.take_snapshot(turn, snapshot, empty))
    }

    /// Takes what changed of a service.
    pub fn delta(&mut self, now: Instant, mut delta: Delta) -> Answer {
        let (generation, floor) = self.reached(&delta.service);
        if delta.to <= generation {
            // A copy of what came already.
            return Answer::Ack { generation };
        }
        delta.put.retain(|key, _| key.node != self.node);
        let checked = check::delta(&delta, generation, floor)
            .and_then(|()| self.check_room(&delta.service, delta.put.keys()));
        if let Err(reason) = checked {
            return Answer::Nack { generation: delta.to, reason };
        }
        let service = delta.service.clone();
        self.apply(now, &service, |known, turn| known.take_delta(turn, delta))
    }

    /// Drops what is known of a service that this host does not subscribe to any more.
    pub fn forget(&mut self, service: &ServiceName) {
        let Some(known) = self.services.remove(service) else { return };
        self.endpoints -= known.len();
        self.floors.insert(service.clone(), known.generation);
        if self.floors.len() > self.limits.services {
            let oldest = self.floors.iter().min_by_key(|(_, floor)| **floor);
            if let Some(oldest) = oldest.map(|(service, _)| service.clone()) {
                self.floors.remove(&oldest);
            }
        }
        self.changed.insert(service.clone());
    }

    /// Of the newest change of any service.
    #[must_use]
    pub fn newest(&self) -> Generation {
        let known = self.services.values().map(|known| known.generation);
        known.chain(self.floors.values().copied()).max().unwrap_or_default()
    }

    /// Generations count in another lineage of the store from now on: what is known was told as of
    /// none in it. What that store has from before `since` may be outdated, and is no reason to
    /// remove anything at once; for an interval nothing in doubt goes.
    pub fn begin_lineage(&mut self, now: Instant, since: Generation) {
        self.floors.clear();
        self.services.values_mut().for_each(|known| known.begin_lineage(since));
        self.quiet_until = Some(now + self.limits.interval);
    }

    /// Services and endpoints together: what takes room.
    #[must_use]
    pub fn holds(&self) -> usize {
        self.services.len() + self.endpoints
    }

    /// Services with what is known of them, for a greeting.
    pub fn known(&self) -> impl Iterator<Item = (&ServiceName, Generation)> {
        self.services.iter().map(|(service, known)| (service, known.generation))
    }

    /// What callers of a service may reach on other hosts; `None` when nothing is known of it.
    #[must_use]
    pub fn remote(&self, service: &ServiceName) -> Option<Remote<'_>> {
        self.services.get(service).map(Known::remote)
    }

    /// Endpoints that may be gone and are kept in use, with why.
    pub fn doubts(&self) -> impl Iterator<Item = (&ServiceName, &EndpointKey, Doubt)> {
        self.services.iter().flat_map(|(service, known)| {
            known.doubts().map(move |(key, doubt)| (service, key, doubt))
        })
    }

    /// Services of which something changed since this was asked last.
    pub fn take_changed(&mut self) -> BTreeSet<ServiceName> {
        std::mem::take(&mut self.changed)
    }

    /// What happened since this was asked last that somebody should know.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Services of which a new snapshot is wanted, to confirm or to clear what is in doubt. Each is
    /// named once an interval.
    pub fn asks(&mut self, now: Instant) -> Vec<ServiceName> {
        let interval = self.limits.interval;
        let asks = |(service, known): (&ServiceName, &mut Known)| {
            known.asks(now, interval).then(|| service.clone())
        };
        self.services.iter_mut().filter_map(asks).collect()
    }

    /// When [`asks`](Self::asks) will name one.
    #[must_use]
    pub fn next_ask(&self) -> Option<Instant> {
        self.services.values().filter_map(|known| known.ask_at).min()
    }

    /// What is known of a service, and what was once.
    fn reached(&self, service: &ServiceName) -> (Generation, Generation) {
        let known = self.services.get(service).map(|known| known.generation);
        let floor = self.floors.get(service).copied();
        (known.unwrap_or_default(), floor.unwrap_or_default())
    }

    fn apply(
        &mut self,
        now: Instant,
        service: &ServiceName,
        take: impl FnOnce(&mut Known, &Turn) -> known::Outcome,
    ) -> Answer {
        let turn = self.limits.turn(now, self.quiet_until);
        let known = self.services.entry(service.clone()).or_default();
        let before = known.len();
        let outcome = take(known, &turn);
        self.endpoints = self.endpoints + known.len() - before;
        let generation = known.generation;
        self.floors.remove(service);
        if outcome.changed {
            self.changed.insert(service.clone());
        }
        self.notices.extend(outcome.notices(service));
        self.watch_room();
        Answer::Ack { generation }
    }

    /// Whether there is room for a service with these endpoints beside what is held of it.
    fn check_room<'a>(
        &self,
        service: &ServiceName,
        put: impl Iterator<Item = &'a EndpointKey>,
    ) -> Result<(), Refused> {
        let known = self.services.get(service);
        let added = put.filter(|key| !known.is_some_and(|known| known.holds(key))).count();
        let held = known.map_or(0, Known::len);
        check::room("endpoints of one service", held + added, self.limits.service_endpoints)?;
        check::room("endpoints", self.endpoints + added, self.limits.endpoints)?;
        let services = self.services.len() + usize::from(known.is_none());
        check::room("services", services, self.limits.services)
    }

    fn watch_room(&mut self) {
        let (used, holds) = (self.endpoints, self.limits.endpoints);
        let nearly_full = check::is_nearly_full(used, holds);
        if nearly_full && !self.nearly_full {
            self.notices.push(Notice::NearlyFull { used, holds });
        }
        self.nearly_full = nearly_full;
    }
}
