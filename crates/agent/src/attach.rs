//! Lets a process that asked for it become a member: it is moved into a cgroup of its own, and
//! nothing else about it changes.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sinew_api::Attached;
use sinew_workload::cgroup;
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
        if self.is_gone() {
            return Err("it has ended".to_owned());
        }
        cgroup::move_pid(cgroup, self.pid).map_err(|error| error.to_string())?;
        // Only if it still lives was that number its own all the time.
        if self.is_gone() {
            return Err("it has ended".to_owned());
        }
        Ok(())
    }

    fn is_gone(&self) -> bool {
        has_ended(&self.pidfd)
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

/// Whether the process has ended.
pub(crate) fn has_ended(pidfd: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}
