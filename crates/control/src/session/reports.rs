//! What a host reports, against what the store has of it: the next write that brings them together.
//!
//! An instance that the store has and a report lacks is removed where the host says that it is gone,
//! or had reported it in this session. What it merely lacks is removed within a cap, else held.

use std::collections::{BTreeMap, BTreeSet};

use sinew_model::{
    NodeName, ServiceName,
    fleet::{Endpoint, EndpointKey, Generation, Removal},
};
use sinew_proto::{Held, Report, Reported, ServiceReport, bounds::MAX_REASON_BYTES};

use crate::{
    records::{Key, StoredEndpoints, StoredTombstone, write as encode},
    registry::{OfNode, Owned, Registry},
    store::Op,
};

use super::{
    Refused, Write,
    bounds::{Bounds, Confined},
};

/// Operations of a write: a transaction takes more, so that several can be joined.
const MAX_OPS: usize = 60;
/// About the bytes of a write: that of a service on a host is less.
const MAX_BYTES: usize = 256 << 10;

/// Services of a host at a time: as many as it may have instances. Those that went count until the
/// store knows.
const SERVICES: usize = 16_384;
/// Instances of all of them, those that run, ran in this session, or are said to be gone: four times
/// what a host may run, for a host that replaces everything before the store has answered.
const INSTANCES: usize = 65_536;
/// Services that an answer tells of as not done: with the longest of reasons it is a message.
const TOLD: usize = 1024;

/// What a host wants the store to have.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// The newest report, until it is answered.
    sequence: Option<u64>,
    /// A full report was taken, and what it does not name is not looked for yet.
    unnamed: bool,
    wanted: BTreeMap<ServiceName, Wanted>,
    /// Those that may differ from the store.
    pending: BTreeSet<ServiceName>,
    held: BTreeMap<ServiceName, String>,
}

#[derive(Debug, Default, PartialEq)]
struct Wanted {
    report: ServiceReport,
    /// It came by a full report, which may lack something by mistake.
    full: bool,
    /// Instances that were reported in this session.
    seen: BTreeSet<u32>,
    /// What is lacking and stays; not known before the registry was asked.
    held: Option<BTreeSet<u32>>,
    /// What is lacking and goes, by the cap.
    forgone: BTreeSet<u32>,
}

impl Reports {
    /// Takes a report in the place of what it replaces.
    ///
    /// # Errors
    /// When that is more than a host runs: it is not kept.
    pub(super) fn take(&mut self, report: Report) -> Result<(), Refused> {
        let Report { sequence, full, services } = report;
        self.sequence = Some(sequence);
        if full {
            let gone = self.wanted.iter_mut().filter(|(name, _)| !services.contains_key(*name));
            for (name, wanted) in gone {
                wanted.take(ServiceReport::default(), true);
                self.pending.insert(name.clone());
            }
            self.unnamed = true;
        }
        for (name, service) in services {
            self.wanted.entry(name.clone()).or_default().take(service, full);
            self.pending.insert(name);
        }
        let (services, instances) =
            (self.wanted.len(), self.wanted.values().map(Wanted::instances));
        let instances = instances.sum();
        if services > SERVICES || instances > INSTANCES {
            *self = Self::default();
            return Err(Refused::Reports {
                services,
                instances,
                most_services: SERVICES,
                most_instances: INSTANCES,
            });
        }
        Ok(())
    }

    /// The next write. The registry has seen the one before.
    pub(super) fn next(
        &mut self,
        node: &NodeName,
        now_ms: u64,
        registry: &Registry,
    ) -> Option<Write> {
        // Without it nobody knows what is the host's.
        let bounds = Bounds::of(registry.node(node).1?);
        if std::mem::take(&mut self.unnamed) {
            for name in registry.services_of(node) {
                let wanted = self.wanted.entry(name.clone());
                wanted.or_insert_with(|| Wanted { full: true, ..Wanted::default() });
                self.pending.insert(name.clone());
            }
        }
        let mut write = Write::default();
        let mut pending = std::mem::take(&mut self.pending);
        while let Some(name) = pending.pop_first() {
            if write.len() >= MAX_OPS || write.bytes() >= MAX_BYTES {
                pending.insert(name);
                break;
            }
            let Some(wanted) = self.wanted.get_mut(&name) else { continue };
            let of = registry.of_node(&name, node);
            let all = registry.endpoints(&name);
            if let Some(why) = wanted.no_room(of, registry) {
                self.held.insert(name, why);
                continue;
            }
            let before = write.len();
            let confined = bounds.confine(&wanted.report.endpoints);
            let mut held = wanted.hold(&name, of, now_ms, registry).into_iter().collect::<Vec<_>>();
            let room = MAX_OPS.saturating_sub(write.len()).max(4);
            let most = registry.config().limits().service_endpoints;
            let more = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(all);
            let taken = Taken { name: &name, node, of, confined: &confined, bounds };
            let refused = wanted.write_endpoints(taken, [room, more], now_ms, &mut write);
            held.extend((refused > 0).then(|| {
                format!(
                    "{refused} of its endpoints on the host are not taken: a service has at most \
                     {most}, which `sinew limits set service_endpoints=NUMBER` changes"
                )
            }));
            held.extend(confined.words(bounds));
            held.extend(wanted.write_record(&name, node, of, all, &mut write));
            match words(&held) {
                Some(why) => drop(self.held.insert(name.clone(), why)),
                None => drop(self.held.remove(&name)),
            }
            if write.len() > before {
                // It is looked at again when this is done.
                self.pending.insert(name);
            } else if wanted.is_nothing() {
                self.wanted.remove(&name);
            }
        }
        self.pending.append(&mut pending);
        (!write.is_empty()).then_some(write)
    }

