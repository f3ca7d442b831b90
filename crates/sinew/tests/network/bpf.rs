//! The kernel's own list of programs, maps and links.

use std::{
    ffi::CString,
    fs,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

const OBJ_GET: i32 = 7;

fn bpf(command: i32, attributes: &mut [u64; 2]) -> Option<OwnedFd> {
    // SAFETY: the kernel reads the attributes; a path in them outlives the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes))
    };
    // SAFETY: the kernel has just made this descriptor for us.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// What is pinned at a path.
pub(crate) fn open(path: &Path) -> Option<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    bpf(OBJ_GET, &mut [path.as_ptr() as u64, 0])
}

/// Kind and number of an object.
pub(crate) fn number(object: &OwnedFd) -> Option<(String, u32)> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", object.as_raw_fd())).unwrap();
    // A link tells the number of its program as well, behind its own.
    ["link", "map", "prog"].into_iter().find_map(|kind| {
        let number = text.lines().find_map(|line| line.strip_prefix(&format!("{kind}_id:")))?;
        Some((kind.to_owned(), number.trim().parse().ok()?))
    })
}

/// Whether the kernel still has it.
pub(crate) fn exists((kind, number): &(String, u32)) -> bool {
    let command = match kind.as_str() {
        "prog" => 13,
        "map" => 14,
        _ => 30,
    };
    bpf(command, &mut [u64::from(*number), 0]).is_some()
}
