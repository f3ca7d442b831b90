//! Which services this host wants to hear of: those that are used, and those that are configured.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use sinew_model::{ServiceName, fleet::Generation};
use sinew_proto::FromAgent;

/// Names in one message.
const BATCH: usize = 1000;

#[derive(Debug)]
struct Use {
    /// When it was used last.
    at: Instant,
    configured: bool,
    /// What is known of it; 0: nothing.
    generation: Generation,
}

/// What control does not know of a service yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Untold {
    Wanted,
    /// All of it, though it is subscribed to.
    WantedAgain,
    Unwanted,
}

#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    uses: BTreeMap<ServiceName, Use>,
    untold: BTreeMap<ServiceName, Untold>,
    /// Control is busy until then.
    paused: Option<Instant>,
}

impl Subscriptions {
    pub(super) fn has(&self, service: &ServiceName) -> bool {
        self.uses.contains_key(service)
    }

    /// What is known from before.
    pub(super) fn found(&mut self, now: Instant, service: ServiceName, generation: Generation) {
        self.uses.insert(service, Use { at: now, configured: false, generation });
    }

    pub(super) fn used(&mut self, now: Instant, service: &ServiceName) {
        if let Some(known) = self.uses.get_mut(service) {
            known.at = known.at.max(now);
            return;
        }
        // One that was given up without a word is given up first.
        let untold = match self.untold.get(service) {
            Some(_) => Untold::WantedAgain,
            None => Untold::Wanted,
        };
        self.untold.insert(service.clone(), untold);
        self.found(now, service.clone(), Generation(0));
    }

    /// What is not configured any more lives on by its use, from now.
    pub(super) fn configure(&mut self, now: Instant, services: BTreeSet<ServiceName>) {
        for (service, known) in &mut self.uses {
            let configured = services.contains(service);
            if known.configured && !configured {
                known.at = known.at.max(now);
            }
            known.configured = configured;
        }
        for service in services {
            self.used(now, &service);
            if let Some(known) = self.uses.get_mut(&service) {
                known.configured = true;
            }
        }
    }

    pub(super) fn ask(&mut self, service: &ServiceName) {
        if self.has(service) {
            self.untold.entry(service.clone()).or_insert(Untold::WantedAgain);
        }
    }

    pub(super) fn applied(&mut self, service: &ServiceName, generation: Generation) {
        if let Some(known) = self.uses.get_mut(service) {
            known.generation = generation;
        }
    }

    /// Drops what nobody used for so long.
    pub(super) fn expire(&mut self, now: Instant, unused_after: Duration) -> Vec<ServiceName> {
        let unused = |known: &Use| !known.configured && known.at + unused_after <= now;
        let gone: Vec<_> = self
            .uses
            .iter()
            .filter(|(_, k)| unused(k))
            .map(|(service, _)| service.clone())
            .collect();
        for service in &gone {
            self.uses.remove(service);
            self.untold.insert(service.clone(), Untold::Unwanted);
        }
        gone
    }

    pub(super) fn next_expiry(&self, unused_after: Duration) -> Option<Instant> {
        let used = self.uses.values().filter(|known| !known.configured);
        used.map(|known| known.at + unused_after).min()
    }

    pub(super) fn known(&self) -> BTreeMap<ServiceName, Generation> {
        self.uses.iter().map(|(service, known)| (service.clone(), known.generation)).collect()
    }

    pub(super) fn forget_generations(&mut self) {
        self.uses.values_mut().for_each(|known| known.generation = Generation(0));
    }

    /// The greeting told all.
    pub(super) fn begin(&mut self) {
        self.untold.clear();
        self.paused = None;
    }

    /// Control will not send snapshots before. What is still without one then is asked for again.
    pub(super) fn pause(&mut self, until: Instant) {
        self.paused = Some(until);
        let without = self.uses.iter().filter(|(_, known)| known.generation == Generation(0));
        for service in without.map(|(service, _)| service.clone()) {
            self.untold.entry(service).or_insert(Untold::Wanted);
        }
    }

    /// Those that are given up are told first: their places may be wanted.
    pub(super) fn next(&mut self, now: Instant) -> Option<FromAgent> {
        let unwanted = self.take(|untold| untold != Untold::Wanted);
        if !unwanted.is_empty() {
            return Some(FromAgent::Unsubscribe(unwanted));
        }
        if self.paused.is_some_and(|until| now < until) {
            return None;
        }
        self.paused = None;
        let wanted = self.take(|untold| untold == Untold::Wanted);
        (!wanted.is_empty()).then_some(FromAgent::Subscribe(wanted))
    }

    /// When there will be something to tell that is not told now.
    pub(super) fn paused(&self) -> Option<Instant> {
        self.paused
    }

    fn take(&mut self, which: impl Fn(Untold) -> bool) -> Vec<ServiceName> {
        let batch = self.untold.iter().filter(|(_, untold)| which(**untold)).take(BATCH);
        let batch: Vec<_> = batch.map(|(service, untold)| (service.clone(), *untold)).collect();
        for (service, untold) in &batch {
            if *untold == Untold::WantedAgain {
                self.untold.insert(service.clone(), Untold::Wanted);
            } else {
                self.untold.remove(service);
            }
        }
        batch.into_iter().map(|(service, _)| service).collect()
    }
}
