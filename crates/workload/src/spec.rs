//! What a shim is told, and the file it is told in.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sinew_model::{Limits, Privileges, Restart, Stop};

use crate::{
    restart::{Backoff, Policy},
    rights::{Rights, RightsError},
    status::write_json,
};

/// Output that is kept of each workload unless told otherwise.
pub const DEFAULT_LOG_LIMIT_BYTES: u64 = 64 << 20;

/// A workload to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchSpec {
    /// Its name, as `orders/2`.
    pub name: String,
    /// Program and arguments. A program without a slash is looked for in `PATH` of `env`.
    pub argv: Vec<String>,
    /// Its whole environment; `HOME`, `USER` and `LOGNAME` are added when absent.
    pub env: BTreeMap<String, String>,
    /// Where it starts; absolute.
    pub working_dir: PathBuf,
    /// User by name or number; `None`: `uid_gid_of_caller`.
    pub user: Option<String>,
    /// Group by name or number; `None`: the user's own.
    pub group: Option<String>,
    /// Who asked for it.
    pub uid_gid_of_caller: (u32, u32),
    /// Its cgroup (version 2); made when missing.
    pub cgroup: PathBuf,
    /// What it may use.
    pub limits: Limits,
    /// What follows its exit.
    pub restart: Restart,
    /// How it is stopped.
    pub stop: Stop,
    /// File that takes its output; made when missing.
    pub log: PathBuf,
    /// Output that is kept: older output is dropped when the file takes a quarter more.
    #[serde(default = "default_log_limit_bytes")]
    pub log_limit_bytes: u64,
    /// What it may do.
    pub privileges: Privileges,
    /// Directories that a workload of root does not see.
    #[serde(default)]
    pub hidden: Vec<PathBuf>,
    /// Waits between its starts.
    #[serde(default)]
    pub backoff: Backoff,
}

fn default_log_limit_bytes() -> u64 {
    DEFAULT_LOG_LIMIT_BYTES
}

impl LaunchSpec {
    /// Whose rights it has, and what it does not see.
    pub(crate) fn rights(&self) -> Result<Rights, RightsError> {
        let (user, group) = (self.user.as_deref(), self.group.as_deref());
        Rights::resolve(user, group, self.uid_gid_of_caller, &self.privileges)?
            .without(&self.hidden)
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy { restart: self.restart, grace: self.stop.grace, backoff: self.backoff }
    }
}

/// Content of `spec.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    /// Tells this order from an earlier one in the same directory, whose status may still be there.
    pub(crate) id: u64,
    /// Cgroup of the shims themselves.
    pub(crate) shims: PathBuf,
    /// The workload.
    pub(crate) launch: LaunchSpec,
}

impl Order {
    fn path(dir: &Path) -> PathBuf {
        dir.join("spec.json")
    }

    pub(crate) fn read(dir: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(Self::path(dir))?;
        serde_json::from_slice(&bytes).map_err(io::Error::from)
    }

    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        write_json(&Self::path(dir), self)
    }
}

/// Durations as whole milliseconds.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        u64::try_from(value.as_millis()).unwrap_or(u64::MAX).serialize(s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        u64::deserialize(d).map(Duration::from_millis)
    }
}
