//! What goes wrong between user space and the kernel.

use std::{io, path::PathBuf};

use sinew_model::fleet::Network;

/// An error of the data path.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel lacks something. The machine's fault; retrying does not help.
    #[error("this kernel lacks {what}: {remedy}")]
    Unsupported {
        /// What it lacks.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The kernel refused a program. Sinew's fault; retrying does not help.
    #[error("the kernel refused program {program}: {reason}")]
    Refused {
        /// Program.
        program: String,
        /// The kernel's last words.
        reason: String,
    },
    /// A declared capacity is reached. Nothing was changed; but that the free space of the slot table
    /// is too scattered shows only in the midst of a change: what was done until then stays.
    #[error(
        "{map} holds {capacity} entries and {wanted} are wanted: run fewer services or instances on this host"
    )]
    Full {
        /// Map.
        map: &'static str,
        /// Its capacity.
        capacity: u32,
        /// How many are wanted.
        wanted: u64,
    },
    /// The network has more hosts than this one can reach. Nothing was changed.
    #[error(
        "{map} holds {capacity} entries and {wanted} are wanted: see with `sinew nodes` which hosts are \
         gone for good, and forget them"
    )]
    Hosts {
        /// Map.
        map: &'static str,
        /// Its capacity.
        capacity: u32,
        /// How many are wanted.
        wanted: u64,
    },
    /// A system call failed. May succeed later.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A member cgroup does not exist. The caller's fault.
    #[error("cgroup {path} cannot be opened: {source}")]
    Cgroup {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody holds a hook of a cgroup alone. The caller's or that one's fault.
    #[error(
        "another program holds the hook {hook} of cgroup {} or of one above it for itself alone: \
         find it with `bpftool cgroup tree`, and attach it with BPF_F_ALLOW_MULTI or not at all",
        path.display()
    )]
    HookTaken {
        /// Which hook.
        hook: &'static str,
        /// Which cgroup.
        path: PathBuf,
    },
    /// The kernel does not let a program be attached. The machine's fault.
    #[error("the kernel does not allow hook {hook} of cgroup {}: {why}", path.display())]
    Denied {
        /// Which hook.
        hook: &'static str,
        /// Which cgroup.
        path: PathBuf,
        /// What is in the way, and what to do.
        why: String,
    },
    /// Instances of the network's hosts would have addresses that something else has. Nothing was
    /// changed. The fault of whoever chose the network.
    #[error(
        "the instance network {network} overlaps {with}: give instances another network (`sinew \
         control --instances4` or `--instances6`, before a host has a slice), or take that away"
    )]
    Overlap {
        /// The network or slice.
        network: Network,
        /// What is there.
        with: String,
    },
    /// The wanted state contradicts itself. The caller's fault.
    #[error("{what}")]
    Invalid {
        /// How.
        what: String,
    },
}

impl Error {
    /// Whether it is about other hosts alone: what is this host's own can be as it is wanted without
    /// them.
    #[must_use]
    pub const fn is_of_others(&self) -> bool {
        matches!(self, Self::Overlap { .. } | Self::Hosts { .. })
    }

    pub(crate) fn system(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System { what: what.into(), source: source.into() }
    }

    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        matches!(self, Self::System { .. })
    }
}
