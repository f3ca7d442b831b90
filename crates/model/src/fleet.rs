//! What hosts tell each other of their endpoints.
//!
//! A [`Generation`] is the revision of the store in which something was written last, so one number
//! orders everything that is known of all services.

mod bounds;
mod host;
mod resources;

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

pub use bounds::{MAX_WEIGHT, OutOfBounds, is_hosts_own};
pub use host::{Host, Network, NetworkError};
pub use resources::Resources;

use crate::{Balance, NodeName, Outlier, PortName, Protocol, ServiceName, ZoneName};

/// A revision of the store; 0: before the first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is known of a service beside its endpoints: the same on every host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceRecord {
    /// Ports that callers may use.
    pub ports: Vec<ServicePort>,
    /// How callers choose among the endpoints.
    #[serde(default)]
    pub balance: Balance,
    /// When an endpoint is ejected.
    #[serde(default)]
    pub outlier: Outlier,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePort {
    /// Unique in the service.
    pub name: PortName,
    /// What callers connect to.
    pub number: u16,
    /// How.
    pub protocol: Protocol,
}

/// An endpoint among those of one service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointKey {
    /// The host that runs it.
    pub node: NodeName,
    /// Its number among those of the service on that host; a restarted instance keeps it.
    pub instance: u32,
}

impl fmt::Display for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.instance)
    }
}

/// A registered instance of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Where it is reached over IPv4.
    pub address4: Option<Ipv4Addr>,
    /// Where it is reached over IPv6.
    pub address6: Option<Ipv6Addr>,
    /// Its own number for a port of the service where that differs: an adopted program keeps the
    /// port that it has.
    #[serde(default)]
    pub ports: BTreeMap<PortName, u16>,
    /// Where it is.
    pub zone: ZoneName,
    /// Its share beside others; 256 is usual.
    pub weight: u32,
    /// Whether it takes calls.
    pub status: EndpointStatus,
}

/// Whether an endpoint takes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointStatus {
    /// Not ready yet.
    Starting,
    /// In the choice.
    Up,
    /// Its health check fails.
    Unhealthy,
    /// Takes no new connections; those that it has may end.
    Draining,
}

/// Why an endpoint is gone. Only what names its reason is ever removed: what is merely missing from
/// a set may be missing by mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Removal {
    /// Its own host has told so: a fact, which no cap delays.
    Reported,
    /// Its host was declared dead.
    NodeDead,
    /// Somebody took the host or the endpoint out by hand.
    Withdrawn,
}

/// An endpoint that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// When it went: what is known of it from an earlier generation is outdated.
    pub generation: Generation,
    /// Why.
    pub removal: Removal,
}

/// All that is known of a service at a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Which.
    pub service: ServiceName,
    /// Of the newest change in it.
    pub generation: Generation,
    /// `None`: no such service.
    pub record: Option<ServiceRecord>,
    /// Those that are there.
    pub endpoints: BTreeMap<EndpointKey, Endpoint>,
    /// Those that went lately.
    pub tombstones: BTreeMap<EndpointKey, Tombstone>,
}

/// What changed of a service between two generations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Which.
    pub service: ServiceName,
    /// It applies to what is known at this generation and to nothing else.
    pub from: Generation,
    /// What is known afterwards is of this one.
    pub to: Generation,
    /// The new record, if it changed.
    pub record: Option<ServiceRecord>,
    /// Those that came or changed.
    pub put: BTreeMap<EndpointKey, Endpoint>,
    /// Those that went.
    pub removed: BTreeMap<EndpointKey, Tombstone>,
}

impl Endpoint {
    /// The number under which it serves a port of its service.
    #[must_use]
    pub fn port(&self, port: &ServicePort) -> u16 {
        self.ports.get(&port.name).copied().unwrap_or(port.number)
    }
}
