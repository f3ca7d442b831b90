//! What goes over a shim's control socket: one JSON value a line, both ways.

use serde::{Deserialize, Serialize};
use sinew_model::{Restart, Stop};

use crate::status::Status;

/// A request longer than this is none.
pub(crate) const MAX_REQUEST_BYTES: usize = 4096;

/// From a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "do", deny_unknown_fields)]
pub(crate) enum Request {
    /// Answered with the status.
    Status,
    /// Answered with the status, now and at each change.
    Subscribe,
    /// Signal, grace, kill; it stays down.
    Stop,
    /// Kill; it stays down.
    Kill,
    /// Stop and start.
    Restart,
    /// Another policy from now on.
    UpdatePolicy {
        /// What follows its exit.
        restart: Restart,
        /// How it is stopped.
        stop: Stop,
    },
}

/// From the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub(crate) enum Message {
    /// What the shim knows. Statuses that a slow client did not take are replaced by newer ones.
    Status {
        /// See there.
        status: Box<Status>,
    },
    /// A request was taken on.
    Accepted,
    /// A request was not.
    Refused {
        /// Why.
        reason: String,
    },
}

impl Message {
    /// The line for it.
    pub(crate) fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// What a new shim tells who started it, before it lets go of its standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub(crate) enum Greeting {
    /// The workload runs, or is being looked after.
    Ready,
    /// Another shim looks after it.
    Busy {
        /// Its number.
        pid: u32,
    },
    /// The first start failed; the shim has ended.
    NotLaunched {
        /// Why.
        error: crate::LaunchError,
    },
    /// The shim cannot work.
    Failed {
        /// What it tried.
        step: String,
        /// Why not.
        errno: crate::Errno,
    },
}
