//! Requests, answers and events.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use sinew_model::{NodeName, Port, ProjectName, Protocol, Publish, ServiceName, ZoneName};

/// The agent and what it found on its machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Version of the binary.
    pub version: String,
    /// Version of the kernel ABI.
    pub abi_version: u32,
    /// Its process.
    pub pid: u32,
    /// When it started, milliseconds since 1970.
    pub started_at_ms: u64,
    /// The cgroup that holds all members.
    pub cgroup: PathBuf,
    /// Where programs and maps are pinned.
    pub pins: PathBuf,
    /// Where the metrics are served over TCP besides the API.
    #[serde(default)]
    pub metrics: Option<SocketAddr>,
    /// Kernel programs that the members should have and lack.
    #[serde(default)]
    pub missing: Vec<String>,
    /// Cgroups whose processes call services without being members.
    #[serde(default)]
    pub reach: Vec<ReachedCgroup>,
    /// Endpoints that Sinew did not start.
    #[serde(default)]
    pub adopted: Vec<AdoptedEndpoint>,
    /// Programs of the host that published ports keep from being called.
    #[serde(default)]
    pub shadowed: Vec<Shadowed>,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// A cgroup whose processes call services without being members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachedCgroup {
    /// Where it lies.
    pub cgroup: PathBuf,
    /// Kernel programs that it should carry and does not: all of them when it is not there.
    pub missing: Vec<String>,
}

/// A program of the host that listens where a published port is: the kernel hands connections to
/// the service, and the program gets none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadowed {
    /// The service that is published.
    pub service: ServiceName,
    /// Where.
    pub published: SocketAddr,
    /// Where the program listens.
    pub listens_at: SocketAddr,
    /// As `nginx (process 4711)`; `None`: it was not found.
    pub program: Option<String>,
}

/// An endpoint that Sinew did not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedEndpoint {
    /// As `SERVICE/REPLICA`.
    pub endpoint: String,
    /// What was adopted, as `unit redis.service`.
    pub adopted: String,
    /// How it is.
    pub state: WorkloadState,
    /// Kernel programs that its cgroup should carry and does not.
    pub missing: Vec<String>,
}

/// A project that is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectStatus {
    /// Its name.
    pub name: ProjectName,
    /// Raised with every applied change.
    pub generation: u64,
    /// Its services.
    pub services: Vec<ServiceName>,
    /// Whether every wanted instance is up.
    pub ready: bool,
}

/// A service and its endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: ServiceName,
    /// Project that owns it; `None`: `sinew run` or `sinew adopt` made it.
    pub project: Option<ProjectName>,
    /// Its address, for ever the same.
    pub address4: Ipv4Addr,
    /// Its IPv6 address.
    pub address6: Ipv6Addr,
    /// Its ports.
    pub ports: Vec<Port>,
    /// Ports of the host that lead to it.
    #[serde(default)]
    pub published: Vec<Publish>,
    /// Programs of the host that these ports keep from being called.
    #[serde(default)]
    pub shadowed: Vec<Shadowed>,
    /// Instances wanted.
    pub replicas: u16,
    /// Instances that are up.
    pub up: u16,
    /// Its endpoints.
    pub endpoints: Vec<EndpointStatus>,
}

/// A port of an instance, as callers find it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Instance, as `orders/2`; on another host as `orders/2@NODE`.
    pub workload: String,
    /// The host that it is on; `None`: this one.
    #[serde(default)]
    pub node: Option<NodeName>,
    /// Where that host is.
    #[serde(default)]
    pub zone: Option<ZoneName>,
    /// Where callers are connected to: the instance's own address, or, of an adopted one, the one
    /// that it listens on.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Starting, up, draining or down.
    pub state: WorkloadState,
    /// Open connections.
    pub active: u32,
    /// Connections since the backend was made.
    pub connections: u64,
    /// Connects refused, reset or not answered.
    pub failures: u64,
    /// Of these, refused.
    #[serde(default)]
    pub refused: u64,
    /// Of these, reset.
    #[serde(default)]
    pub reset: u64,
    /// Of these, not answered.
    #[serde(default)]
    pub timed_out: u64,
    /// Times it was passed over because it did not accept what waited.
    #[serde(default)]
    pub hung: u32,
    /// Whether the kernel holds it ejected.
    pub ejected: bool,
    /// Whether its host, another one, has left calls without an answer: callers pass it by.
    #[serde(default)]
    pub suspect: bool,
    /// Times it was ejected.
    pub ejections: u64,
    /// Smoothed connect time.
    pub connect_us: u32,
    /// Connect times, microseconds: as [`EdgeStatus::connect_us`], with two buckets an octave. Empty
    /// as well when there are so many endpoints that the kernel keeps none of this one.
    #[serde(default)]
    pub connect_histogram: Vec<u64>,
    /// Lives of connections, likewise.
    #[serde(default)]
    pub duration_histogram: Vec<u64>,
    /// Bytes sent to it.
    pub sent_bytes: u64,
    /// Bytes received from it.
    pub received_bytes: u64,
}

