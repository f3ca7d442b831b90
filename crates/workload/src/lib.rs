//! Runs a workload: cgroup, rights, output, restarts; survives the agent.
//!
//! Each workload has a *shim*, a tiny process of its own ([`shim_main`]) that starts the program,
//! waits for it, restarts and stops it. The agent talks to shims ([`start`], [`reconnect`],
//! [`Supervised`]) but neither needs the other's life: output goes straight to a file, what happened
//! is in the shim's status file, and a new shim adopts the program of a dead one.

pub mod cgroup;
pub mod daemon;
pub mod exec;
pub mod logs;
pub mod restart;
pub mod rights;
pub mod signal;
pub mod socket;
pub mod tree;

mod errno;
mod launch;
mod process;
mod protocol;
mod readable;
mod shim;
mod spec;
mod status;
mod supervise;

pub use errno::Errno;
pub use launch::LaunchError;
pub use process::ProcessId;
pub use shim::shim_main;
pub use spec::{DEFAULT_LOG_LIMIT_BYTES, LaunchSpec};
pub use status::{Exit, ExitRecord, Run, Status};
pub use supervise::{Error, Event, Shims, Supervised, reconnect, start};
