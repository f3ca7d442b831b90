//! Who is on the other end of a unix socket, as the kernel says it: nothing that a caller claims
//! about itself is asked for.

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
    path::PathBuf,
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use sinew_workload::tree;

use crate::rights::Caller;

/// Supplementary groups that a user may have on Linux.
const MAX_GROUPS: usize = 65_536;

/// The caller, and a handle to its process that stays true when its number is used again.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) caller: Caller,
    /// `None`: it has ended.
    pub(crate) pidfd: Option<OwnedFd>,
}

impl Peer {
    /// The peer of a connected socket.
    pub(crate) fn of(socket: impl AsFd) -> io::Result<Self> {
        let socket = socket.as_fd();
        let credentials = rustix::net::sockopt::socket_peercred(socket)?;
        let caller = Caller::new(
            credentials.pid.as_raw_nonzero().get().unsigned_abs(),
            credentials.uid.as_raw(),
            credentials.gid.as_raw(),
            groups(socket)?,
        );
        let pidfd = pidfd(socket, credentials.pid);
        Ok(Self { caller, pidfd })
    }
}

impl Peer {
    /// Whether the caller is in one of `cgroups` or below it. Of one that has ended nobody can tell: who has
    /// its socket now may be.
    pub(crate) fn is_below(&self, cgroups: &[PathBuf]) -> bool {
        let found = sinew_workload::cgroup::of(self.caller.pid);
        // Only if it still lives was that number its own.
        let lives = self.pidfd.as_ref().is_some_and(|pidfd| !tree::has_ended(pidfd.as_fd()));
        !lives || found.is_ok_and(|found| cgroups.iter().any(|c| found.starts_with(c)))
    }
}

/// Kernels before 6.5 cannot tell the handle; there it is opened by number, soon after the caller
/// has connected.
fn pidfd(socket: impl AsFd, pid: Pid) -> Option<OwnedFd> {
    let mut fd: libc::c_int = -1;
    let mut length = mem::size_of_val(&fd) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `fd`.
    let failed = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut length,
        )
    } != 0;
    if failed {
        let unknown = io::Error::last_os_error().raw_os_error() == Some(libc::ENOPROTOOPT);
        return unknown.then(|| pidfd_open(pid, PidfdFlags::empty()).ok()).flatten();
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut length = mem::size_of_val(groups.as_slice()) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `groups`.
        let failed = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        } != 0;
        if !failed {
            groups.truncate(length as usize / mem::size_of::<libc::gid_t>());
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || groups.len() >= MAX_GROUPS {
            return Err(error);
        }
        groups.resize(MAX_GROUPS, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_kernel_says_who_it_is() {
        let (here, _there) = UnixStream::pair().unwrap();
        let peer = Peer::of(&here).unwrap();
        assert_eq!(peer.caller.pid, std::process::id());
        assert_eq!(peer.caller.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.caller.gid, rustix::process::getegid().as_raw());
        let own: Vec<u32> = rustix::process::getgroups()
            .unwrap()
            .into_iter()
            .map(rustix::process::Gid::as_raw)
            .collect();
        assert_eq!(peer.caller.groups, own);
        assert!(peer.pidfd.is_some());
    }
}