/// What was counted of the calls from one service to another since the edge was first used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeStatus {
    /// Calling service; `exec`: members of none; `outside`: who comes by a published port.
    pub source: String,
    /// Service called; `None`: an address or a port that no service has.
    pub destination: Option<ServiceName>,
    /// Open connections.
    pub active: u64,
    /// Calls that got a backend.
    pub connects: u64,
    /// Refused by the backend.
    pub refused: u64,
    /// Reset by the backend.
    pub reset: u64,
    /// Never answered.
    pub timed_out: u64,
    /// Given up by the caller.
    pub cancelled: u64,
    /// Refused because there was no backend or no such port.
    pub no_backend: u64,
    /// Failures after which a backend was ejected.
    #[serde(default)]
    pub ejections: u64,
    /// Sent by callers, of connections that are over.
    pub sent_bytes: u64,
    /// Received by callers, of connections that are over.
    pub received_bytes: u64,
    /// Connect times, microseconds: entries of each bucket of a log-linear histogram, four buckets
    /// an octave; empty ones at the end are left out. Histograms are merged by adding, and what
    /// came between two of them is their difference.
    pub connect_us: Vec<u64>,
    /// Lives of connections, likewise.
    pub duration_us: Vec<u64>,
}

/// Where a workload stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadState {
    /// Waits for the services it depends on.
    Waiting,
    /// Runs, but does not listen or is not healthy yet.
    Starting,
    /// Takes connections.
    Up,
    /// Listens, but its health check fails.
    Unhealthy,
    /// Takes no new connections; those it has may end.
    Draining,
    /// Exited; will be started again when the back-off ends.
    BackingOff,
    /// Exited and stays down.
    Exited,
    /// Stopped by the user.
    Stopped,
}

/// A workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkloadStatus {
    /// Service; `None` for `sinew exec`.
    pub service: Option<ServiceName>,
    /// Number in its service, from 0.
    pub replica: u32,
    /// Where it stands.
    pub state: WorkloadState,
    /// Main process, while there is one.
    pub pid: Option<u32>,
    /// Its address.
    pub address: Ipv4Addr,
    /// When its process started, milliseconds since 1970.
    pub started_at_ms: Option<u64>,
    /// Times it was started again.
    pub restarts: u32,
    /// Why it stands there, in words: the last exit, the failing check.
    pub reason: Option<String>,
    /// What it runs, in a line.
    pub command: String,
    /// What was adopted, as `unit nginx.service`; `None`: Sinew or its user started it as a member.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub adopted: Option<String>,
}

/// How many instances are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// 0 to 1024.
    pub replicas: u16,
}

/// Makes the calling process a member: with a service (`sinew run`) an instance of it, else
/// (`sinew exec`) a caller only. The peer credentials of the socket name the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    /// Service to be an instance of.
    pub service: Option<ServiceName>,
    /// Ports it will listen on.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// What will run, for `sinew ps`.
    pub command: String,
}

/// See [`Attach`]. The process is in its cgroup when this answer arrives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Number in its service.
    pub replica: u32,
    /// Address of the instance.
    pub address: Ipv4Addr,
    /// Variables to add before exec.
    pub env: BTreeMap<String, String>,
}

/// Makes what runs already an endpoint of a service, where it listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopt {
    /// What runs already.
    pub target: AdoptTarget,
    /// Service to be an endpoint of.
    pub service: ServiceName,
    /// Ports it listens on, or will.
    pub ports: Vec<Port>,
}

