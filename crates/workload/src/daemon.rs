//! How a helper process leaves the one that started it behind: descriptors, cgroup, session.

use std::{ffi::CStr, io, path::Path};

use crate::cgroup;

/// Which of the two processes of a fork this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that was started: it has nothing left to do.
    Parent,
    /// The one that lives on.
    Daemon,
}

/// Closes all but the standard streams: nothing of the agent's may live on here. Call it before
/// anything is opened.
pub fn close_inherited() {
    // SAFETY: this early the process has opened nothing that anything of it refers to.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
}

/// Helpers have a cgroup of their own: in a workload's they would be killed with it, be counted with
/// it and be steered as it; in the agent's they would end with its unit.
///
/// # Errors
/// When it cannot be made or entered.
pub fn enter_cgroup(path: &Path) -> Result<(), cgroup::Error> {
    cgroup::create(path)?;
    cgroup::move_pid(path, std::process::id())
}

/// Forks; the child leads a session of its own and belongs to nobody. Call it while there is one
/// thread.
///
/// `name` is the child's own, so that killing all that is called `sinew` by hand does not end it.
///
/// # Errors
/// When the kernel refuses.
pub fn detach(name: &CStr) -> io::Result<Side> {
    // SAFETY: one thread, so the child's memory is in order.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {}
        _ => return Ok(Side::Parent),
    }
    rustix::process::setsid()?;
    rustix::process::chdir("/")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let _ = rustix::thread::set_name(name);
    // The kernel should rather take the memory of workloads than that of what serves them. Without
    // the capability for this the small size has to do.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-900");
    Ok(Side::Daemon)
}
