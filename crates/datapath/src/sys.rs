//! The `bpf` system call, for what aya does not offer: cgroup links that are updated in place,
//! iterators run on demand. Layouts are those of `union bpf_attr` in include/uapi/linux/bpf.h.

use std::{
    collections::HashSet,
    ffi::CString,
    hash::Hash,
    io,
    net::{Ipv4Addr, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

const MAP_CREATE: i32 = 0;
const OBJ_PIN: i32 = 6;
const OBJ_GET: i32 = 7;
const PROG_TEST_RUN: i32 = 10;
const PROG_GET_FD_BY_ID: i32 = 13;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const PROG_QUERY: i32 = 16;
const RAW_TRACEPOINT_OPEN: i32 = 17;
const LINK_CREATE: i32 = 28;
const LINK_UPDATE: i32 = 29;
const ITER_CREATE: i32 = 33;

/// Attach types of `enum bpf_attach_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum AttachType {
    SockOps = 3,
    Bind4 = 8,
    Bind6 = 9,
    Connect4 = 10,
    Connect6 = 11,
    PostBind4 = 12,
    PostBind6 = 13,
    SendMsg4 = 14,
    SendMsg6 = 15,
    RecvMsg4 = 19,
    RecvMsg6 = 20,
    TraceIter = 28,
    GetPeerName4 = 29,
    GetPeerName6 = 30,
    GetSockName4 = 31,
    GetSockName6 = 32,
    SockRelease = 34,
    SkLookup = 36,
}

fn bpf<T>(command: i32, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: every caller passes a repr(C) prefix of `union bpf_attr` whose pointers outlive the
    // call; the kernel treats what lies behind the given size as zero.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        i32::try_from(result).map_err(io::Error::other)
    }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[repr(C)]
struct Object {
    pathname: u64,
    fd: u32,
    flags: u32,
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Pins a descriptor at a path of a bpf file system.
pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attributes =
        Object { pathname: path.as_ptr() as u64, fd: fd.as_raw_fd() as u32, flags: 0 };
    bpf(OBJ_PIN, &mut attributes).map(drop)
}

/// Opens what is pinned at a path.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attributes = Object { pathname: path.as_ptr() as u64, fd: 0, flags: 0 };
    bpf(OBJ_GET, &mut attributes).map(owned)
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches a program to a cgroup or a network namespace (or makes an iterator link, whose target
/// is 0).
pub(crate) fn link_create(
    program: BorrowedFd<'_>,
    target: Option<BorrowedFd<'_>>,
    attach_type: AttachType,
) -> io::Result<OwnedFd> {
    let mut attributes = LinkCreate {
        program: program.as_raw_fd() as u32,
        target: target.map_or(0, |fd| fd.as_raw_fd() as u32),
        attach_type: attach_type as u32,
        flags: 0,
    };
    bpf(LINK_CREATE, &mut attributes).map(owned)
}

#[repr(C)]
struct RawTracepoint {
    name: u64,
    program: u32,
    pad: u32,
}

/// Attaches a program to a raw tracepoint.
pub(crate) fn raw_tracepoint(name: &str, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let name = CString::new(name).map_err(io::Error::other)?;
    let program = program.as_raw_fd() as u32;
    let mut attributes = RawTracepoint { name: name.as_ptr() as u64, program, pad: 0 };
    bpf(RAW_TRACEPOINT_OPEN, &mut attributes).map(owned)
}

/// Replaces the program of a link, atomically: a call runs the old or the new one, never none.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = LinkCreate {
        program: link.as_raw_fd() as u32,
        target: program.as_raw_fd() as u32,
        attach_type: 0,
        flags: 0,
    };
    bpf(LINK_UPDATE, &mut attributes).map(drop)
}

/// What `BPF_PROG_QUERY` takes and answers.
#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    programs: u32,
    pad: u32,
    rest: [u64; 4],
}

/// How many programs stand on a hook of a cgroup or a network namespace itself, and with which flags.
pub(crate) fn query(target: BorrowedFd<'_>, attach_type: AttachType) -> io::Result<(u32, u32)> {
    let target = target.as_raw_fd() as u32;
    // Without room for their numbers the kernel tells how many there are.
    let mut query = Query { target, attach_type: attach_type as u32, ..Query::default() };
    match bpf(PROG_QUERY, &mut query) {
        Err(error) if error.raw_os_error() != Some(libc::ENOSPC) => Err(error),
        _ => Ok((query.programs, query.attach_flags)),
    }
}

/// What a link connects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkInfo {
    pub(crate) program_id: u32,
    /// Id of the cgroup, or inode of the network namespace; 0 when it is gone.
    pub(crate) target: u64,
}

