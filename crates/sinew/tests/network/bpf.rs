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

/// How many keys a pinned map has.
pub(crate) fn keys(path: &Path) -> usize {
    const GET_NEXT_KEY: i64 = 4;
    let Some(map) = open(path) else { return 0 };
    let (mut count, mut key, mut next) = (0, None, [0_u8; 64]);
    loop {
        let from: *const [u8; 64] = key.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        let attributes = [map.as_raw_fd() as u64, from as u64, next.as_mut_ptr() as u64, 0];
        // SAFETY: the kernel reads one key and writes another, none longer than these buffers.
        let found = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                GET_NEXT_KEY,
                attributes.as_ptr(),
                size_of_val(&attributes),
            )
        };
        if found != 0 {
            return count;
        }
        (count, key) = (count + 1, Some(next));
    }
}

/// The values of a pinned array that is made to be mapped.
///
/// `T` is of integers alone, as all that the kernel programs share.
pub(crate) fn values<T: Copy>(path: &Path, len: u32) -> Vec<T> {
    let Some(map) = open(path) else { return Vec::new() };
    let stride = size_of::<T>().next_multiple_of(8);
    let (bytes, flags) = (stride * len as usize, rustix::mm::MapFlags::SHARED);
    let (null, protection) = (std::ptr::null_mut(), rustix::mm::ProtFlags::READ);
    // SAFETY: a new mapping, which lasts until it is unmapped below.
    let at = unsafe { rustix::mm::mmap(null, bytes, protection, flags, &map, 0) }.unwrap();
    // SAFETY: each of `len` places holds a `T`, of which any bytes are a value.
    let read = |index: usize| unsafe { at.byte_add(index * stride).cast::<T>().read_volatile() };
    let values = (0..len as usize).map(read).collect();
    // SAFETY: nothing refers to the mapping any more.
    unsafe { rustix::mm::munmap(at, bytes) }.unwrap();
    values
}
