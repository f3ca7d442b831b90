//! The kernel's own list of programs, maps and links.

use std::{
    collections::BTreeSet,
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
pub(crate) fn exists((kind, number): &Object) -> bool {
    by_number(kind, *number).is_some()
}

/// A program, map or link that the kernel has.
pub(crate) type Object = (String, u32);

/// All of one kind in the whole system, whoever has them.
fn all(kind: &str) -> Vec<u32> {
    let (next, mut number, mut all) = (command(kind, NEXT), 0u32, Vec::new());
    loop {
        // Of `union bpf_attr`: the number to start behind, and the next one.
        let mut attributes = [u64::from(number), 0];
        // SAFETY: the kernel reads and writes the attributes alone.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, next, attributes.as_mut_ptr(), size_of_val(&attributes))
        };
        if result < 0 {
            return all;
        }
        number = (attributes[0] >> 32) as u32;
        all.push(number);
    }
}

const NEXT: usize = 0;
const OPEN: usize = 1;

fn command(kind: &str, what: usize) -> i32 {
    match kind {
        "prog" => [11, 13][what],
        "map" => [12, 14][what],
        _ => [31, 30][what],
    }
}

fn by_number(kind: &str, number: u32) -> Option<OwnedFd> {
    bpf(command(kind, OPEN), &mut [u64::from(number), 0])
}

/// The maps that a program uses, by `struct bpf_prog_info`.
fn maps_of(program: &OwnedFd) -> Vec<u32> {
    const GET_INFO: i32 = 15;
    let mut maps = [0u32; 64];
    let mut info = [0u64; 10];
    // `nr_map_ids` is the upper half of the word at 48, `map_ids` the word at 56.
    info[6] = (maps.len() as u64) << 32;
    info[7] = maps.as_mut_ptr() as u64;
    let length = (size_of_val(&info) as u64) << 32;
    let mut attributes = [length | program.as_raw_fd() as u64, info.as_mut_ptr() as u64];
    // SAFETY: the kernel writes to `info` and `maps`, no more than is told; both outlive the call.
    let result = unsafe {
        let length = size_of_val(&attributes);
        libc::syscall(libc::SYS_bpf, GET_INFO, attributes.as_mut_ptr(), length)
    };
    assert_eq!(result, 0, "the kernel tells of its programs");
    maps[..(info[6] >> 32) as usize].to_vec()
}

/// Everything in the system that has to do with these maps, pinned or not: the programs that use
/// them, all maps of those, and their links.
pub(crate) fn related(maps: &BTreeSet<u32>) -> BTreeSet<Object> {
    let mut found = BTreeSet::new();
    let mut programs = BTreeSet::new();
    for number in all("prog") {
        let uses = by_number("prog", number).map(|program| maps_of(&program)).unwrap_or_default();
        if uses.iter().any(|map| maps.contains(map)) {
            programs.insert(number);
            found.extend(uses.into_iter().map(|map| ("map".to_owned(), map)));
        }
    }
    for number in all("link") {
        let link = by_number("link", number);
        let text = link
            .and_then(|l| fs::read_to_string(format!("/proc/self/fdinfo/{}", l.as_raw_fd())).ok());
        let runs =
            text.as_deref().and_then(|text| text.lines().find_map(|l| l.strip_prefix("prog_id:")));
        if runs.and_then(|n| n.trim().parse().ok()).is_some_and(|n| programs.contains(&n)) {
            found.insert(("link".to_owned(), number));
        }
    }
    let there: BTreeSet<u32> = all("map").into_iter().collect();
    found.extend(maps.intersection(&there).map(|map| ("map".to_owned(), *map)));
    found.extend(programs.into_iter().map(|program| ("prog".to_owned(), program)));
    found
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
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.as_raw_fd())).unwrap();
    let is_size = |line: &str| line == format!("value_size:\t{}", size_of::<T>());
    assert!(info.lines().any(is_size), "{}: another type is there: {info}", path.display());
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