    /// The answer to the newest report, when the store has it.
    pub(super) fn done(&mut self, registry: &Registry) -> Option<Reported> {
        if !self.pending.is_empty() || self.unnamed {
            return None;
        }
        let sequence = self.sequence.take()?;
        let held = |(service, reason): (&ServiceName, &String)| Held {
            service: service.clone(),
            reason: reason.clone(),
        };
        let held = self.held.iter().take(TOLD).map(held).collect();
        Some(Reported { sequence, generation: Generation(registry.revision().0), held })
    }
}

impl Wanted {
    fn take(&mut self, mut report: ServiceReport, full: bool) {
        let there = &report.endpoints;
        // What was said to be gone stays so until it is back: it may not have been written yet.
        report.gone.extend(self.report.gone.iter().filter(|it| !there.contains_key(it)));
        self.seen.extend(there.keys());
        if let Some(held) = &mut self.held {
            held.retain(|it| !there.contains_key(it) && !report.gone.contains(it));
        }
        // What the service is, is told when it changes; nothing of it at all: it is offered no more.
        if report.record.is_none() && !report.endpoints.is_empty() {
            report.record = self.report.record.take();
        }
        (self.report, self.full) = (report, full);
    }

    /// How many it names.
    fn instances(&self) -> usize {
        let Self { report, seen, held, forgone, full: _ } = self;
        let held = held.as_ref().map_or(0, BTreeSet::len);
        report.endpoints.len() + report.gone.len() + seen.len() + held + forgone.len()
    }

    /// Decides, once in a session, what stays though the report lacks it; in words, if something does.
    fn hold(
        &mut self,
        name: &ServiceName,
        of: OfNode<'_>,
        now_ms: u64,
        registry: &Registry,
    ) -> Option<String> {
        let none = StoredEndpoints::new();
        let stored = of.endpoints.unwrap_or(&none);
        let there = &self.report.endpoints;
        self.report.gone.retain(|it| stored.contains_key(it));
        self.seen.retain(|it| stored.contains_key(it) || there.contains_key(it));
        let explained = |it: &u32| {
            there.contains_key(it) || self.report.gone.contains(it) || self.seen.contains(it)
        };
        let percent = registry.config().limits().removal_cap_percent;
        let all = registry.endpoints(name);
        if self.held.is_none() {
            let lacking: BTreeSet<u32> =
                stored.keys().filter(|it| !explained(it)).copied().collect();
            let gone = registry.removed_lately(name, now_ms);
            let allowed = ((all + gone) * usize::from(percent) / 100).saturating_sub(gone);
            let goes = lacking.len() <= allowed;
            let (held, forgone) =
                if goes { (BTreeSet::new(), lacking) } else { (lacking, BTreeSet::new()) };
            (self.held, self.forgone) = (Some(held), forgone);
        }
        let held = self.held.get_or_insert_default();
        held.retain(|it| stored.contains_key(it));
        (!held.is_empty()).then(|| {
            format!(
                "{} of its endpoints on the host are not in the report, and it does not say that \
                 they are gone; more than {percent} % of {all} are not removed like that",
                held.len()
            )
        })
    }

    /// Why a service that is new is not taken; it is tried again with the next report of it.
    fn no_room(&self, of: OfNode<'_>, registry: &Registry) -> Option<String> {
        let most = registry.config().limits().services;
        let is_new = of.owned.is_none() && *self != Self::default();
        let full = is_new && registry.offered() >= usize::try_from(most).ok()?;
        full.then(|| {
            format!(
                "the service is not taken: there are at most {most}, which `sinew limits set \
                 services=NUMBER` changes"
            )
        })
    }

