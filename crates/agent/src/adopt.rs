//! What was there before Sinew becomes an endpoint where it listens: a systemd unit or a cgroup is
//! hooked as it stands, a process is moved with its descendants into a cgroup among the members'.
//! Sinew neither starts nor stops it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sinew_model::{Port, Protocol};
use sinew_workload::{ProcessId, tree};
use tokio::sync::oneshot;

use crate::{core::Family, key::Key, launch::Owner, refusal::Refusal};

mod above;
mod foreign;
mod inspect;
mod places;
mod unit;

pub(crate) use above::Above;
pub(crate) use foreign::{Foreign, Seen};
pub(crate) use inspect::{Subject, Surroundings, check_owner, check_user, inspect};
pub(crate) use places::{places_of, sockets_of};

/// What was adopted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Target {
    /// A systemd unit: its cgroup has the same path in each of its lives.
    Unit {
        /// With its suffix.
        name: String,
        /// Its cgroup.
        cgroup: PathBuf,
    },
    /// A cgroup.
    Cgroup {
        /// Where it lies.
        path: PathBuf,
    },
    /// A process and its descendants.
    Process {
        /// The root of them.
        process: ProcessId,
        /// The cgroup that they were in.
        from: PathBuf,
    },
}

impl Target {
    /// The cgroup that is hooked where it is; `None`: it has one among the members'.
    pub(crate) fn cgroup(&self) -> Option<&Path> {
        match self {
            Self::Unit { cgroup, .. } => Some(cgroup),
            Self::Cgroup { path } => Some(path),
            Self::Process { .. } => None,
        }
    }
}

impl Target {
    /// The cgroup that its processes are moved from.
    pub(crate) fn origin(&self) -> Option<PathBuf> {
        match self {
            Self::Process { from, .. } => Some(from.clone()),
            Self::Unit { .. } | Self::Cgroup { .. } => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit { name, .. } => write!(f, "unit {name}"),
            Self::Cgroup { path } => write!(f, "cgroup {}", path.display()),
            Self::Process { process, .. } => write!(f, "process {}", process.pid),
        }
    }
}

/// An endpoint that Sinew did not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Adoption {
    /// Which endpoint it is.
    pub key: Key,
    /// What was adopted.
    pub target: Target,
    /// Who adopted it.
    pub owner: Owner,
    /// The ports that it listens on.
    pub ports: Vec<Port>,
    /// What it runs, in a line.
    pub command: String,
    /// When it was adopted, milliseconds since 1970.
    pub at_ms: u64,
}

/// Where a port is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its address, or the loopback one when it listens on all.
    pub address: IpAddr,
    /// Whether it listens on all.
    pub wildcard: bool,
    /// Cookies of the sockets that listen there.
    pub sockets: BTreeSet<u64>,
}

/// Where each port of an adopted endpoint is reached, by family.
pub(crate) type Places = BTreeMap<(Protocol, u16, Family), Place>;

/// Who waits until an adoption is begun; told how many processes it holds.
pub(crate) type Adopting = oneshot::Sender<Result<usize, Refusal>>;
/// Who waits until a release is done; told where the processes went, if they were moved.
pub(crate) type Releasing = oneshot::Sender<Result<Option<tree::GivenBack>, Refusal>>;
