use std::{
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use crate::MAX_HOSTS;

/// Why hosts could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More or fewer than there can be.
    #[error("{count} hosts cannot be made: take 1 to {MAX_HOSTS}")]
    Count {
        /// How many were wanted.
        count: u8,
    },
    /// Nobody has this number.
    #[error("there is no host {number}: take 1 to {count}")]
    NoHost {
        /// It.
        number: u8,
        /// How many there are.
        count: usize,
    },
    /// The machine has no cgroups of version 2.
    #[error("no cgroup version 2 hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup")]
    NoCgroups,
    /// A file or a process.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// How that went.
        source: io::Error,
    },
    /// A tool that was called says no.
    #[error("{command}: {status}: {told}")]
    Tool {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed.
        told: String,
    },
}

impl Error {
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), source }
    }
}
