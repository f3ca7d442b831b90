//! Limits, by the controllers of version 2 or, on a machine that has given those to version 1, by a
//! mirror of the cgroup there. What nothing can enforce is refused.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, XattrFlags, flock, getxattr, setxattr};
use sinew_model::Limits;

use super::{Error, mounts};
use crate::Errno;

/// Where a cgroup remembers its mirrors: whoever removes it, from whichever cgroup, finds them.
const MIRRORS: &str = "user.sinew.v1";
const MIRRORS_MAX_BYTES: usize = 4096;

/// The period over which processor time is shared out, the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// A limit that cannot be enforced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// No hierarchy has the controller for this cgroup.
    #[error(
        "limits.{limit} cannot be enforced: the {controller} controller is neither available to {} \
         (cgroup version 2) nor mounted (version 1); enable it in cgroup.subtree_control of the \
         cgroups above, or remove the limit",
        cgroup.display()
    )]
    NoController {
        /// Field of the file.
        limit: &'static str,
        /// The controller that would enforce it.
        controller: &'static str,
        /// The cgroup.
        cgroup: PathBuf,
    },
    /// The kernel refused the value.
    #[error("limits.{limit} cannot be enforced: writing {value} to {} failed: {errno}", path.display())]
    Refused {
        /// Field of the file.
        limit: &'static str,
        /// The file of the kernel.
        path: PathBuf,
        /// What was to be written.
        value: String,
        /// Why not.
        errno: Errno,
    },
    /// The cgroup itself is not there.
    #[error(transparent)]
    Cgroup(#[from] Error),
}

/// A limit with what enforces it.
struct Rule {
    limit: &'static str,
    controller: &'static str,
    v2: Vec<Setting>,
    v1: Vec<Setting>,
}

/// A file of a cgroup and its content.
struct Setting {
    file: &'static str,
    value: String,
    /// Whether a kernel without this file enforces the limit all the same.
    optional: bool,
}

fn must(file: &'static str, value: &impl ToString) -> Setting {
    Setting { file, value: value.to_string(), optional: false }
}

fn may(file: &'static str, value: &impl ToString) -> Setting {
    Setting { file, value: value.to_string(), optional: true }
}

/// Memory is memory and swap together: a workload that may swap without end is not limited.
fn rules(limits: &Limits) -> Vec<Rule> {
    let memory = limits.memory_bytes.map(|bytes| Rule {
        limit: "memory",
        controller: "memory",
        v2: vec![must("memory.max", &bytes), may("memory.swap.max", &0)],
        v1: vec![
            // Raised as well as lowered: the larger of the two may not go below the other.
            may("memory.memsw.limit_in_bytes", &-1),
            must("memory.limit_in_bytes", &bytes),
            may("memory.memsw.limit_in_bytes", &bytes),
        ],
    });
    let cpu = limits.cpu_millis.map(|millis| {
        let quota_us = u64::from(millis) * CPU_PERIOD_US / 1000;
        Rule {
            limit: "cpu",
            controller: "cpu",
            v2: vec![must("cpu.max", &format_args!("{quota_us} {CPU_PERIOD_US}"))],
            v1: vec![
                must("cpu.cfs_period_us", &CPU_PERIOD_US),
                must("cpu.cfs_quota_us", &quota_us),
            ],
        }
    });
    let pids = limits.pids.map(|pids| Rule {
        limit: "pids",
        controller: "pids",
        v2: vec![must("pids.max", &pids)],
        v1: vec![must("pids.max", &pids)],
    });
    [memory, cpu, pids].into_iter().flatten().collect()
}

/// Limits what the processes of a cgroup use together. On a machine whose controllers are in
/// version 1, its processes must be in the [`mirrors`] as well.
///
/// # Errors
/// [`Unsupported`] names the limit that cannot be enforced; others may have been set.
pub fn apply_limits(path: &Path, limits: &Limits) -> Result<(), Unsupported> {
    for rule in rules(limits) {
        if enable(path, rule.controller) {
            write_all(path, rule.limit, &rule.v2)?;
            continue;
        }
        let Some(mirror) = make_mirror(path, rule.controller)? else {
            return Err(Unsupported::NoController {
                limit: rule.limit,
                controller: rule.controller,
                cgroup: path.to_owned(),
            });
        };
        write_all(&mirror, rule.limit, &rule.v1)?;
    }
    Ok(())
}

/// What can limit processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcer {
    /// A controller of version 2.
    V2,
    /// A controller of version 1, in a mirror of the cgroup.
    V1,
}

