//! Moves processes that run already from one cgroup to another: never another one that got the
//! number of one meanwhile, and none of the children that they make on the way is left behind.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{XattrFlags, getxattr, setxattr},
};

use crate::{
    cgroup::{self, Error},
    process::{ProcessId, Stat},
};

/// Names the cgroup that the processes in this one came from: a cgroup that bears it is emptied by
/// moving them back, never by killing them, whoever finds it.
const ORIGIN: &str = "trusted.sinew.origin";
/// A tree that still has new members outside after so many looks is a fork bomb.
const ROUNDS: usize = 1000;

/// Why a tree was not moved.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Its root has ended.
    #[error("it has ended")]
    Ended,
    /// It makes processes faster than they can be moved.
    #[error("it makes new processes faster than they can be moved")]
    Growing,
    /// One of it may not be moved.
    #[error("{0}")]
    Forbidden(String),
    /// The kernel refused.
    #[error(transparent)]
    Cgroup(#[from] Error),
    /// `/proc` cannot be read.
    #[error("cannot read /proc: {0}")]
    Io(#[from] io::Error),
}

/// Moves a process, with all its threads, into a cgroup; false when it has ended.
///
/// The kernel takes numbers here, no handles. A number belongs to the handle's process as long as
/// that one lives, so when it still does after the move, it was the one that moved. When it does
/// not, whoever may have got the number in that moment is put back beside its parent.
///
/// # Errors
/// When the kernel refuses.
pub fn move_process(cgroup: &Path, pid: u32, process: BorrowedFd<'_>) -> Result<bool, Error> {
    if has_ended(process) {
        return Ok(false);
    }
    let moved = cgroup::move_pid(cgroup, pid);
    if !has_ended(process) {
        return moved.map(|()| true);
    }
    let is_stranger = Stat::read(pid).is_ok_and(|stat| stat.state != 'Z');
    if moved.is_ok()
        && is_stranger
        && let Ok(parent) = Stat::read(pid).map(|stat| stat.parent)
        && let Ok(home) = cgroup::of(parent)
    {
        cgroup::move_pid(&home, pid)?;
    }
    Ok(false)
}

/// Whether the process behind a handle has ended.
pub fn has_ended(process: BorrowedFd<'_>) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [PollFd::from_borrowed_fd(process, PollFlags::IN)];
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// A process and all that descend from it; empty when it has ended.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn processes_of(root: u32) -> io::Result<Vec<u32>> {
    let mut children: Vec<(u32, u32)> = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(pid) = pid else { continue };
        if let Ok(stat) = Stat::read(pid)
            && stat.state != 'Z'
        {
            children.push((stat.parent, pid));
        }
    }
    let mut found: Vec<u32> =
        children.iter().filter(|(_, pid)| *pid == root).map(|(_, pid)| *pid).collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        found.extend(children.iter().filter(|(of, _)| *of == parent).map(|(_, pid)| *pid));
    }
    Ok(found)
}

/// Moves a process and its descendants from `from`, and what lies below it, into `to`. Descendants
/// that somebody put elsewhere stay there. `may` is asked of each before it is moved. Answers how
/// many were moved.
///
/// # Errors
/// When the root has ended, `may` refuses one, or the kernel does; what was moved is moved back.
pub fn move_tree(
    root: ProcessId,
    from: &Path,
    to: &Path,
    may: &dyn Fn(u32) -> Result<(), String>,
) -> Result<usize, TreeError> {
    let handle = root.open().ok_or(TreeError::Ended)?;
    set_origin(to, from)?;
    match move_rounds(root, from, to, may) {
        Ok(0) => Err(TreeError::Ended),
        Ok(_) if has_ended(handle.as_fd()) && cgroup::processes(to)?.is_empty() => {
            Err(TreeError::Ended)
        }
        Ok(moved) => Ok(moved),
        Err(error) => {
            give_back(to)?;
            Err(error)
        }
    }
}

