//! The system calls by which a thread gives up rights.
//!
//! They are made directly: the C library's versions change every thread of the process by signals,
//! which must not happen between fork and exec, and need memory that may be locked then.

use std::io;

use super::Step;
use crate::Errno;

fn check(result: libc::c_long) -> Result<(), Errno> {
    if result < 0 { Err(Errno::from(io::Error::last_os_error())) } else { Ok(()) }
}

/// Takes all but the allowed capabilities from the bounding set: no program executed later gets
/// them, whatever its file says. Without `CAP_SETPCAP` the set cannot be changed: an agent that is
/// not root has none of them to give.
pub(super) fn bound_capabilities(allowed: u64) -> Result<(), Errno> {
    for number in 0..64 {
        // SAFETY: this operation takes and gives integers only.
        let held = unsafe { libc::prctl(libc::PR_CAPBSET_READ, number, 0, 0, 0) };
        if held < 0 {
            // Beyond the last capability of this kernel.
            break;
        }
        if held == 0 || allowed >> number & 1 == 1 || !is_privileged() {
            continue;
        }
        // SAFETY: as above.
        check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }.into())?;
    }
    Ok(())
}

fn is_privileged() -> bool {
    // SAFETY: takes nothing.
    (unsafe { libc::syscall(libc::SYS_geteuid) }) == 0
}

/// Groups before user: the right to change groups goes with the user.
pub(super) fn set_ids(uid: u32, gid: u32, groups: &[u32]) -> Result<(), (Step, Errno)> {
    // SAFETY: these take nothing.
    let own = unsafe { (libc::syscall(libc::SYS_geteuid), libc::syscall(libc::SYS_getegid)) };
    if own.0 != 0 && own == (uid.into(), gid.into()) {
        // Not root, and nothing to change.
        return Ok(());
    }
    // SAFETY: the pointer and the length are those of one slice.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
        .map_err(|errno| (Step::SetGroups, errno))?;
    // SAFETY: takes integers only.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })
        .map_err(|errno| (Step::SetGroup, errno))?;
    // SAFETY: takes integers only.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
        .map_err(|errno| (Step::SetUser, errno))
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilitySets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Leaves no capability that is not allowed in any set, and none at all in the inheritable and
/// ambient ones, through which they would pass to programs of users other than root.
pub(super) fn limit_capabilities(allowed: u64) -> Result<(), Errno> {
    let clear_all = libc::PR_CAP_AMBIENT_CLEAR_ALL;
    // SAFETY: takes integers only.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, clear_all, 0, 0, 0) }.into())?;
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut sets = [CapabilitySets::default(); 2];
    // SAFETY: version 3 has two sets, which outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) })?;
    let halves = [allowed & 0xFFFF_FFFF, allowed >> 32];
    for (set, half) in sets.iter_mut().zip(halves) {
        let half = u32::try_from(half).unwrap_or(0);
        set.effective &= half;
        set.permitted &= half;
        set.inheritable = 0;
    }
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) })
}

pub(super) fn forbid_new_privileges() -> Result<(), Errno> {
    // SAFETY: takes integers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())
}
