//! What this host runs, and what of it control was not told yet.

use std::collections::{BTreeMap, BTreeSet};

use sinew_model::{
    ServiceName,
    fleet::{Endpoint, ServiceRecord},
};
use sinew_proto::{Report, ServiceReport};

#[derive(Debug, Default)]
struct Own {
    record: Option<ServiceRecord>,
    endpoints: BTreeMap<u32, Endpoint>,
    /// Instances that went, with the first report that said so; 0: none yet. They are named until
    /// it, or a later one, is in the store.
    gone: BTreeMap<u32, u64>,
}

#[derive(Debug, Default)]
pub(super) struct Reports {
    own: BTreeMap<ServiceName, Own>,
    changed: BTreeSet<ServiceName>,
    /// Nothing was reported in this session.
    new: bool,
    sequence: u64,
    /// Up to there control has answered.
    answered: u64,
}

impl Reports {
    pub(super) fn set(
        &mut self,
        service: &ServiceName,
        record: Option<ServiceRecord>,
        endpoints: BTreeMap<u32, Endpoint>,
    ) {
        let own = self.own.entry(service.clone()).or_default();
        if own.record == record && own.endpoints == endpoints {
            return;
        }
        let went: Vec<_> =
            own.endpoints.keys().filter(|instance| !endpoints.contains_key(instance)).collect();
        own.gone.extend(went.into_iter().map(|instance| (*instance, 0)));
        own.gone.retain(|instance, _| !endpoints.contains_key(instance));
        own.record = record;
        own.endpoints = endpoints;
        self.changed.insert(service.clone());
    }

    /// These ran in an earlier life of the agent; what of them does not run now is gone.
    pub(super) fn ran(&mut self, service: &ServiceName, instances: impl Iterator<Item = u32>) {
        let own = self.own.entry(service.clone()).or_default();
        let before = own.gone.len();
        let gone = instances.filter(|instance| !own.endpoints.contains_key(instance));
        own.gone.extend(gone.map(|instance| (instance, 0)));
        if own.gone.len() > before {
            self.changed.insert(service.clone());
        }
    }

    pub(super) fn owes(&self, service: &ServiceName, instance: u32) -> bool {
        self.own.get(service).is_some_and(|own| own.gone.contains_key(&instance))
    }

    /// Whether control has all that there is.
    pub(super) fn are_answered(&self) -> bool {
        !self.new && self.changed.is_empty() && self.answered >= self.sequence
    }

    /// A session begins: the first report names everything.
    pub(super) fn begin(&mut self) {
        self.new = true;
    }

    pub(super) fn next(&mut self) -> Option<Report> {
        let full = std::mem::take(&mut self.new);
        let changed = std::mem::take(&mut self.changed);
        if !full && changed.is_empty() {
            return None;
        }
        self.sequence += 1;
        let sequence = self.sequence;
        let named = self.own.iter_mut().filter(|(service, _)| full || changed.contains(service));
        let services = named.map(|(service, own)| (service.clone(), own.tell(sequence))).collect();
        Some(Report { sequence, full, services })
    }

    /// The report is in the store, and so is what it says is gone.
    pub(super) fn done(&mut self, sequence: u64) {
        self.answered = self.answered.max(sequence);
        for own in self.own.values_mut() {
            own.gone.retain(|_, told| *told == 0 || *told > sequence);
        }
        let changed = &self.changed;
        self.own.retain(|service, own| {
            !own.endpoints.is_empty() || !own.gone.is_empty() || changed.contains(service)
        });
    }
}

impl Own {
    fn tell(&mut self, sequence: u64) -> ServiceReport {
        self.gone.values_mut().filter(|told| **told == 0).for_each(|told| *told = sequence);
        ServiceReport {
            record: self.record.clone(),
            endpoints: self.endpoints.clone(),
            gone: self.gone.keys().copied().collect(),
        }
    }
}
