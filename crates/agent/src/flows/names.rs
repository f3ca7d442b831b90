//! What the kernel's numbers are called.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use sinew_datapath::{Flow, FlowBackend};
use sinew_model::{Protocol, ServiceName};

use crate::core::instance_of;

/// Callers that are of no service.
pub(crate) const EXEC: &str = "exec";
/// Callers that are no members and come by a published port.
pub(crate) const OUTSIDE: &str = "outside";
/// Remembered at most, of each kind; beyond it is learnt anew.
const REMEMBERED: usize = 1 << 16;

/// Names of what is here, and of what was: a connection may be told of after its ends are gone.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// By number.
    pub(crate) services: HashMap<u32, ServiceName>,
    /// By address.
    pub(crate) addresses: HashMap<IpAddr, ServiceName>,
    /// Of instances by number: name and service.
    pub(crate) instances: HashMap<u32, (String, Option<ServiceName>)>,
    /// TCP ports of services.
    pub(crate) streams: HashMap<(ServiceName, u16), ()>,
    backends: HashMap<FlowBackend, u64>,
}

/// Whether a look-up of names may have made it.
fn looks_up(flow: &Flow) -> bool {
    flow.verdict == sinew_abi::verdict::NO_SUCH_PORT && flow.protocol == Protocol::Udp
}

/// Whether its caller came by a published port: then the instance is the one that served it.
pub(super) fn is_outside(flow: &Flow) -> bool {
    flow.source == sinew_abi::OUTSIDE
}

fn number(instance: u64) -> u32 {
    u32::try_from(instance).unwrap_or(0)
}

impl Names {
    /// Adds what `newer` knows.
    pub(super) fn learn(&mut self, newer: Self) {
        merge(&mut self.services, newer.services);
        merge(&mut self.addresses, newer.addresses);
        merge(&mut self.instances, newer.instances);
        merge(&mut self.streams, newer.streams);
    }

    pub(super) fn unknown_backends(&self, flows: &[Flow]) -> HashSet<FlowBackend> {
        let backends = flows.iter().filter_map(|flow| flow.backend);
        backends.filter(|backend| !self.backends.contains_key(backend)).collect()
    }

    pub(super) fn add_backends(&mut self, keys: impl IntoIterator<Item = (FlowBackend, u64)>) {
        merge(&mut self.backends, keys);
    }

    /// Whether every name of `flow` is known that there may be.
    pub(super) fn know(&self, flow: &Flow) -> bool {
        let known = |number: u32, known: bool| number == 0 || known;
        let called = match flow.destination {
            0 => self.addresses.contains_key(&flow.address),
            number => self.services.contains_key(&number),
        };
        let backend =
            flow.backend.and_then(|b| self.backends.get(&b)).map_or(0, |k| instance_of(*k));
        let caller = number(flow.instance);
        called
            && (!looks_up(flow) || self.is_look_up(flow))
            && (is_outside(flow) || known(flow.source, self.services.contains_key(&flow.source)))
            && known(caller, self.instances.contains_key(&caller))
            && known(backend, self.instances.contains_key(&backend))
    }

    /// Whether a look-up of names made it, no call: to sort the addresses of a TCP service,
    /// getaddrinfo() connects datagram sockets to them and sends nothing.
    pub(super) fn is_look_up(&self, flow: &Flow) -> bool {
        let of_service = |name| flow.port == 0 || self.streams.contains_key(&(name, flow.port));
        looks_up(flow) && self.destination(flow).is_some_and(of_service)
    }

    pub(super) fn source(&self, flow: &Flow) -> String {
        if is_outside(flow) {
            return OUTSIDE.to_owned();
        }
        let by_instance =
            || self.instances.get(&number(flow.instance)).and_then(|(_, service)| service.as_ref());
        match self.services.get(&flow.source).or_else(by_instance) {
            Some(service) => service.to_string(),
            None if flow.source == 0 => EXEC.to_owned(),
            None => flow.source.to_string(),
        }
    }

    pub(super) fn destination(&self, flow: &Flow) -> Option<ServiceName> {
        let by_address = || self.addresses.get(&flow.address);
        self.services.get(&flow.destination).or_else(by_address).cloned()
    }

    pub(super) fn backend(&self, flow: &Flow) -> Option<String> {
        let instance = match is_outside(flow) {
            true => number(flow.instance),
            false => instance_of(*self.backends.get(&flow.backend?)?),
        };
        self.instances.get(&instance).map(|(name, _)| name.clone())
    }
}

fn merge<K: std::hash::Hash + Eq, V>(
    known: &mut HashMap<K, V>,
    newer: impl IntoIterator<Item = (K, V)>,
) {
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.extend(newer);
}
