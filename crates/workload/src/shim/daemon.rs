//! What a shim does with signals and its standard output, and how it makes sure to be the only one.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
    ptr,
};

use rustix::{
    fs::{FlockOperation, fcntl_lock},
    process::{Flock, FlockType, fcntl_getlk},
};

use super::failed;
use crate::protocol::Greeting;

/// Ignores what a terminal or a lost reader may send, and returns where SIGTERM arrives.
///
/// SIGTERM does not end a shim: the workload must not lose its supervisor by a careless
/// `pkill`, and an administrator stops workloads through the agent. A machine that goes down sends
/// it to every process, workloads as well; see [`Input::Hold`](crate::restart::Input::Hold).
pub(super) fn set_up_signals() -> io::Result<OwnedFd> {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGPIPE] {
        // SAFETY: no handler is installed.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // SAFETY: a signal set is plain data, filled here; the descriptor is new and ours.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Makes this process the one shim of the directory for as long as it lives.
///
/// The lock is the kind that belongs to a process, not to an open file as `flock`'s do: a child
/// between fork and exec does not hold it on behalf of a shim that was killed, and it names its
/// holder. It would be lost if this process closed another descriptor of the file; there is none.
pub(super) fn lock(dir: &Path) -> Result<File, Greeting> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(dir.join("lock")).map_err(failed("open lock"))?;
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
            let holder = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)).ok().flatten();
            let pid = holder.and_then(|lock| lock.pid).map_or(0, |pid| pid.as_raw_nonzero().get());
            Err(Greeting::Busy { pid: pid.cast_unsigned() })
        }
        Err(errno) => Err(failed("lock the directory")(errno)),
    }
}

/// Tells who started this process how it went, and lets go of the descriptors shared with it. Works
/// once: later words go nowhere.
pub(super) fn greet(greeting: &Greeting) {
    if let Ok(mut line) = serde_json::to_vec(greeting) {
        line.push(b'\n');
        // Whoever started us may be gone; the workload does not depend on it.
        let _ = io::stdout().write_all(&line);
        let _ = io::stdout().flush();
    }
    let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null") else { return };
    for standard in 0..3 {
        // SAFETY: replaces what the descriptor stands for; the descriptor itself stays open.
        unsafe { libc::dup2(null.as_raw_fd(), standard) };
    }
}
