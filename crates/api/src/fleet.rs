//! A host among others, in the API's words.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};
use sinew_model::{
    NodeName, ServiceName, ZoneName,
    fleet::{Generation, Network},
};

/// How a host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the agent.
    pub version: String,
    /// When it started, milliseconds since 1970.
    pub started_at_ms: u64,
    /// Its place among other hosts; `None`: it has joined no network.
    pub fleet: Option<FleetStatus>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// A host's place among others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetStatus {
    /// Its name.
    pub node: NodeName,
    /// Where it is.
    pub zone: ZoneName,
    /// Where control is looked for.
    pub control: Vec<String>,
    /// Its own addresses, as the others reach it.
    pub addresses: Vec<IpAddr>,
    /// Networks from which it gives its instances addresses.
    pub slices: Vec<Network>,
    /// The session with control; `None`: there is none, and what is known stays in use.
    pub session: Option<SessionStatus>,
    /// Why there is none, when there was.
    pub lost: Option<String>,
    /// Of the newest change that is known.
    pub revision: Generation,
    /// Other hosts.
    pub hosts: BTreeMap<NodeName, ZoneName>,
    /// Names of services of all hosts.
    pub names: usize,
    /// Services that this host hears of, with the generation of what is known.
    pub subscribed: BTreeMap<ServiceName, Generation>,
    /// Endpoints that may be gone and are kept in use.
    pub doubts: Vec<Doubtful>,
    /// What control said that could not be followed: what was known before stays in use.
    pub refused: Vec<RefusedService>,
    /// What zones get of their share of calls, in percent, where that is less than all.
    pub limited_zones: BTreeMap<ZoneName, u8>,
    /// By which the host shows who it is; `None`: it has none, and joins again by a fresh token.
    pub certificate: Option<CertificateStatus>,
    /// What else there is to know: hosts in doubt, what control did not take, routes to others that are
    /// not in force.
    pub notices: Vec<String>,
}

/// A session with control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// The replica.
    pub control: String,
    /// Rises with each session of the host.
    pub epoch: u64,
    /// For how long it has been open, in seconds.
    pub open_s: u64,
}

/// An endpoint that may be gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubtful {
    /// Of which service.
    pub service: ServiceName,
    /// As `NODE/INSTANCE`.
    pub endpoint: String,
    /// Why it may be.
    pub why: String,
}

/// A service of which control said what could not be followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedService {
    /// Which.
    pub service: ServiceName,
    /// Of what was said.
    pub generation: Generation,
    /// Why not.
    pub reason: String,
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Its last second, as `2026-11-21T23:45:00Z`.
    pub until: String,
    /// The same in seconds since 1970.
    pub until_s: u64,
    /// What is wrong with it, or with its renewal.
    pub alarm: Option<String>,
}
