//! Projects and services as they are wanted. Every value here has been validated.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{PortName, ProjectName, ServiceName};

/// The services of one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Its name: `name:` in the file, else the directory's.
    pub name: ProjectName,
    /// Its services.
    pub services: BTreeMap<ServiceName, Service>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// What to run.
    pub command: Command,
    /// Ports it listens on; the first one is what the bare name's SRV record and health use.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// How many instances, 0 to 1024.
    #[serde(default = "one")]
    pub replicas: u16,
    /// Environment, `env_file` included.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Absolute.
    pub working_dir: PathBuf,
    /// User to run as; `None`: the caller's own.
    #[serde(default)]
    pub user: Option<String>,
    /// Group to run as; `None`: the user's own.
    #[serde(default)]
    pub group: Option<String>,
    /// What it may use.
    #[serde(default)]
    pub limits: Limits,
    /// How it is found healthy.
    #[serde(default)]
    pub health: Health,
    /// What follows its exit.
    #[serde(default)]
    pub restart: Restart,
    /// How it is stopped.
    #[serde(default)]
    pub stop: Stop,
    /// Services that must be healthy before it starts.
    #[serde(default)]
    pub depends_on: Vec<ServiceName>,
    /// How callers choose among its instances.
    #[serde(default)]
    pub balance: Balance,
    /// When an instance is ejected.
    #[serde(default)]
    pub outlier: Outlier,
    /// Zone of its instances.
    #[serde(default)]
    pub zone: Option<String>,
    /// Free words about it.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Ports of the host that lead to it.
    #[serde(default)]
    pub publish: Vec<Publish>,
    /// What it may do.
    #[serde(default)]
    pub privileges: Privileges,
    /// On which hosts it may run, where control chooses.
    #[serde(default)]
    pub placement: Placement,
}

fn one() -> u16 {
    1
}

impl Service {
    /// The port of a name.
    #[must_use]
    pub fn port(&self, name: &PortName) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == *name)
    }

    /// A service with nothing but a command: one instance, everything else as by default.
    #[must_use]
    pub fn new(command: Command, working_dir: PathBuf) -> Self {
        Self {
            command,
            ports: Vec::new(),
            replicas: 1,
            env: BTreeMap::new(),
            working_dir,
            user: None,
            group: None,
            limits: Limits::default(),
            health: Health::default(),
            restart: Restart::default(),
            stop: Stop::default(),
            depends_on: Vec::new(),
            balance: Balance::default(),
            outlier: Outlier::default(),
            zone: None,
            labels: BTreeMap::new(),
            publish: Vec::new(),
            privileges: Privileges::default(),
            placement: Placement::default(),
        }
    }
}

/// On which hosts the instances of a placed service may run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// Words that those hosts have, with these values.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// What a workload runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Command {
    /// A line for `/bin/sh -c`, replaced by the program (`exec`) when it is a simple command.
    Shell(String),
    /// Program and arguments.
    Argv(Vec<String>),
}

/// A port that instances listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its name; `http`, `tcp-5432` and the like when the file gives none.
    pub name: PortName,
    /// Its number, 1 to 65535.
    pub number: u16,
    /// Its protocol.
    pub protocol: Protocol,
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP; MPTCP too.
    Tcp,
    /// UDP.
    Udp,
}

/// What a workload may use; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Processor time, thousandths of one processor.
    pub cpu_millis: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

/// How a workload is found healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What is asked.
    pub check: Check,
    /// Time from one check to the next.
    #[serde(with = "millis", rename = "interval_ms")]
    pub interval: Duration,
    /// A check that takes longer has failed.
    #[serde(with = "millis", rename = "timeout_ms")]
    pub timeout: Duration,
    /// Successes in a row that make it healthy.
    pub healthy_threshold: u32,
    /// Failures in a row that make it unhealthy.
    pub unhealthy_threshold: u32,
    /// Failures this soon after the start do not count.
    #[serde(with = "millis", rename = "start_period_ms")]
    pub start_period: Duration,
}