/// What would enforce each limit on a cgroup, by the names of the limits; it need not be there.
#[must_use]
pub fn enforcers(path: &Path) -> [(&'static str, Option<Enforcer>); 3] {
    ["memory", "cpu", "pids"].map(|controller| {
        let v1 = mounts::own_v1(controller).is_some_and(|directory| directory.is_dir());
        let by = if offers(path, controller) { Some(Enforcer::V2) } else { None };
        (controller, by.or(v1.then_some(Enforcer::V1)))
    })
}

/// Whether a cgroup has a controller of version 2, or gets it when it is made.
fn offers(path: &Path, controller: &str) -> bool {
    let Some(root) = mounts::unified() else { return false };
    match path.ancestors().find(|directory| directory.is_dir()) {
        Some(there) if there != root => has(there, "cgroup.controllers", controller),
        _ => has(&root, "cgroup.subtree_control", controller),
    }
}

/// The cgroups of version 1 that limit the processes of a cgroup of version 2.
#[must_use]
pub fn mirrors(path: &Path) -> Vec<PathBuf> {
    let mut buffer = [0; MIRRORS_MAX_BYTES];
    let Ok(length) = getxattr(path, MIRRORS, &mut buffer[..]) else { return Vec::new() };
    let known = buffer[..length].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    known.map(|line| PathBuf::from(OsStr::from_bytes(line))).collect()
}

/// Times that the kernel killed a process of a cgroup for want of memory.
#[must_use]
pub fn oom_kills(path: &Path) -> u64 {
    let of_mirrors = mirrors(path).into_iter().map(|mirror| mirror.join("memory.oom_control"));
    std::iter::once(path.join("memory.events"))
        .chain(of_mirrors)
        .filter_map(|file| fs::read_to_string(file).ok())
        .filter_map(|text| {
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse::<u64>().ok())
        })
        .sum()
}

/// Gives a cgroup a controller of version 2, by enabling it from the top down in those above it that
/// have it. The root is left as it is: what it gives to all is not ours to decide.
fn enable(path: &Path, controller: &str) -> bool {
    let Some(root) = mounts::unified() else { return false };
    let mut above: Vec<&Path> = path.ancestors().skip(1).take_while(|dir| *dir != root).collect();
    above.reverse();
    for dir in above {
        if has(dir, "cgroup.controllers", controller)
            && !has(dir, "cgroup.subtree_control", controller)
        {
            // Whether it worked shows below.
            let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    has(path, "cgroup.controllers", controller)
}

fn has(dir: &Path, file: &str, controller: &str) -> bool {
    fs::read_to_string(dir.join(file))
        .is_ok_and(|text| text.split_ascii_whitespace().any(|name| name == controller))
}

/// The mirror of a cgroup in the hierarchy of a controller, below this process's own place there: a
/// limit that holds for us holds for what we start. `None` when version 1 has no such hierarchy.
fn make_mirror(path: &Path, controller: &'static str) -> Result<Option<PathBuf>, Error> {
    let known: BTreeSet<PathBuf> = mirrors(path).into_iter().collect();
    let file = match controller {
        "memory" => "memory.limit_in_bytes",
        "cpu" => "cpu.cfs_quota_us",
        _ => "pids.max",
    };
    if let Some(mirror) = known.iter().find(|mirror| mirror.join(file).exists()) {
        return Ok(Some(mirror.clone()));
    }
    let Some(root) = mounts::unified() else { return Err(Error::NotMounted) };
    let Some(own) = mounts::own_v1(controller) else { return Ok(None) };
    let Ok(below) = path.strip_prefix(&root) else {
        return Err(Error::Outside { path: path.to_owned(), root });
    };
    let mirror = own.join(below);
    let named = |dir: &&Path| !dir.as_os_str().is_empty();
    let mut pairs: Vec<(PathBuf, &Path)> = below
        .ancestors()
        .take_while(named)
        .map(|dir| own.join(dir))
        .zip(path.ancestors())
        .collect();
    pairs.reverse();
    // The one above may be removed, as that of an empty cgroup, after it was found or made.
    let is_final = |made: &Result<(), Error>| {
        !matches!(made, Err(Error::Refused { errno: Errno(libc::ENOENT), .. }))
    };
    let mut made = std::iter::repeat_with(|| create_mirrors(&pairs)).take(super::CREATE_TRIES);
    made.find(is_final).unwrap_or_else(|| create_mirrors(&pairs))?;
    Ok(Some(mirror))
}

/// Each cgroup remembers its own mirror, so that each removal takes one along.
fn create_mirrors(pairs: &[(PathBuf, &Path)]) -> Result<(), Error> {
    for (dir, mirrored) in pairs {
        remember(mirrored, dir).map_err(Error::refused("mark", mirrored))?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::refused("create", dir)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn remember(path: &Path, mirror: &Path) -> io::Result<()> {
    // Instances of one service are started at once, each by a process of its own.
    let directory = fs::File::open(path)?;
    flock(&directory, FlockOperation::LockExclusive)?;
    let mut known: BTreeSet<PathBuf> = mirrors(path).into_iter().collect();
    if !known.insert(mirror.to_owned()) {
        return Ok(());
    }
    let lines: Vec<Vec<u8>> =
        known.into_iter().map(|mirror| mirror.into_os_string().into_vec()).collect();
    Ok(setxattr(path, MIRRORS, &lines.join(&b'\n'), XattrFlags::empty())?)
}

fn write_all(dir: &Path, limit: &'static str, settings: &[Setting]) -> Result<(), Unsupported> {
    for setting in settings {
        let path = dir.join(setting.file);
        if setting.optional && !path.exists() {
            continue;
        }
        fs::write(&path, &setting.value).map_err(|error| Unsupported::Refused {
            limit,
            path,
            value: setting.value.clone(),
            errno: error.into(),
        })?;
    }
    Ok(())
}
