//! How a shim leaves its parent behind: descriptors, session, cgroup, signals; and how it makes sure
//! to be the only one.

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
use crate::{cgroup, protocol::Greeting};

/// Which of the two processes of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Parent,
    Shim,
}

/// Closes all but standard input and output: nothing of the agent's may live on here.
pub(super) fn close_inherited() {
    // SAFETY: this early the process has opened nothing that anything of it refers to.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
}

/// Shims have a cgroup of their own: in the workload's they would be killed with it, be counted with
/// it and be steered as it; in the agent's they would end with its unit.
pub(super) fn enter_cgroup(path: &Path) -> Result<(), cgroup::Error> {
    cgroup::create(path)?;
    cgroup::move_pid(path, std::process::id())
}

/// Forks; the child leads a session of its own and belongs to nobody.
pub(super) fn detach() -> io::Result<Side> {
    // SAFETY: one thread, so the child's memory is in order.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {}
        _ => return Ok(Side::Parent),
    }
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // By its own name, so that killing all that is called `sinew` by hand does not end it.
    let _ = rustix::thread::set_name(c"sinew-shim");
    // The kernel should rather take the workload's memory than its supervisor's. Without the
    // capability for this the small size has to do.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-900");
    Ok(Side::Shim)
}

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
