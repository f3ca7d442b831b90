//! The wanted state of the data path.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    sync::Arc,
};

use sinew_model::{Balance, NodeName, Outlier, Protocol, fleet::Network};

/// Everything the kernel should know. Whoever changes a part of it replaces that part alone: what
/// is the same allocation as before is passed over.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Member cgroups by [`Instance::id`].
    pub instances: BTreeMap<u64, Arc<Instance>>,
    /// Services by [`Service::id`].
    pub services: BTreeMap<u32, Arc<Service>>,
    /// Who answers names; `None`: queries are left alone.
    pub resolver: Option<Resolver>,
    /// The instance networks of many hosts; `None`: this host is alone.
    pub fleet: Option<Fleet>,
}

impl Wanted {
    /// Adds an instance, or replaces the one of its number; one that is the same stays.
    pub fn set_instance(&mut self, instance: Instance) {
        if self.instances.get(&instance.id).is_none_or(|old| **old != instance) {
            self.instances.insert(instance.id, Arc::new(instance));
        }
    }

    /// Adds a service, or replaces the one of its number; one that is the same stays.
    pub fn set_service(&mut self, service: Service) {
        if self.services.get(&service.id).is_none_or(|old| **old != service) {
            self.services.insert(service.id, Arc::new(service));
        }
    }
}

/// A member cgroup.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// The agent's number, echoed in events.
    pub id: u64,
    /// Its cgroup; must exist. One that lies outside the members' carries programs of its own.
    pub cgroup: PathBuf,
    /// Number of its service; 0: none.
    pub service: u32,
    /// Its address.
    pub address4: Ipv4Addr,
    /// Its IPv6 address.
    pub address6: Ipv6Addr,
    /// Its address among those of all hosts, of this host's slice; `None`: it has none.
    pub fleet4: Option<Ipv4Addr>,
    /// The same of IPv6.
    pub fleet6: Option<Ipv6Addr>,
    /// Declared ports.
    pub ports: Vec<(Protocol, u16)>,
    /// Whether its binds go to its own address; off for an adopted cgroup.
    pub own_address: bool,
    /// Cookies of TCP listeners that an adopted program had before: made in another cgroup, they
    /// are its own all the same.
    pub brought: Vec<u64>,
    /// Whether listen() is watched: until every declared TCP port was seen listening, or for ever
    /// when published ports lead here. Costs every connection of the instance some 0.4 us while on.
    pub watch_listen: bool,
}

/// A service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its number, not 0.
    pub id: u32,
    /// Its address.
    pub address4: Ipv4Addr,
    /// Its IPv6 address.
    pub address6: Ipv6Addr,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Ports of the host that lead to it.
    pub published: Vec<Published>,
}

/// A TCP port of the host that leads to one of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Published {
    /// Where the host is called; with an unspecified address on all of its own. `::` stands for
    /// both families.
    pub host: SocketAddr,
    /// Port of the service.
    pub port: u16,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePort {
    /// Number.
    pub number: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// How backends are chosen.
    pub balance: Balance,
    /// When they are ejected.
    pub outlier: Outlier,
    /// Its backends.
    pub backends: Vec<Backend>,
}

/// A backend of a service port.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Name of the endpoint port, not 0: the same endpoint has the same key for ever, another one
    /// another. [`backend_key`](crate::backend_key) makes one.
    pub key: u64,
    /// IPv4 address.
    pub address4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub address6: Option<Ipv6Addr>,
    /// Of which families its listener is bound to every address rather than to that one, as an
    /// adopted program's may be.
    pub wildcard: Wildcard,
    /// Port it listens on.
    pub port: u16,
    /// Relative capacity; 256 is usual.
    pub weight: u32,
    /// Whether it listens on this host, so that its listener can be looked at.
    pub local: bool,
    /// Number of the host that it is on ([`Peer::number`]); 0: this one.
    pub node: u32,
    /// Number of its zone; 0: none.
    pub zone: u32,
    /// Whether it may be chosen; else it is known only (starting, draining, unhealthy).
    pub in_choice: bool,
    /// Slots in the draw: more make it likelier. 0: it is in reserve, chosen when no backend of the
    /// draw is fit.
    pub slots: u8,
}

/// Families whose listener is bound to every address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wildcard {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

/// The resolver that queries go to.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolver {
    /// Where it listens.
    pub address4: SocketAddrV4,
    /// The same port on this IPv6 address.
    pub address6: Ipv6Addr,
    /// The host's name servers, whose queries are taken over.
    pub name_servers: Vec<IpAddr>,
}

/// The instance networks of many hosts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fleet {
    /// Addresses of all instances of all hosts, by family: attempts to reach them are given up soon.
    pub networks: Vec<Network>,
    /// This host's slices, of each family at most one.
    pub slices: Vec<Network>,
    /// The other hosts by name.
    pub peers: BTreeMap<NodeName, Arc<Peer>>,
}

/// Another host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Its number, never 0.
    pub number: u32,
    /// Its own address, which leads to its slice of IPv4.
    pub address4: Option<Ipv4Addr>,
    /// The same of IPv6.
    pub address6: Option<Ipv6Addr>,
    /// Those of its own addresses that are known to be: at others nothing is closed.
    pub proven: Vec<IpAddr>,
    /// Its slices, of each family at most one.
    pub slices: Vec<Network>,
}

impl Peer {
    /// Its own address of a family.
    #[must_use]
    pub fn address_like(&self, other: IpAddr) -> Option<IpAddr> {
        match other {
            IpAddr::V4(_) => self.address4.map(IpAddr::V4),
            IpAddr::V6(_) => self.address6.map(IpAddr::V6),
        }
    }
}
