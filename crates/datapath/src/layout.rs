//! From the wanted state to the contents of the maps: a pure core over a [`Tables`] trait, so that
//! the kernel's maps and a test's vectors are written by the same code.
//!
//! What changes at once for a caller is one hash value, [`sinew_abi::Service`]: new slots are
//! written into a fresh region, the value is replaced, and the old region and the backends that
//! left are used again only after a grace period, when no program run can still hold them.

mod delta;
mod demand;
mod elsewhere;
mod ledger;
mod ports;
mod published;
mod regions;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use sinew_abi as abi;
use sinew_model::Protocol;

use crate::Error;

pub(crate) use delta::{Applied, Delta};
pub(crate) use ledger::{Ledger, Member};
#[cfg(test)]
mod tests;

/// Where the layout is written.
pub(crate) trait Tables {
    fn backend(&self, index: u32) -> abi::Backend;
    fn set_backend(&mut self, index: u32, value: &abi::Backend);
    /// Zeroes a backend's counters and gives them its new generation.
    fn reset_hot(&mut self, index: u32, generation: u32);
    fn slot(&self, index: u32) -> u32;
    fn set_slot(&mut self, index: u32, backend: u32);
    /// Settings of a service port, by its index.
    fn set_port(&mut self, index: u32, region: &abi::Region, outlier: &abi::Outlier);
    /// What a service port is called, by its index.
    fn set_port_name(&mut self, index: u32, name: &abi::PortName);
    fn services4(&self) -> Result<Vec<(abi::ServiceKey4, abi::Service)>, Error>;
    fn services6(&self) -> Result<Vec<(abi::ServiceKey6, abi::Service)>, Error>;
    fn put_service4(&mut self, key: &abi::ServiceKey4, value: &abi::Service) -> Result<(), Error>;
    fn put_service6(&mut self, key: &abi::ServiceKey6, value: &abi::Service) -> Result<(), Error>;
    fn remove_service4(&mut self, key: &abi::ServiceKey4) -> Result<(), Error>;
    fn remove_service6(&mut self, key: &abi::ServiceKey6) -> Result<(), Error>;
    fn published(&self) -> Result<Vec<(abi::PublishedKey, abi::ServiceKey4)>, Error>;
    fn put_published(
        &mut self,
        key: &abi::PublishedKey,
        value: &abi::ServiceKey4,
    ) -> Result<(), Error>;
    fn remove_published(&mut self, key: &abi::PublishedKey) -> Result<(), Error>;
    /// Whether `port` (host byte order) may be published.
    fn mark_published(&mut self, port: u16, may_be: bool);
    fn listen_keys(&self) -> Result<Vec<(abi::ListenKey, abi::ListenValue)>, Error>;
    fn put_listen_key(
        &mut self,
        key: &abi::ListenKey,
        value: &abi::ListenValue,
    ) -> Result<(), Error>;
    fn remove_listen_key(&mut self, key: &abi::ListenKey) -> Result<(), Error>;
    /// Where other hosts reach instances.
    fn fleet_ports(&self) -> Result<Vec<(abi::FleetKey, abi::FleetPort)>, Error>;
    fn put_fleet_port(&mut self, key: &abi::FleetKey, value: &abi::FleetPort) -> Result<(), Error>;
    fn remove_fleet_port(&mut self, key: &abi::FleetKey) -> Result<(), Error>;
    /// Listeners that adopted programs had, by their cookies, and their services.
    fn adopted_listeners(&self) -> Result<Vec<(u64, u32)>, Error>;
    fn put_adopted_listener(&mut self, cookie: u64, service: u32) -> Result<(), Error>;
    fn remove_adopted_listener(&mut self, cookie: u64) -> Result<(), Error>;
    /// Forgets the listeners of a backend.
    fn remove_listeners(&mut self, index: u32) -> Result<(), Error>;
    fn instances(&self) -> Result<Vec<(u64, abi::Instance)>, Error>;
    fn put_instance(&mut self, cgroup: u64, value: &abi::Instance) -> Result<(), Error>;
    fn remove_instance(&mut self, cgroup: u64) -> Result<(), Error>;
    /// Waits until no program run that began before can still hold what was taken out.
    fn grace_period(&mut self) -> Result<(), Error>;
}

/// A key for a backend: the same endpoint port gives the same key, on every start and host.
/// `epoch` tells apart instances that reuse a name (a process that was replaced).
pub fn backend_key(service: u32, replica: u32, port: u16, protocol: Protocol, epoch: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (service, replica, port, protocol, epoch).hash(&mut hasher);
    hasher.finish().max(1)
}

pub(crate) fn addr4(address: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(address.octets())
}

pub(crate) fn addr6(address: Ipv6Addr) -> [u32; 4] {
    let octets = address.octets();
    std::array::from_fn(|i| {
        u32::from_ne_bytes([octets[4 * i], octets[4 * i + 1], octets[4 * i + 2], octets[4 * i + 3]])
    })
}

/// As records hold it: an IPv4 address behind `::ffff:`.
pub(crate) fn mapped(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(v4) => addr6(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => addr6(v6),
    }
}

/// The address of a record.
pub(crate) fn unmapped(words: &[u32; 4]) -> IpAddr {
    let mut octets = [0; 16];
    for (i, word) in words.iter().enumerate() {
        octets[4 * i..4 * i + 4].copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Addr::from(octets).to_canonical()
}

pub(crate) fn protocol_number(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Tcp => abi::protocol::TCP,
        Protocol::Udp => abi::protocol::UDP,
    }
}