#[repr(C)]
#[derive(Default)]
struct RawLinkInfo {
    kind: u32,
    id: u32,
    program_id: u32,
    pad: u32,
    /// Of a cgroup link its id; of one on a network namespace the inode and, in the upper half, the
    /// attach type.
    target: u64,
    rest: [u32; 10],
}

#[repr(C)]
struct InfoByFd {
    fd: u32,
    len: u32,
    info: u64,
}

/// Reads what a link connects.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = RawLinkInfo::default();
    let mut attributes = InfoByFd {
        fd: link.as_raw_fd() as u32,
        len: size_of::<RawLinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attributes)?;
    const NETNS: u32 = 5;
    let target = if info.kind == NETNS { info.target & 0xffff_ffff } else { info.target };
    Ok(LinkInfo { program_id: info.program_id, target })
}

#[repr(C)]
#[derive(Default)]
struct RawObjectInfo {
    kind: u32,
    id: u32,
}

/// The number of a map or a program; no other has it until the next boot.
pub(crate) fn object_id(object: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = RawObjectInfo::default();
    let mut attributes = InfoByFd {
        fd: object.as_raw_fd() as u32,
        len: size_of::<RawObjectInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(info.id)
}

/// Opens a loaded program by its id.
pub(crate) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attributes = [id, 0, 0, 0];
    bpf(PROG_GET_FD_BY_ID, &mut attributes).map(owned)
}

