//! Where an agent keeps its things. All of it can be placed elsewhere, so that many agents run side
//! by side.

use std::path::PathBuf;

use sinew_workload::cgroup;

use crate::key::Key;

/// Where an agent keeps its things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// What lasts until the next boot: the API's socket and the workloads' directories.
    pub run: PathBuf,
    /// What lasts: the intent and the logs.
    pub state: PathBuf,
    /// Where kernel programs and maps are pinned.
    pub pins: PathBuf,
    /// The cgroup that holds all of Sinew's.
    pub cgroup: PathBuf,
}

impl Paths {
    /// The usual places, or those that `SINEW_RUN`, `SINEW_STATE`, `SINEW_PINS` and `SINEW_CGROUP`
    /// name.
    ///
    /// # Errors
    /// When no cgroup is named and cgroup2 is not mounted.
    pub fn from_env() -> Result<Self, cgroup::Error> {
        let named = |variable| std::env::var_os(variable).map(PathBuf::from);
        let or = |variable, usual| named(variable).unwrap_or_else(|| PathBuf::from(usual));
        Ok(Self {
            run: or("SINEW_RUN", "/run/sinew"),
            state: or("SINEW_STATE", "/var/lib/sinew"),
            pins: or("SINEW_PINS", "/sys/fs/bpf/sinew"),
            cgroup: match named("SINEW_CGROUP") {
                Some(cgroup) => cgroup,
                None => cgroup::find_root()?.join("sinew"),
            },
        })
    }

    /// The API's socket.
    pub fn socket(&self) -> PathBuf {
        self.run.join("api.sock")
    }

    /// Directories of all instances.
    pub(crate) fn workloads(&self) -> PathBuf {
        self.run.join("workloads")
    }

    /// Directory of an instance.
    pub(crate) fn workload(&self, key: &Key) -> PathBuf {
        self.workloads().join(key.file())
    }

    /// The cgroup that carries the kernel programs: everybody in it is a member.
    pub(crate) fn members(&self) -> PathBuf {
        self.cgroup.join("members")
    }

    /// The cgroup of an instance.
    pub(crate) fn member(&self, key: &Key) -> PathBuf {
        self.members().join(key.cgroup())
    }

    /// The cgroup of the supervisors, who are no members.
    pub(crate) fn shims(&self) -> PathBuf {
        self.cgroup.join("shims")
    }

    /// The cgroup of the supervisor of an instance: whatever becomes of its directory, it can be
    /// found and ended by this.
    pub(crate) fn shim(&self, key: &Key) -> PathBuf {
        self.shims().join(key.file())
    }

    /// What the agent and the resolver tell each other.
    pub(crate) fn resolver(&self) -> PathBuf {
        self.run.join("resolver")
    }

    /// The cgroup of the resolver, which is no member.
    pub(crate) fn resolver_cgroup(&self) -> PathBuf {
        self.cgroup.join("resolver")
    }

    /// The log of the resolver.
    pub(crate) fn resolver_log(&self) -> PathBuf {
        self.state.join("resolver.log")
    }

    /// Directory of all logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// The log of an instance.
    pub(crate) fn log(&self, service: &str, replica: u32) -> PathBuf {
        self.logs().join(service).join(format!("{replica}.log"))
    }
}
