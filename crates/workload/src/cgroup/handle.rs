//! From a cgroup's number to its place: the number is what file handles of the cgroup file system
//! are made of.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

/// `FILEID_KERNFS` of include/linux/exportfs.h.
const KERNFS: i32 = 0xfe;

/// `struct file_handle` with room for a number.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    id: [u8; 8],
}

/// The path of the cgroup `id` in the file system mounted at `root`.
pub(super) fn open(root: &Path, id: u64) -> io::Result<PathBuf> {
    let root = File::open(root)?;
    let mut handle = Handle { bytes: 8, kind: KERNFS, id: id.to_ne_bytes() };
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: the handle has the layout and the size that it says; the kernel only reads it.
    let fd = unsafe { libc::open_by_handle_at(root.as_raw_fd(), (&raw mut handle).cast(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let cgroup = unsafe { OwnedFd::from_raw_fd(fd) };
    fs::read_link(format!("/proc/self/fd/{}", cgroup.as_raw_fd()))
}
