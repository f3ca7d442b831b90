//! The place where a bench happens: rooms, each a network namespace with only `lo` and a cgroup.
//!
//! Every process of a bench is in the world's cgroup, whoever started it. A reaper waits for the
//! end of the bench, however it comes, and takes the whole world away.

pub(crate) mod enter;
pub(crate) mod hold;
pub(crate) mod probe;
pub(crate) mod reap;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

/// All rooms of one bench.
pub(crate) struct World {
    cgroup: PathBuf,
    /// Sockets, configurations and logs of what runs here.
    files: PathBuf,
    pins: PathBuf,
    reaper: Child,
}

impl World {
    /// Makes the cgroup and starts the reaper.
    pub(crate) fn new(bench: &str) -> Result<Self> {
        let name = format!("sinew-{bench}-{}", std::process::id());
        let cgroup = cgroup2()?.join(&name);
        let files = Path::new("/tmp").join(&name);
        let pins = Path::new("/sys/fs/bpf").join(&name);
        let mut reaper = internal("reap");
        reaper.arg(&cgroup).arg(&files).arg(&pins).stdin(Stdio::piped());
        let reaper = reaper.spawn().context("the reaper could not be started")?;
        let world = Self { cgroup, files, pins, reaper };
        fs::create_dir(&world.files)?;
        fs::create_dir(&world.cgroup)
            .with_context(|| format!("{} cannot be made", world.cgroup.display()))?;
        Ok(world)
    }

    /// Makes a room: a network namespace of its own, kept by a process that does nothing else.
    pub(crate) fn room(&self, name: &str) -> Result<Room> {
        let cgroup = self.cgroup.join(name);
        let files = self.files.join(name);
        fs::create_dir(&cgroup)?;
        fs::create_dir(&files)?;
        let mut keeper = internal("hold");
        let holder = announced(keeper.arg(&cgroup)).context("a network namespace was not made")?;
        let namespace = PathBuf::from(format!("/proc/{}/ns/net", holder.id()));
        Ok(Room { cgroup, files, pins: self.pins.join(name), namespace, _holder: holder })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.reaper.stdin.take());
        if let Err(error) = self.reaper.wait() {
            eprintln!("the world of the bench may not be cleaned up: {error}");
        }
    }
}

/// Where in a room processes lie that are no members of a Sinew: as deep as members do. The kernel
/// accounts pressure in each cgroup above a task whenever it switches tasks, and three levels more
/// make an echo 0.6 % slower, whatever is attached to them.
const DEPTH: &str = "beside/members";

/// One network namespace and the cgroup of everything in it.
pub(crate) struct Room {
    cgroup: PathBuf,
    files: PathBuf,
    pins: PathBuf,
    namespace: PathBuf,
    _holder: Child,
}

impl Room {
    pub(crate) fn files(&self) -> &Path {
        &self.files
    }

    pub(crate) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Where a Sinew in this room pins; made by whoever pins first.
    pub(crate) fn pins(&self) -> &Path {
        &self.pins
    }

    /// A cgroup for processes, made when it is not there; a path leads deeper.
    pub(crate) fn corner(&self, path: &str) -> Result<PathBuf> {
        let cgroup = self.cgroup.join(DEPTH).join(path);
        fs::create_dir_all(&cgroup)?;
        Ok(cgroup)
    }

    /// A command that runs in the room.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        self.command_in(&self.corner("any")?, program)
    }

    /// A command that runs in the room's network and in the given cgroup.
    pub(crate) fn command_in(&self, cgroup: &Path, program: impl AsRef<OsStr>) -> Result<Command> {
        let mut command = internal("enter");
        command.arg(&self.namespace).arg(cgroup).arg(program).current_dir(&self.files);
        Ok(command)
    }

    /// A task of this binary that runs in the room.
    pub(crate) fn task(&self, task: &str) -> Result<Command> {
        self.task_in(&self.corner("any")?, task)
    }

    /// A task of this binary that runs in the room's network and in the given cgroup.
    pub(crate) fn task_in(&self, cgroup: &Path, task: &str) -> Result<Command> {
        let mut command = self.command_in(cgroup, own())?;
        command.args(["internal", task]);
        Ok(command)
    }

    /// Binds every process of the room to one CPU, or lets them all go again.
    ///
    /// Where the scheduler puts two processes that talk decides their round trip more than
    /// anything between them does.
    pub(crate) fn pin(&self, cpu: Option<usize>) -> Result<()> {
        let mut allowed = CpuSet::new();
        for number in 0..CpuSet::MAX_CPU {
            if cpu.is_none_or(|cpu| cpu == number) {
                allowed.set(number);
            }
        }
        for thread in threads(&self.cgroup)? {
            // A thread that has just ended needs no place.
            let _ = sched_setaffinity(Some(thread), &allowed);
        }
        Ok(())
    }

    /// Writes a file of the room and returns its path.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let file = self.files.join(name);
        fs::write(&file, content)
            .with_context(|| format!("{} cannot be written", file.display()))?;
        Ok(file)
    }

    /// A log of the room, for a server's output.
    pub(crate) fn log(&self, name: &str) -> Result<Stdio> {
        Ok(fs::File::create(self.files.join(name))?.into())
    }
}

/// Starts one of this binary's tasks and waits until it says that it is ready.
pub(crate) fn announced(command: &mut Command) -> Result<Child> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    if let Some(stdout) = &mut child.stdout {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.trim() != "ready" {
        bail!("`{}` ended before it was ready: {}", crate::process::line(command), child.wait()?);
    }
    Ok(child)
}

/// Every thread in a cgroup and below it. Sessions end, and their cgroups with them, meanwhile.
fn threads(cgroup: &Path) -> Result<Vec<Pid>> {
    let Ok(listed) = fs::read_to_string(cgroup.join("cgroup.threads")) else {
        return Ok(Vec::new());
    };
    let numbers = listed.lines().filter_map(|line| line.parse().ok());
    let mut found: Vec<Pid> = numbers.filter_map(Pid::from_raw).collect();
    for entry in fs::read_dir(cgroup).into_iter().flatten() {
        let entry = entry?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(threads(&entry.path())?);
        }
    }
    Ok(found)
}

/// The file of this binary.
pub(crate) fn own() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"))
}

fn internal(task: &str) -> Command {
    let mut command = Command::new(own());
    command.args(["internal", task]);
    command
}

/// Where the version 2 hierarchy of cgroups is mounted.
fn cgroup2() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let found = mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    });
    found.context("cgroup v2 is not mounted: `mount -t cgroup2 none /sys/fs/cgroup/unified`")
}