/// Listening is enough. A check that is asked for runs every second, so that a failure is seen
/// within three; 30 s cover the start of all but the slowest programs.
impl Default for Health {
    fn default() -> Self {
        Self {
            check: Check::None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy_threshold: 1,
            unhealthy_threshold: 3,
            start_period: Duration::from_secs(30),
        }
    }
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", deny_unknown_fields)]
pub enum Check {
    /// Listening is enough: the kernel says when it does.
    None,
    /// A connection is accepted.
    Tcp {
        /// Port to connect to.
        port: u16,
    },
    /// A GET is answered with 200 to 399.
    Http {
        /// Port to ask.
        port: u16,
        /// Path to ask for.
        path: String,
    },
    /// A command, run as the workload in its cgroup, exits with 0.
    Exec {
        /// The command.
        command: Command,
    },
}

/// What follows a workload's exit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// It is started again.
    #[default]
    Always,
    /// It is started again unless it exited with 0.
    OnFailure,
    /// It stays down.
    Never,
}

/// How a workload is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Signal that asks it to end, as `SIGTERM`.
    pub signal: String,
    /// What is left after so long is killed.
    #[serde(with = "millis", rename = "grace_ms")]
    pub grace: Duration,
}

impl Default for Stop {
    fn default() -> Self {
        Self { signal: "SIGTERM".to_owned(), grace: Duration::from_secs(10) }
    }
}

/// How callers choose among instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "policy", deny_unknown_fields)]
pub enum Balance {
    /// Fewest open connections, of two distinct instances drawn.
    #[default]
    LeastLoad,
    /// One after another.
    RoundRobin,
    /// Any.
    Random,
    /// A source keeps its instance; the first one is chosen by least load.
    Source {
        /// A source that made no connection for so long is forgotten.
        #[serde(with = "millis", rename = "timeout_ms")]
        timeout: Duration,
    },
}

/// When an instance is ejected from its service's choice, in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outlier {
    /// Failures in a row that eject; 0: never.
    pub consecutive_failures: u32,
    /// The first ejection; each further one takes twice as long.
    #[serde(with = "millis", rename = "base_ms")]
    pub base: Duration,
    /// The longest ejection.
    #[serde(with = "millis", rename = "max_ms")]
    pub max: Duration,
    /// At most this share of a service is ejected at once, 0 to 100.
    pub max_ejected_percent: u8,
}

impl Balance {
    /// How long [`Balance::Source`] remembers a source unless the file says otherwise.
    pub const SOURCE_TIMEOUT: Duration = Duration::from_secs(600);
}

/// Three in a row: each of them failed a caller, while an ejection by mistake costs one instance
/// for a second and never more than half of a service.
impl Default for Outlier {
    fn default() -> Self {
        Self {
            consecutive_failures: 3,
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
            max_ejected_percent: 50,
        }
    }
}

/// A port of the host that leads to a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// Address of the host; unspecified: all of them.
    pub host_ip: IpAddr,
    /// Port of the host.
    pub host_port: u16,
    /// Port of the service.
    pub port: PortName,
}

impl Publish {
    /// Address and port of the host, as `127.0.0.1:8080`.
    #[must_use]
    pub fn host(&self) -> SocketAddr {
        SocketAddr::new(self.host_ip, self.host_port)
    }

    /// Whether one connection could match both. `::` takes IPv4 too, as a dual-stack socket does.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let any =
            |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
        let (a, b) = (self.host_ip, other.host_ip);
        self.host_port == other.host_port && (a == b || any(a, b) || any(b, a))
    }
}

/// As in the file: `127.0.0.1:8080:http`.
impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host(), self.port)
    }
}

/// What a workload may do beyond an ordinary process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Privileges {
    /// Capabilities that a workload of root keeps though they are taken by default, as `CAP_NET_ADMIN`.
    pub keep_capabilities: Vec<String>,
    /// Whether set-user-id programs give it nothing.
    pub no_new_privileges: bool,
}

impl Default for Privileges {
    fn default() -> Self {
        Self { keep_capabilities: Vec::new(), no_new_privileges: true }
    }
}

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        u64::try_from(value.as_millis()).unwrap_or(u64::MAX).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_millis)
    }
}
