//! Cgroups of version 2: the tree in which workloads live, are counted and are killed.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Errno;

mod handle;
mod limits;
mod mounts;

pub use limits::{Enforcer, Unsupported, apply_limits, enforcers, mirrors, oom_kills};

/// Why a cgroup is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// This machine has no cgroup of version 2.
    #[error("no cgroup2 file system is mounted; mount one: mount -t cgroup2 none /sys/fs/cgroup")]
    NotMounted,
    /// A path outside the cgroup2 file system.
    #[error("{} is not in the cgroup2 file system at {}", path.display(), root.display())]
    Outside {
        /// The path.
        path: PathBuf,
        /// Where the file system is mounted.
        root: PathBuf,
    },
    /// The kernel refused.
    #[error("cannot {action} cgroup {}: {errno}", path.display())]
    Refused {
        /// What was tried.
        action: &'static str,
        /// The cgroup.
        path: PathBuf,
        /// Why not.
        errno: Errno,
    },
    /// Processes do not end though they were killed, as when they wait for a dead disk.
    #[error("processes in cgroup {} do not end though they were killed: {pids:?}", path.display())]
    Unkillable {
        /// The cgroup.
        path: PathBuf,
        /// Its processes.
        pids: Vec<u32>,
    },
}

impl Error {
    pub(crate) fn refused(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Refused { action, path: path.to_owned(), errno: error.into() }
    }
}

/// How long killed processes may take to end before [`remove_all`] gives up.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Each time another one is removed in the very moment.
const CREATE_TRIES: usize = 100;

/// Where cgroup2 is mounted.
///
/// # Errors
/// [`Error::NotMounted`].
pub fn find_root() -> Result<PathBuf, Error> {
    mounts::unified().ok_or(Error::NotMounted)
}

/// Whether a path can be a cgroup's, which need not exist.
///
/// # Errors
/// [`Error::Outside`] the cgroup2 file system, or [`Error::NotMounted`].
pub fn check(path: &Path) -> Result<(), Error> {
    let root = find_root()?;
    if path.starts_with(&root) {
        return Ok(());
    }
    Err(Error::Outside { path: path.to_owned(), root })
}

/// Makes a cgroup and those above it, as far as they are missing.
///
/// # Errors
/// When the path is outside the cgroup2 file system, or the kernel refuses.
pub fn create(path: &Path) -> Result<(), Error> {
    check(path)?;
    let made = || fs::create_dir_all(path);
    // The one above may be removed, as empty, after it was found or made.
    let is_final = |made: &io::Result<()>| made.as_ref().err().is_none_or(|error| !is_gone(error));
    let first = std::iter::repeat_with(made).take(CREATE_TRIES).find(is_final);
    first.unwrap_or_else(made).map_err(Error::refused("create", path))
}

/// Removes a cgroup, and its mirrors in version 1, unless there is something in it: processes, or
/// cgroups below it.
///
/// # Errors
/// When the kernel refuses.
pub fn remove_empty(path: &Path) -> Result<(), Error> {
    let mirrors = mirrors(path);
    if !removed_empty(path)? {
        return Ok(());
    }
    // One that is in use again is one of another cgroup of this name.
    mirrors.iter().try_for_each(|mirror| removed_empty(mirror).map(drop))
}

fn removed_empty(path: &Path) -> Result<bool, Error> {
    match remove_dir(path) {
        Err(Error::Refused { errno: Errno(libc::EBUSY | libc::ENOTEMPTY), .. }) => Ok(false),
        result => result.map(|()| true),
    }
}

/// Kills every process of a cgroup and of those below it. They end soon after: see [`Watch`].
///
/// # Errors
/// When the kernel refuses. A cgroup that does not exist has no processes: that is no error.
pub fn kill(path: &Path) -> Result<(), Error> {
    match fs::write(path.join("cgroup.kill"), "1") {
        Err(error) if !is_gone(&error) => Err(Error::refused("kill", path)(error)),
        _ => Ok(()),
    }
}

/// The processes of a cgroup and of those below it.
///
/// # Errors
/// When the kernel refuses. A cgroup that does not exist has none.
pub fn processes(path: &Path) -> Result<Vec<u32>, Error> {
    let mut pids = Vec::new();
    for cgroup in tree(path)? {
        match fs::read_to_string(cgroup.join("cgroup.procs")) {
            Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok())),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(Error::refused("read", &cgroup)(error)),
        }
    }
    Ok(pids)
}

/// How many processes are in a cgroup itself.
pub(crate) fn own_processes(path: &Path) -> u32 {
    let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    u32::try_from(text.lines().count()).unwrap_or(u32::MAX)
}