fn move_rounds(
    root: ProcessId,
    from: &Path,
    to: &Path,
    may: &dyn Fn(u32) -> Result<(), String>,
) -> Result<usize, TreeError> {
    let mut all = BTreeSet::new();
    for _ in 0..ROUNDS {
        let mut moved = false;
        let tree: BTreeSet<u32> = processes_of(root.pid)?.into_iter().collect();
        // Parents come before their children more often than not: those that they make from then
        // on are born in the right place.
        for pid in &tree {
            let Some(process) = open_member(*pid, root, &tree) else { continue };
            let Ok(is) = cgroup::of(*pid) else { continue };
            if is.starts_with(to) || !is.starts_with(from) {
                continue;
            }
            may(*pid).map_err(TreeError::Forbidden)?;
            if move_process(to, *pid, process.as_fd())? {
                all.insert(*pid);
                moved = true;
            }
        }
        if !moved {
            return Ok(all.len());
        }
    }
    Err(TreeError::Growing)
}

/// A handle to a process of the tree: whoever it names is the root, or has its parent in the tree.
fn open_member(pid: u32, root: ProcessId, tree: &BTreeSet<u32>) -> Option<OwnedFd> {
    if pid == root.pid {
        return root.open();
    }
    let process = ProcessId::of(pid).ok()?.open()?;
    tree.contains(&Stat::read(pid).ok()?.parent).then_some(process)
}

/// Remembers at a cgroup where its processes came from.
fn set_origin(cgroup: &Path, origin: &Path) -> Result<(), Error> {
    use std::os::unix::ffi::OsStrExt as _;
    setxattr(cgroup, ORIGIN, origin.as_os_str().as_bytes(), XattrFlags::empty())
        .map_err(|error| Error::refused("mark", cgroup)(error.into()))
}

/// Where the processes of a cgroup came from, when they were moved into it as they ran.
pub fn origin(cgroup: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let mut value = vec![0; 4096];
    let len = getxattr(cgroup, ORIGIN, &mut value).ok()?;
    value.truncate(len);
    Some(std::ffi::OsString::from_vec(value).into())
}

/// Where processes were moved back to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenBack {
    /// Where they are now.
    pub to: PathBuf,
    /// Where they came from, when that is gone.
    pub gone: Option<PathBuf>,
    /// How many they are.
    pub processes: usize,
}

/// Moves everything in a cgroup back to where it came from, or as near to it as there is something;
/// `None` when nothing in it came from elsewhere.
///
/// # Errors
/// When the kernel refuses, or processes are made faster than they can be moved: what is left there
/// must not be killed.
pub fn give_back(cgroup: &Path) -> Result<Option<GivenBack>, TreeError> {
    let Some(origin) = origin(cgroup) else { return Ok(None) };
    let root = cgroup::find_root()?;
    let homes: Vec<&Path> =
        origin.ancestors().filter(|home| home.starts_with(&root) && home.is_dir()).collect();
    let mut moved = BTreeSet::new();
    let mut at = homes.first().copied().unwrap_or(&root);
    let mut rounds = 0;
    loop {
        let left = cgroup::processes(cgroup)?;
        if left.is_empty() {
            break;
        }
        if rounds == ROUNDS {
            return Err(TreeError::Growing);
        }
        rounds += 1;
        for pid in left {
            let Some(process) = ProcessId::of(pid).ok().and_then(ProcessId::open) else { continue };
            if !cgroup::of(pid).is_ok_and(|is| is.starts_with(cgroup)) {
                continue;
            }
            at = move_to_first(&homes, pid, process.as_fd())?;
            moved.insert(pid);
        }
    }
    let gone = (at != origin).then(|| origin.clone());
    Ok(Some(GivenBack { to: at.to_owned(), gone, processes: moved.len() }))
}

/// A cgroup whose controllers are handed on to those below it takes no processes itself.
fn move_to_first<'a>(
    homes: &[&'a Path],
    pid: u32,
    process: BorrowedFd<'_>,
) -> Result<&'a Path, Error> {
    let mut result = Err(Error::NotMounted);
    for home in homes {
        result = move_process(home, pid, process).map(|_| *home);
        if result.is_ok() {
            break;
        }
    }
    result
}