/// What runs already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdoptTarget {
    /// A systemd unit; a service unless its name has another suffix.
    Unit(String),
    /// A process and its descendants.
    Pid(u32),
    /// A cgroup of version 2, by its path in the file system or below the root of the hierarchy.
    Cgroup(PathBuf),
}

/// See [`Adopt`]. It is in force when this answer arrives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Service.
    pub service: ServiceName,
    /// Number in it.
    pub replica: u32,
    /// What was adopted, as `unit nginx.service`.
    pub adopted: String,
    /// How many processes it has.
    pub processes: usize,
    /// Where callers are connected to.
    pub endpoints: Vec<SocketAddr>,
    /// Ports that nothing listens on yet.
    pub silent: Vec<Port>,
    /// The cgroup that the processes were moved from; `None`: they stay where they are.
    pub moved_from: Option<PathBuf>,
}

/// An adopted endpoint is let go; what ran goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Service.
    pub service: ServiceName,
    /// Number in it.
    pub replica: u32,
    /// The cgroup that its processes were moved back to; `None`: they were not moved.
    pub moved_to: Option<PathBuf>,
    /// The cgroup that they came from, when that is gone.
    pub origin_gone: Option<PathBuf>,
}

/// A line that a workload wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Service.
    pub service: ServiceName,
    /// Number in it.
    pub replica: u32,
    /// The line, without its end; what is not UTF-8 is replaced.
    pub text: String,
    /// Where the next line of this replica starts: bytes, grows as long as the log is kept. A
    /// follower goes on behind this line with `from=SERVICE/REPLICA@OFFSET`.
    #[serde(default)]
    pub offset: u64,
}

/// Ends the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// Stop every workload too; else they go on.
    pub stop_workloads: bool,
    /// Remove programs, pins, routes, cgroups and state as well. Implies `stop_workloads`.
    pub purge: bool,
}

/// How the host leaves the network of many hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Leave {
    /// How long connections from other hosts may end by themselves, once no new ones come.
    pub grace_ms: u64,
}

/// The host has left. What runs on it goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Its name in the network, which the store of the control plane keeps.
    pub node: NodeName,
    /// Whether control has heard that its endpoints are gone; else it learns that when it declares
    /// the host dead.
    pub told: bool,
    /// Projects that were placed on it: they go on as its own.
    pub placed: Vec<ProjectName>,
}

/// The request was taken; events tell how it goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {}

/// A change on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// Raised with every event of this agent's life.
    pub sequence: u64,
    /// Project concerned.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub project: Option<ProjectName>,
    /// What changed.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum EventKind {
    /// A workload moved to another state.
    Workload {
        /// Service.
        service: ServiceName,
        /// Number in it.
        replica: u32,
        /// Where it stands now.
        state: WorkloadState,
        /// Why.
        reason: Option<String>,
    },
    /// A project was applied, every instance is up, or it is gone.
    Project {
        /// `applied`, `ready` or `removed`.
        change: String,
    },
    /// Something an operator should know.
    Warning {
        /// In words.
        message: String,
    },
}

/// What kind of error it is; fixed words for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request is wrong: change it.
    Invalid,
    /// The caller may not do that.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// It collides with what is there.
    Conflict,
    /// A declared capacity is reached.
    Exhausted,
    /// The machine cannot do that.
    Unsupported,
    /// Not now: try again.
    Unavailable,
    /// The agent's own fault.
    Internal,
}

impl ErrorCode {
    /// The status of HTTP that an answer with it has.
    #[must_use]
    pub const fn status(self) -> http::StatusCode {
        match self {
            Self::Invalid => http::StatusCode::BAD_REQUEST,
            Self::Forbidden => http::StatusCode::FORBIDDEN,
            Self::NotFound => http::StatusCode::NOT_FOUND,
            Self::Conflict => http::StatusCode::CONFLICT,
            Self::Exhausted => http::StatusCode::INSUFFICIENT_STORAGE,
            Self::Unsupported => http::StatusCode::NOT_IMPLEMENTED,
            Self::Unavailable => http::StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal => http::StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An error, as the API answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ErrorBody {
    /// Its kind.
    pub code: ErrorCode,
    /// What happened, with the field and the value, in one line.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
    /// Path of the field at fault, as `services.api.replicas`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}
