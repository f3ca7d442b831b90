//! Run times of eBPF programs, as the kernel counts them, and an empty program to compare with.

mod link;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_link_info, bpf_prog_info, bpf_prog_type};

pub(crate) use link::{Link, links};

/// A program that is loaded.
pub(crate) struct Program {
    fd: OwnedFd,
}

/// How often a program ran, and for how long in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs {
    pub(crate) count: u64,
    pub(crate) time_ns: u64,
}

impl Runs {
    pub(crate) fn since(self, before: Self) -> Self {
        Self { count: self.count - before.count, time_ns: self.time_ns - before.time_ns }
    }

    /// Nanoseconds a run; none without a run.
    pub(crate) fn mean_ns(self) -> Option<f64> {
        (self.count > 0).then(|| self.time_ns as f64 / self.count as f64)
    }
}

impl Program {
    pub(crate) fn id(&self) -> Result<u32> {
        Ok(self.info()?.id)
    }

    pub(crate) fn name(&self) -> Result<String> {
        let name = self.info()?.name.map(|byte| byte as u8);
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        Ok(String::from_utf8_lossy(&name[..end]).into_owned())
    }

    pub(crate) fn runs(&self) -> Result<Runs> {
        let info = self.info()?;
        Ok(Runs { count: info.run_cnt, time_ns: info.run_time_ns })
    }

    fn info(&self) -> Result<bpf_prog_info> {
        // SAFETY: a program's information is plain numbers, for which zeros are valid.
        unsafe { info(&self.fd) }.context("a program's information cannot be read")
    }
}

/// Makes the kernel count run times until the result is dropped.
pub(crate) fn count_run_times() -> Result<OwnedFd> {
    let mut run_time = 0_u32;
    // SAFETY: the attribute of BPF_ENABLE_STATS is the number of the statistic.
    unsafe { open(bpf_cmd::BPF_ENABLE_STATS, &mut run_time) }
        .context("run times of programs cannot be counted")
}

/// A map that is pinned.
pub(crate) struct Map {
    fd: OwnedFd,
}

impl Map {
    pub(crate) fn pinned(path: &Path) -> Result<Self> {
        let fd = opened(path).with_context(|| format!("{} cannot be opened", path.display()))?;
        Ok(Self { fd })
    }

    /// The value of a key.
    ///
    /// # Safety
    /// `K` and `V` must be the map's own types, and any bytes a valid `V`.
    pub(crate) unsafe fn get<K, V>(&self, key: &K) -> io::Result<V> {
        // SAFETY: the caller says that zeros are valid.
        let mut value: V = unsafe { std::mem::zeroed() };
        let mut attribute = Element {
            map: self.fd.as_raw_fd() as u32,
            padding: 0,
            key: (&raw const *key) as u64,
            value: (&raw mut value) as u64,
            flags: 0,
        };
        // SAFETY: the attribute of BPF_MAP_LOOKUP_ELEM; the caller vouches for the sizes.
        unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attribute) }?;
        Ok(value)
    }
}

/// The programs pinned below a directory, by themselves or by their links.
pub(crate) fn pinned(directory: &Path) -> Result<Vec<Program>> {
    let mut by_id = BTreeMap::new();
    for (kind, fd) in pins(directory)? {
        let program = match kind {
            Kind::Program => Program { fd },
            Kind::Link => program_of(&fd)?,
            Kind::Other => continue,
        };
        by_id.insert(program.id()?, program);
    }
    Ok(by_id.into_values().collect())
}

/// What a pin holds.
#[derive(PartialEq)]
enum Kind {
    Program,
    Link,
    Other,
}

/// Everything pinned below a directory. An agent that has just started renames what it keeps: what
/// is gone by the time it is opened is pinned under another name, and left out.
fn pins(root: &Path) -> Result<Vec<(Kind, OwnedFd)>> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(error) if gone(&error) && directory != root => continue,
            entries => {
                entries.with_context(|| format!("{} cannot be read", directory.display()))?
            }
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let fd = match opened(&path) {
                Err(error) if gone(&error) => continue,
                fd => fd.with_context(|| format!("{} cannot be opened", path.display()))?,
            };
            let kind = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))?;
            let kind = match kind.to_string_lossy().as_ref() {
                "anon_inode:bpf-prog" => Kind::Program,
                "anon_inode:bpf_link" | "anon_inode:bpf-link" => Kind::Link,
                _ => Kind::Other,
            };
            found.push((kind, fd));
        }
    }
    Ok(found)
}