    /// Endpoints, tombstones of those that go, and an end to tombstones of those that come back. Room
    /// is for so many operations, and so many new endpoints; how many are refused is answered.
    fn write_endpoints(
        &self,
        taken: Taken<'_>,
        [room, mut more]: [usize; 2],
        now_ms: u64,
        write: &mut Write,
    ) -> usize {
        let Taken { name, node, of, confined, bounds } = taken;
        let none = StoredEndpoints::new();
        let stored = of.endpoints.unwrap_or(&none);
        let stays = |it: &u32| self.held.as_ref().is_some_and(|held| held.contains(it));
        let mut next = stored.clone();
        let mut left = room.saturating_sub(2);
        let tombstone = |instance: u32| {
            let key = EndpointKey { node: node.clone(), instance };
            Key::Tombstone(name.clone(), key).bytes()
        };
        let mut ops = Vec::new();
        let mut refused = 0;
        for (instance, endpoint) in &confined.endpoints {
            if !stored.contains_key(instance) {
                if more == 0 {
                    refused += 1;
                    continue;
                }
                more -= 1;
            }
            if of.is_buried(node, *instance) {
                if left == 0 {
                    continue;
                }
                left -= 1;
                ops.push(Op::delete(tombstone(*instance)));
            }
            next.insert(*instance, endpoint.clone());
        }
        let reported =
            |capped| encode(&StoredTombstone { removal: Removal::Reported, at_ms: now_ms, capped });
        let removals = [reported(false), reported(true)];
        // What was the host's own address may be another's now.
        let goes = |(it, endpoint): &(&u32, &Endpoint)| match confined.outside.contains_key(it) {
            true => bounds.outside(endpoint).is_some(),
            false => !confined.endpoints.contains_key(it) && !stays(it),
        };
        for (instance, _) in stored.iter().filter(goes).take(left) {
            next.remove(instance);
            let forgone = usize::from(self.forgone.contains(instance));
            ops.push(Op::put(tombstone(*instance), removals[forgone].clone()));
        }
        if next == *stored {
            return refused;
        }
        let key = Key::Endpoints(name.clone(), node.clone());
        let bytes = key.bytes();
        write.compare(&key, of.revision);
        let put = if next.is_empty() { Op::delete(bytes) } else { Op::put(bytes, encode(&next)) };
        [put].into_iter().chain(ops).for_each(|op| write.push(op));
        refused
    }

    /// What the service is. In words, when another host says otherwise.
    fn write_record(
        &self,
        name: &ServiceName,
        node: &NodeName,
        of: OfNode<'_>,
        all: usize,
        write: &mut Write,
    ) -> Option<String> {
        let none = Owned::default();
        let Owned { revision, service } = of.owned.unwrap_or(&none);
        let mut next = service.clone();
        let mut holds = true;
        match &self.report.record {
            Some(record) => holds = next.say(node, record),
            None if self.leaves() => {
                let own = of.endpoints.map_or(0, BTreeMap::len);
                if next.leave(node) && next.owners.is_empty() && all == own {
                    next.record = None;
                }
            }
            None => (),
        }
        if next != *service {
            let key = Key::Service(name.clone());
            let bytes = key.bytes();
            write.compare(&key, *revision);
            write.push(Op::put(bytes, encode(&next)));
        }
        (!holds).then(|| {
            "other hosts that offer it say otherwise what it is: what most of them say holds, and on \
             a tie what held before"
                .to_owned()
        })
    }

    /// Whether it is as if nothing had been reported.
    fn is_nothing(&self) -> bool {
        let Self { report, held, seen, forgone: _, full: _ } = self;
        *report == ServiceReport::default()
            && seen.is_empty()
            && held.as_ref().is_none_or(BTreeSet::is_empty)
    }

    /// Whether the host says that it has nothing of the service any more.
    fn leaves(&self) -> bool {
        let nothing_held = self.held.as_ref().is_none_or(BTreeSet::is_empty);
        !self.full && self.report.endpoints.is_empty() && nothing_held
    }
}

/// What a write of endpoints goes by.
#[derive(Clone, Copy)]
struct Taken<'a> {
    name: &'a ServiceName,
    node: &'a NodeName,
    of: OfNode<'a>,
    confined: &'a Confined,
    bounds: Bounds<'a>,
}

/// All that was not done, as one reason.
fn words(held: &[String]) -> Option<String> {
    let mut all = held.join("; ");
    if all.len() > MAX_REASON_BYTES {
        all.truncate(all.floor_char_boundary(MAX_REASON_BYTES));
    }
    (!all.is_empty()).then_some(all)
}
