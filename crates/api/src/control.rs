//! The API of a replica of control, for people: HTTP/JSON over a unix socket.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `GET /v1/control` | | [`Control`] |
//! | `GET /v1/tokens` | | `[`[`Token`]`]` |
//! | `POST /v1/tokens` | [`NewToken`] | [`MadeToken`] |
//! | `DELETE /v1/tokens/{id}` | | [`Done`] |
//! | `GET /v1/nodes` | | `[`[`Node`]`]` |
//! | `DELETE /v1/nodes/{node}` | | [`Done`]: it is withdrawn |
//! | `POST /v1/actions` | [`Act`] | [`Acted`] |
//! | `GET /v1/history/{after}/{limit}` | | `[`[`Entry`]`]`: the newest `limit` after a generation, oldest first |
//! | `GET /v1/limits` | | their values by name |
//! | `GET /v1/placement` | | `[`[`Placed`]`]` |
//! | `GET /v1/overview` | | [`Overview`] |
//! | `POST /v1/root/rotate` | | [`NewRoot`] |
//! | `GET /v1/export` | | an export of the store: lines of JSON |
//!
//! An error is an [`ErrorBody`](crate::ErrorBody) with a status of 400 to 599.

mod actions;
mod client;
mod error;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};
use sinew_model::{
    ControlName, NetworkName, NodeName, ServiceName, ZoneName,
    fleet::{Generation, Network},
};

pub use actions::{
    Act, Acted, Diff, Duty, Entry, NotUndone, Overview, Pause, Placed, Request, Zone, ZoneRadius,
};
pub use client::{Client, Export};
pub use error::Error;

/// A replica of control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Of Sinew.
    pub version: String,
    /// Its name.
    pub name: ControlName,
    /// Names it since it started: sessions say it.
    pub id: String,
    /// The network that it controls.
    pub network: NetworkName,
    /// Where hosts reach the replicas that run, this one first.
    pub addresses: Vec<String>,
    /// Up to which revision of the store it knows everything.
    pub revision: Generation,
    /// Sessions that it holds.
    pub sessions: usize,
    /// Values of the store that are of no use, by key: what was there before is in force.
    pub poisoned: BTreeMap<String, String>,
}

/// What a new join token is to allow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Only a host of that name. Also lets a host set up anew take its old name, and one that was
    /// withdrawn come back.
    #[serde(default)]
    pub node: Option<NodeName>,
    /// Only into that zone.
    #[serde(default)]
    pub zone: Option<ZoneName>,
    /// For so many seconds; an hour without it.
    #[serde(default)]
    pub life_s: Option<u64>,
    /// For so many hosts; one without it.
    #[serde(default)]
    pub uses: Option<u32>,
}

/// A new join token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeToken {
    /// Names it without telling its secret.
    pub id: String,
    /// What is to be given to who joins, and to nobody else. It is not told again.
    pub token: String,
    /// Its last second, since 1970.
    pub expires_s: u64,
    /// Where hosts reach the replicas that run.
    pub addresses: Vec<String>,
    /// What to run on the host that is to join.
    pub join: String,
}

/// Without the secret.
impl std::fmt::Debug for MadeToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MadeToken").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A join token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Names it.
    pub id: String,
    /// The one host that it is for.
    pub node: Option<NodeName>,
    /// The one zone that it is for.
    pub zone: Option<ZoneName>,
    /// When it was made, in seconds since 1970.
    pub made_s: u64,
    /// Its last second.
    pub expires_s: u64,
    /// How many may join with it.
    pub uses: u32,
    /// Who has.
    pub used: Vec<Use>,
    /// When somebody revoked it.
    pub revoked_s: Option<u64>,
    /// Whether somebody can still join with it.
    pub good: bool,
}

/// Somebody joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// As `node/web-1`.
    pub by: String,
    /// In seconds since 1970.
    pub at_s: u64,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// What it said of itself when its newest session began; `None`: it never had one.
    pub told: Option<Told>,
    /// Its newest session.
    pub session: Option<Session>,
    /// How it keeps up; told by the replica that holds its session alone.
    pub keeps_up: Option<KeepsUp>,
    /// When somebody took it out of the network, in seconds since 1970.
    pub withdrawn_s: Option<u64>,
}

/// What a host says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Where it is.
    pub zone: ZoneName,
    /// Words that placement goes by.
    pub labels: BTreeMap<String, String>,
    /// Of Sinew.
    pub version: String,
    /// Its own address, which leads to its instances.
    pub address4: Option<Ipv4Addr>,
    /// The same over IPv6.
    pub address6: Option<Ipv6Addr>,
    /// Addresses that it gives its instances.
    pub instances4: Option<Network>,
    /// The same of IPv6.
    pub instances6: Option<Network>,
    /// When it was first seen, in milliseconds since 1970.
    pub first_seen_ms: u64,
}

/// The session of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The replica that has or had it.
    pub control: String,
    /// Rises with each session of the host.
    pub epoch: u64,
    /// When it began, in milliseconds since 1970.
    pub since_ms: u64,
    /// When it was lost; `None`: it is there, or the replica that had it went without a word.
    pub lost_since_ms: Option<u64>,
    /// Whether that replica runs.
    pub control_runs: bool,
    /// When the host was declared dead, or taken out, if it was.
    #[serde(default)]
    pub dead_since_ms: Option<u64>,
}

/// How a host keeps up with what it subscribes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepsUp {
    /// Services of which it has the newest.
    pub current: usize,
    /// Those of which it has not.
    pub behind: BTreeMap<ServiceName, Behind>,
}

/// What a host has of a service, and what there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// What it has applied; `None`: nothing yet in this session.
    pub has: Option<Generation>,
    /// The newest.
    pub newest: Generation,
    /// Why it refuses it, if it does.
    pub refused: Option<String>,
}

/// The root was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRoot {
    /// The new one.
    pub fingerprint: String,
}

/// It was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}