fn opened(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut attribute = Pathname { pathname: name.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: the attribute is the one of BPF_OBJ_GET; the name outlives the call.
    unsafe { open(bpf_cmd::BPF_OBJ_GET, &mut attribute) }
}

fn program_of(link: &OwnedFd) -> Result<Program> {
    // SAFETY: a link's information is plain numbers, for which zeros are valid.
    let link: bpf_link_info =
        unsafe { info(link) }.context("a link's information cannot be read")?;
    let mut id = link.prog_id;
    // SAFETY: the attribute of BPF_PROG_GET_FD_BY_ID begins with the program's number.
    let fd = unsafe { open(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut id) }
        .context("a link's program cannot be opened")?;
    Ok(Program { fd })
}

/// Attaches a program that only allows to the `connect4` hook of a cgroup, until the link is
/// dropped.
pub(crate) fn attach_empty(cgroup: &Path) -> Result<(Program, OwnedFd)> {
    // r0 = 1; exit
    let instructions: [u64; 2] = [0x0000_0001_0000_00b7, 0x0000_0000_0000_0095];
    let mut load = Load {
        kind: bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR as u32,
        instructions_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log: [0; 4],
        version_and_flags: [0; 2],
        name: *b"empty\0\0\0\0\0\0\0\0\0\0\0",
        interface: 0,
        attach_type: bpf_attach_type::BPF_CGROUP_INET4_CONNECT as u32,
    };
    // SAFETY: the attribute is the one of BPF_PROG_LOAD; instructions and licence outlive the call.
    let program = unsafe { open(bpf_cmd::BPF_PROG_LOAD, &mut load) }
        .context("an empty program cannot be loaded")?;
    let cgroup = File::open(cgroup)?;
    let mut link = [
        program.as_raw_fd() as u32,
        cgroup.as_raw_fd() as u32,
        bpf_attach_type::BPF_CGROUP_INET4_CONNECT as u32,
        0,
    ];
    // SAFETY: the attribute of BPF_LINK_CREATE begins with program, target, type and flags.
    let link = unsafe { open(bpf_cmd::BPF_LINK_CREATE, &mut link) }
        .context("an empty program cannot be attached")?;
    Ok((Program { fd: program }, link))
}

#[repr(C)]
struct Load {
    kind: u32,
    instructions_count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 4],
    version_and_flags: [u32; 2],
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

#[repr(C)]
struct Pathname {
    pathname: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct Info {
    fd: u32,
    length: u32,
    info: u64,
}

/// # Safety
/// `T` must be the kernel's structure for what the descriptor stands for, valid when all zero.
unsafe fn info<T>(fd: &OwnedFd) -> io::Result<T> {
    // SAFETY: the caller chose a type for which zeros are valid.
    let mut found: T = unsafe { std::mem::zeroed() };
    let mut attribute = Info {
        fd: fd.as_raw_fd() as u32,
        length: size_of::<T>() as u32,
        info: (&raw mut found) as u64,
    };
    // SAFETY: the attribute is the one of this command; the kernel writes at most `length` bytes.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attribute) }?;
    Ok(found)
}

/// # Safety
/// As [`bpf`], for a command that returns a new file descriptor.
unsafe fn open<T>(command: bpf_cmd, attribute: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: as the caller promised.
    let fd = unsafe { bpf(command, attribute) }?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// `T` must be a prefix of the command's attribute, and what it points to must be valid.
unsafe fn bpf<T>(command: bpf_cmd, attribute: &mut T) -> io::Result<i32> {
    // SAFETY: the size tells the kernel how much of the attribute there is.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as u32, &raw mut *attribute, size_of::<T>() as u32)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