/// The cgroup that a process is in.
///
/// # Errors
/// When there is no such process, or its cgroup lies outside of what is mounted.
pub fn of(pid: u32) -> Result<PathBuf, Error> {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let text = fs::read_to_string(&path).map_err(Error::refused("read", &path))?;
    mounts::place(&text).ok_or(Error::NotMounted)
}

/// Moves what has a number now, with all its threads, into a cgroup; see [`crate::tree`] for one
/// that was looked at before.
///
/// # Errors
/// When the kernel refuses.
pub fn move_pid(path: &Path, pid: u32) -> Result<(), Error> {
    fs::write(path.join("cgroup.procs"), pid.to_string()).map_err(Error::refused("enter", path))
}

/// The number by which kernel programs know a cgroup.
///
/// # Errors
/// When there is no such cgroup.
pub fn id(path: &Path) -> Result<u64, Error> {
    Ok(fs::metadata(path).map_err(Error::refused("read", path))?.ino())
}

/// Where the cgroup of a number is; `None` when there is none, or this process may not ask.
#[must_use]
pub fn find(id: u64) -> Option<PathBuf> {
    handle::open(&find_root().ok()?, id).ok()
}

/// Kills what is in a cgroup and removes it, all below it, and their mirrors in version 1.
///
/// # Errors
/// When processes do not end within 10 s, or the kernel refuses. A cgroup that does not exist is
/// removed already.
pub fn remove_all(path: &Path) -> Result<(), Error> {
    kill(path)?;
    let deadline = Instant::now() + KILL_PATIENCE;
    loop {
        Watch::wait_empty(path, deadline)?;
        match remove_tree(path) {
            // A process on its way out holds its cgroup a little longer than it counts in it.
            Err(Error::Refused { errno: Errno(libc::EBUSY), .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

/// Removes the cgroups below one whose processes have ended.
pub(crate) fn remove_below(path: &Path) -> Result<(), Error> {
    tree(path)?.iter().rev().filter(|cgroup| *cgroup != path).try_for_each(|cgroup| remove(cgroup))
}

fn remove_tree(path: &Path) -> Result<(), Error> {
    tree(path)?.iter().rev().try_for_each(|cgroup| remove(cgroup))
}

fn remove(cgroup: &Path) -> Result<(), Error> {
    for mirror in mirrors(cgroup) {
        remove_dir(&mirror)?;
    }
    remove_dir(cgroup)
}

fn remove_dir(path: &Path) -> Result<(), Error> {
    match fs::remove_dir(path) {
        Err(error) if !is_gone(&error) => Err(Error::refused("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A cgroup and all below it, parents first; empty when it does not exist.
fn tree(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = vec![path.to_owned()];
    let mut next = 0;
    while let Some(cgroup) = found.get(next).cloned() {
        next += 1;
        let entries = match fs::read_dir(&cgroup) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(Error::refused("list", &cgroup)(error)),
        };
        let dirs = entries.flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir()));
        found.extend(dirs.map(|entry| entry.path()));
    }
    Ok(found)
}

/// ENODEV is what an open file of a removed cgroup answers.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// Tells when the last process of a cgroup, and of those below it, has ended: the file descriptor
/// reports `POLLPRI` at every change.
#[derive(Debug)]
pub struct Watch {
    events: File,
}

impl Watch {
    /// Watches a cgroup.
    ///
    /// # Errors
    /// When there is no such cgroup.
    pub fn new(path: &Path) -> Result<Self, Error> {
        let events =
            File::open(path.join("cgroup.events")).map_err(Error::refused("watch", path))?;
        Ok(Self { events })
    }

    /// Whether there are processes. Arms the file descriptor again.
    pub fn is_populated(&mut self) -> bool {
        let mut text = String::new();
        let read = self.events.seek(SeekFrom::Start(0));
        let read = read.and_then(|_| self.events.read_to_string(&mut text));
        // A removed cgroup has none.
        read.is_ok() && text.lines().any(|line| line == "populated 1")
    }

    fn wait_empty(path: &Path, deadline: Instant) -> Result<(), Error> {
        let Ok(mut watch) = Self::new(path) else { return Ok(()) };
        while watch.is_populated() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Unkillable { path: path.to_owned(), pids: processes(path)? });
            }
            // A child made while its parent was being killed is killed by the kernel as well, but
            // a process that was moved in is not.
            kill(path)?;
            let timeout = Timespec::try_from(left).ok();
            let mut fds = [PollFd::new(&watch, PollFlags::PRI)];
            poll(&mut fds, timeout.as_ref())
                .map_err(|e| Error::refused("watch", path)(e.into()))?;
        }
        Ok(())
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}