/// Runs an iterator link until its program has seen all, or enough.
pub(crate) fn run_iterator(link: BorrowedFd<'_>) -> io::Result<()> {
    let iterator = iterator(link)?;
    let mut scratch = [0; 4096];
    loop {
        match rustix::io::read(iterator.as_fd(), &mut scratch) {
            // What the program's wish to stop looks like from here.
            Ok(0) | Err(rustix::io::Errno::AGAIN) => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Hands over what the program of an iterator link writes, until it has seen all; each piece holds
/// whole values, when their size is a power of two.
pub(crate) fn read_iterator(link: BorrowedFd<'_>, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let iterator = iterator(link)?;
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(iterator.as_fd(), &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => take(&buffer[..length]),
            // The kernel pauses after a million objects of which the program told nothing.
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn iterator(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attributes = [link.as_raw_fd() as u32, 0];
    bpf(ITER_CREATE, &mut attributes).map(owned)
}

/// What `BPF_PROG_TEST_RUN` takes and answers.
#[repr(C)]
#[derive(Default)]
struct Run {
    program: u32,
    result: u32,
    data_sizes: [u32; 2],
    data: [u64; 2],
    repeat: u32,
    duration: u32,
    context_size: u32,
    context_out_size: u32,
    context: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    pad: u32,
}

/// Runs a raw tracepoint's program once, here, with these arguments; its answer.
pub(crate) fn run_program(program: BorrowedFd<'_>, arguments: [u64; 2]) -> io::Result<u32> {
    let mut run = Run {
        program: program.as_raw_fd() as u32,
        context_size: size_of_val(&arguments) as u32,
        context: (&raw const arguments) as u64,
        ..Run::default()
    };
    bpf(PROG_TEST_RUN, &mut run)?;
    Ok(run.result)
}

/// Waits until every program run that began before has ended, so that what was taken out of the
/// maps can be used anew: a grace period of the kernel's RCU. A kernel with processors without
/// ticks (nohz_full), or a filter of system calls, has no membarrier.
pub(crate) fn grace_period() -> io::Result<()> {
    membarrier().or_else(|_| map_barrier())
}

/// MEMBARRIER_CMD_GLOBAL is a grace period.
fn membarrier() -> io::Result<()> {
    const GLOBAL: i32 = 1;
    // SAFETY: no pointers.
    match unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner: u32,
}

/// A new map of an array's kind, whose keys are its places.
fn array_create(kind: u32, value_size: u32, max_entries: u32, inner: u32) -> io::Result<OwnedFd> {
    let mut attributes = MapCreate { kind, key_size: 4, value_size, max_entries, flags: 0, inner };
    bpf(MAP_CREATE, &mut attributes).map(owned)
}

/// A new array that cannot be mapped into memory.
pub(crate) fn plain_array(value_size: u32, max_entries: u32) -> io::Result<OwnedFd> {
    const ARRAY: u32 = 2;
    array_create(ARRAY, value_size, max_entries, 0)
}

/// Who changes a map of maps is held until no program can still use the one that was there
/// (maybe_wait_bpf_programs() in kernel/bpf/syscall.c).
fn map_barrier() -> io::Result<()> {
    const ARRAY_OF_MAPS: u32 = 12;
    let inner = plain_array(4, 1)?;
    let fd = inner.as_raw_fd() as u32;
    let outer = array_create(ARRAY_OF_MAPS, 4, 1, fd)?;
    map_update(outer.as_fd(), &0u32, &[fd])
}

/// Cookie of the calling thread's network namespace, as the programs see it.
pub(crate) fn network_cookie() -> io::Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (mut cookie, mut len) = (0u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the kernel writes at most `len` bytes to `cookie`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            std::ptr::from_mut(&mut cookie).cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Monotonic time as the programs see it, nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

const MAP_LOOKUP: i32 = 1;
const MAP_UPDATE: i32 = 2;
const MAP_DELETE: i32 = 3;
const MAP_NEXT_KEY: i32 = 4;

#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    /// Value, or the place for the next key.
    value: u64,
    flags: u64,
}

fn element<K>(map: BorrowedFd<'_>, key: Option<&K>, value: u64) -> Element {
    let key = key.map_or(0, |key| std::ptr::from_ref(key) as u64);
    Element { map: map.as_raw_fd() as u32, pad: 0, key, value, flags: 0 }
}

/// Sets an element to `value`, whose length is that of [`map_lookup`].
pub(crate) fn map_update<K: aya::Pod, V: aya::Pod>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &[V],
) -> io::Result<()> {
    let mut attributes = element(map, Some(key), value.as_ptr() as u64);
    bpf(MAP_UPDATE, &mut attributes).map(drop)
}

/// Removes an element; false when there was none.
pub(crate) fn map_delete<K: aya::Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    let mut attributes = element(map, Some(key), 0);
    match bpf(MAP_DELETE, &mut attributes) {
        Ok(_) => Ok(true),
        // A socket map answers EINVAL for an empty place.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Reads an element into `value`, whose length is a multiple of the map's value size (one copy
/// for every possible CPU in per-CPU maps); false when there is none.
pub(crate) fn map_lookup<K: aya::Pod, V: aya::Pod>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &mut [V],
) -> io::Result<bool> {
    let mut attributes = element(map, Some(key), value.as_mut_ptr() as u64);
    match bpf(MAP_LOOKUP, &mut attributes) {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(e) => Err(e),
    }
}

/// All keys of a hash map, as they were found while others may have changed it.
pub(crate) fn map_keys<K: aya::Pod + Eq + Hash>(
    map: BorrowedFd<'_>,
    zero: K,
) -> io::Result<Vec<K>> {
    walk(|last| {
        let mut next = zero;
        let mut attributes = element(map, last, (&raw mut next) as u64);
        match bpf(MAP_NEXT_KEY, &mut attributes) {
            Ok(_) => Ok(Some(next)),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    })
}

/// A walk is thrown back to its beginning when the key that it stands at is removed. It goes on until
/// it has met all so often again: a map that changes faster cannot be read as a whole.
const WALKS_AGAIN: usize = 4;

/// Each key once, from `next`, which gives the one behind another.
fn walk<K: Copy + Eq + Hash>(
    mut next: impl FnMut(Option<&K>) -> io::Result<Option<K>>,
) -> io::Result<Vec<K>> {
    let (mut keys, mut seen) = (Vec::new(), HashSet::new());
    let (mut at, mut met_again) = (None, 0);
    while let Some(key) = next(at.as_ref())? {
        if seen.insert(key) {
            keys.push(key);
        } else {
            met_again += 1;
        }
        if met_again > WALKS_AGAIN * keys.len() {
            break;
        }
        at = Some(key);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks the keys 0 to 9 in order, as the kernel does, while `change` is done to them before
    /// each step.
    fn walked(mut change: impl FnMut(u32, &mut Vec<u32>)) -> Vec<u32> {
        let (mut there, mut step) = ((0..10).collect::<Vec<u32>>(), 0);
        let next = |at: Option<&u32>| {
            step += 1;
            assert!(step < 1_000, "it never ends");
            change(step, &mut there);
            let behind = at.and_then(|at| there.iter().position(|key| key == at));
            Ok(there.get(behind.map_or(0, |index| index + 1)).copied())
        };
        walk(next).unwrap()
    }

    #[test]
    fn a_grace_period_can_be_waited_for_in_either_way() {
        membarrier().unwrap();
        map_barrier().unwrap();
        grace_period().unwrap();
    }

    #[test]
    fn each_key_is_met_once() {
        assert_eq!(walked(|_, _| ()), (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_walk_that_is_thrown_back_goes_on() {
        let met = walked(|step, there| {
            if step == 6 {
                there.retain(|key| *key != 4);
            }
        });
        assert_eq!(met, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_map_that_always_changes_is_left_in_the_end() {
        // Where the walk stands is always removed, and comes back when it has gone on.
        let mut removed = None;
        let met = walked(|_, there| {
            let first = there.remove(0);
            there.extend(removed.replace(first));
        });
        assert_eq!(met.len(), 10, "{met:?}");
    }
}
