//! Lets a process that asked for it become a member: it is moved into a cgroup of its own, and
//! nothing else about it changes.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use sinew_api::Attached;
use sinew_workload::tree;
use tokio::sync::oneshot;

use crate::refusal::Refusal;

/// A process that asked to be a member, and who waits for the answer.
#[derive(Debug)]
pub(crate) struct Joiner {
    pub(crate) pid: u32,
    /// Names the process even when its number is used again.
    pub(crate) pidfd: OwnedFd,
    pub(crate) answer: std::sync::Mutex<Option<oneshot::Sender<Result<Attached, Refusal>>>>,
    pub(crate) attached: Attached,
}

impl Joiner {
    /// Moves the process into `cgroup`.
    pub(crate) fn enter(&self, cgroup: &Path) -> Result<(), String> {
        match tree::move_process(cgroup, self.pid, self.pidfd.as_fd()) {
            Ok(true) => Ok(()),
            Ok(false) => Err("it has ended".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Tells who waits.
    pub(crate) fn answer(&self, result: &Result<(), String>) {
        let sender = self.answer.lock().ok().and_then(|mut answer| answer.take());
        if let Some(sender) = sender {
            let answer = match result {
                Ok(()) => Ok(self.attached.clone()),
                Err(what) => Err(Refusal::Attach { pid: self.pid, what: what.clone() }),
            };
            // Who asked may have ended meanwhile.
            let _ = sender.send(answer);
        }
    }
}
