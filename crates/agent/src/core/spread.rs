//! Backends of other hosts beside those of this one, and how the calls of this host spread over
//! them.

use sinew_api::WorkloadState;
use sinew_datapath::{self as datapath, Backend, Wildcard};
use sinew_model::{
    Port, ServiceName, ZoneName,
    fleet::{EndpointKey, EndpointStatus},
};

use super::{Core, Instance};
use crate::{
    alloc,
    fleet::{Around, Remote, RemoteEndpoint, node_number},
    zones::{Candidate, Grain, Spills},
};

impl Core {
    /// Adds what other hosts run of a service; without any, nothing changes.
    pub(super) fn add_remote_backends(
        &mut self,
        name: &ServiceName,
        service: &mut datapath::Service,
    ) {
        let Some(remote) = self.remote(name).filter(|r| !r.endpoints.is_empty()).cloned() else {
            return;
        };
        let Some(around) = self.around().cloned() else { return };
        // One port may be out where another is well.
        let mut candidates = Vec::new();
        for port in &mut service.ports {
            let Some(position) = remote.position(port.number, port.protocol) else {
                candidates.push(Vec::new());
                continue;
            };
            let mut of_port = self.local_candidates(name, port, &around);
            for endpoint in &remote.endpoints {
                let backend = remote_backend(name, endpoint, &remote.ports[position], position);
                of_port.push(self.candidate(endpoint, backend.key, &around));
                port.backends.push(backend);
            }
            candidates.push(of_port);
        }
        self.place(name, service, &candidates, Grain::Fine, &around);
        if self.slots.has_room_for(service) {
            self.slots.note_fine(name);
        } else {
            self.place(name, service, &candidates, Grain::Coarse, &around);
            self.slots.note_coarse(name);
        }
    }

    fn place(
        &mut self,
        name: &ServiceName,
        service: &mut datapath::Service,
        candidates: &[Vec<Candidate>],
        grain: Grain,
        around: &Around,
    ) {
        let (mut spills, now) = self.spills(name);
        let mut returns = false;
        for (port, candidates) in service.ports.iter_mut().zip(candidates) {
            if candidates.is_empty() {
                continue;
            }
            let spill = spills.entry((port.number, port.protocol)).or_default();
            let places = spill.spread(&around.node, candidates, grain, now);
            returns |= spill.returns(candidates);
            for (backend, place) in port.backends.iter_mut().zip(places) {
                backend.slots = place.slots;
                backend.weight = place.weight;
            }
        }
        self.note_spills(name, spills, returns);
    }

    fn spills(&self, name: &ServiceName) -> (Spills, std::time::Duration) {
        let Some(others) = &self.others else { return Default::default() };
        let spills = others.spills.get(name).cloned().unwrap_or_default();
        (spills, self.now.saturating_duration_since(others.began))
    }

    fn local_candidates(
        &self,
        name: &ServiceName,
        port: &datapath::ServicePort,
        around: &Around,
    ) -> Vec<Candidate> {
        let serving = self.serving(name, port.protocol, port.number);
        let candidate = |(backend, instance): (&Backend, &Instance)| {
            let zone = self.zone_of(instance).unwrap_or_else(|| around.zone.clone());
            let unhealthy = instance.state() == WorkloadState::Unhealthy;
            Candidate {
                key: EndpointKey { node: around.node.clone(), instance: instance.key.replica },
                near: zone == around.zone,
                weight: backend.weight,
                well: backend.in_choice && !self.is_passed_over(backend.key),
                counts: backend.in_choice || unhealthy,
                percent: percent(around, &zone),
            }
        };
        port.backends.iter().zip(serving).map(candidate).collect()
    }

    fn candidate(&self, endpoint: &RemoteEndpoint, key: u64, around: &Around) -> Candidate {
        Candidate {
            key: endpoint.key.clone(),
            near: endpoint.zone == around.zone,
            weight: endpoint.weight.max(1),
            well: endpoint.in_choice && !self.is_passed_over(key),
            counts: matches!(endpoint.status, EndpointStatus::Up | EndpointStatus::Unhealthy),
            percent: percent(around, &endpoint.zone),
        }
    }

    fn is_passed_over(&self, key: u64) -> bool {
        self.others.as_ref().is_some_and(|others| others.unwell.contains(&key))
    }
}

fn percent(around: &Around, zone: &ZoneName) -> u8 {
    around.limited.get(zone).copied().unwrap_or(100)
}

fn remote_backend(
    service: &ServiceName,
    endpoint: &RemoteEndpoint,
    port: &Port,
    position: usize,
) -> Backend {
    Backend {
        key: endpoint.backend_key(service, port.number, port.protocol),
        address4: endpoint.address4,
        address6: endpoint.address6,
        wildcard: Wildcard::default(),
        port: endpoint.numbers.get(position).copied().unwrap_or(port.number),
        weight: endpoint.weight.max(1),
        local: false,
        zone: alloc::zone_number(endpoint.zone.as_str()),
        node: node_number(&endpoint.key.node),
        // Weight 0 is a wish for no calls.
        in_choice: endpoint.in_choice && endpoint.weight > 0,
        slots: 1,
    }
}

/// All that callers of a service may meet elsewhere.
pub(crate) fn remote_keys<'a>(
    name: &'a ServiceName,
    remote: &'a Remote,
) -> impl Iterator<Item = (&'a RemoteEndpoint, &'a Port, u64)> {
    remote.endpoints.iter().flat_map(move |endpoint| {
        remote.ports.iter().map(move |port| {
            (endpoint, port, endpoint.backend_key(name, port.number, port.protocol))
        })
    })
}
