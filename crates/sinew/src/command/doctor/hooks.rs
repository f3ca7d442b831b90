//! Which programs of others stand on the kernel's hooks above the members' cgroup and on the network
//! namespace: asked of the kernel (`BPF_PROG_QUERY`), which knows them however they were attached.

use std::{fs::File, io, os::fd::AsRawFd as _, path::Path};

/// The hooks that Sinew uses, with their number in the kernel's `enum bpf_attach_type`.
const HOOKS: [(&str, u32); 16] = [
    ("bind4", 8),
    ("bind6", 9),
    ("connect4", 10),
    ("connect6", 11),
    ("sendmsg4", 14),
    ("sendmsg6", 15),
    ("recvmsg4", 19),
    ("recvmsg6", 20),
    ("getsockopt", 21),
    ("getpeername4", 29),
    ("getpeername6", 30),
    ("getsockname4", 31),
    ("getsockname6", 32),
    ("sock_release", 34),
    ("sock_ops", 3),
    ("sock_create", 2),
];

/// Chooses sockets for packets, in a network namespace.
const SK_LOOKUP: u32 = 36;

const PROG_QUERY: libc::c_long = 16;
const ALLOW_OVERRIDE: u32 = 1;
const ALLOW_MULTI: u32 = 2;

/// How the programs on a hook bear programs further down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// All of them run.
    Together,
    /// The lower one runs instead.
    Overridden,
    /// The kernel refuses lower ones.
    Exclusive,
}

/// Programs on a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Occupied {
    pub(super) hook: &'static str,
    pub(super) programs: u32,
    pub(super) sharing: Sharing,
}

/// The part of the kernel's `union bpf_attr` that a query uses.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The hooks on which `cgroup` itself has programs.
pub(super) fn occupied(cgroup: &Path) -> io::Result<Vec<Occupied>> {
    let directory = File::open(cgroup)?;
    let mut occupied = Vec::new();
    for (hook, attach_type) in HOOKS {
        let (programs, flags) = query(&directory, attach_type)?;
        if programs > 0 {
            occupied.push(Occupied { hook, programs, sharing: sharing(flags) });
        }
    }
    Ok(occupied)
}

/// Programs that choose sockets for packets in this network namespace.
pub(super) fn lookups() -> io::Result<u32> {
    let namespace = File::open("/proc/self/ns/net")?;
    query(&namespace, SK_LOOKUP).map(|(programs, _)| programs)
}

fn sharing(flags: u32) -> Sharing {
    if flags & ALLOW_MULTI != 0 {
        Sharing::Together
    } else if flags & ALLOW_OVERRIDE != 0 {
        Sharing::Overridden
    } else {
        Sharing::Exclusive
    }
}

/// Number of programs and flags of their attachment.
fn query(target: &File, attach_type: u32) -> io::Result<(u32, u32)> {
    let target_fd = u32::try_from(target.as_raw_fd()).map_err(io::Error::other)?;
    // Without room for their numbers the kernel tells how many there are.
    let mut query = Query { target_fd, attach_type, ..Query::default() };
    let size = size_of::<Query>();
    // SAFETY: the kernel reads and writes at most `size` bytes of `query`, which lives through the
    // call, and no buffer behind `prog_ids`, as `prog_cnt` says there is none.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size) };
    if result < 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ENOSPC) {
            return Err(error);
        }
    }
    Ok((query.prog_cnt, query.attach_flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_tell_how_programs_share_a_hook() {
        assert_eq!(sharing(ALLOW_MULTI), Sharing::Together);
        assert_eq!(sharing(ALLOW_OVERRIDE), Sharing::Overridden);
        assert_eq!(sharing(0), Sharing::Exclusive);
    }
}
