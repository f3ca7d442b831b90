//! What a workload of root does not see of the machine's file systems. Files of root are root's to
//! write, whatever capabilities it lost: a mount namespace of its own keeps it from what would undo
//! Sinew. It cannot take the covers off without `CAP_SYS_ADMIN`; one that means harm can still walk
//! around them, through `/proc/PID/root` of a process of a user whose file system rights it takes on.

use std::{
    ffi::{CStr, CString},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    ptr,
};

use crate::Errno;

/// What is done to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// An empty directory is put over it.
    Hidden,
    /// It is read only.
    ReadOnly,
}

/// A place and what is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cover {
    path: CString,
    how: How,
}

/// Pinned programs and maps are hidden, the tree of cgroups is read only, and so `hidden`.
pub(super) fn covers(mountinfo: &str, hidden: &[PathBuf]) -> Vec<Cover> {
    let mounted = mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let how = match after.split(' ').next()? {
            "bpf" => How::Hidden,
            "cgroup" | "cgroup2" => How::ReadOnly,
            _ => return None,
        };
        Some(Cover { path: CString::new(unescape(before.split(' ').nth(4)?)).ok()?, how })
    });
    let hidden = hidden.iter().filter_map(|path| cover(path));
    mounted.chain(hidden).collect()
}

fn cover(path: &Path) -> Option<Cover> {
    Some(Cover { path: CString::new(path.as_os_str().as_bytes()).ok()?, how: How::Hidden })
}

/// Blanks and backslashes are three octal digits in mountinfo: proc_pid_mountinfo(5).
fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.extend(digits);
        bytes.extend(part.as_bytes().get(3..).unwrap_or_default());
    }
    bytes
}

/// Puts them on in a mount namespace that the calling thread gets. Makes system calls only.
pub(super) fn put_on(covers: &[Cover]) -> Result<(), Errno> {
    if covers.is_empty() {
        return Ok(());
    }
    // SAFETY: takes an integer; what this thread shares of file systems with others becomes its own.
    match check(unsafe { libc::unshare(libc::CLONE_NEWNS) }) {
        // Who cannot mount cannot unmount either: a workload starts another one.
        Err(Errno(libc::EPERM)) => return Ok(()),
        other => other?,
    }
    // What the machine mounts later is seen; what is mounted here stays here.
    mount(c"none", c"/", c"", libc::MS_REC | libc::MS_SLAVE)?;
    covers.iter().try_for_each(|cover| match cover.how {
        How::Hidden => absent_is_hidden(mount(c"none", &cover.path, c"tmpfs", EMPTY)),
        How::ReadOnly => absent_is_hidden(mount(c"none", &cover.path, c"", READ_ONLY)),
    })
}

const EMPTY: libc::c_ulong = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
const READ_ONLY: libc::c_ulong = libc::MS_REMOUNT | libc::MS_BIND | EMPTY;

/// A place that is covered by another mount, or gone by now, needs no cover.
fn absent_is_hidden(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno(libc::ENOENT | libc::ENOTDIR | libc::EINVAL)) => Ok(()),
        other => other,
    }
}

fn mount(what: &CStr, at: &CStr, kind: &CStr, flags: libc::c_ulong) -> Result<(), Errno> {
    // SAFETY: three C strings that outlive the call, and no data.
    check(unsafe { libc::mount(what.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, ptr::null()) })
}

fn check(result: libc::c_int) -> Result<(), Errno> {
    if result < 0 { Err(Errno::from(io::Error::last_os_error())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_hidden_and_cgroups_read_only() {
        let mountinfo = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate
31 22 0:27 / /sys/fs/cgroup/my\\040cpu rw - cgroup cgroup rw,cpu
32 22 0:28 / /sys/fs/bpf rw,nosuid shared:5 master:1 - bpf bpf rw,mode=700
short line
";
        let at = |path: &CStr, how| Cover { path: path.to_owned(), how };
        assert_eq!(
            covers(mountinfo, &["/var/lib/sinew".into()]),
            [
                at(c"/sys/fs/cgroup", How::ReadOnly),
                at(c"/sys/fs/cgroup/my cpu", How::ReadOnly),
                at(c"/sys/fs/bpf", How::Hidden),
                at(c"/var/lib/sinew", How::Hidden),
            ]
        );
    }

    #[test]
    fn broken_escapes_do_no_harm() {
        assert_eq!(unescape("a\\040b\\134"), b"a b\\");
        assert_eq!(unescape("a\\9x"), b"a");
        assert_eq!(unescape("\\"), b"");
    }
}
