//! What a shim knows of its workload: the content of `state.json` and of every line that the
//! control socket sends. It says enough that whoever reads two of them knows what happened between.

use std::{
    collections::VecDeque,
    fmt,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    launch::LaunchError,
    process::ProcessId,
    restart::{Machine, Phase},
    signal,
};

/// Exits that are remembered.
const EXITS_KEPT: usize = 16;

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Exit {
    /// It exited.
    Code {
        /// With this code.
        code: i32,
    },
    /// A signal ended it.
    Signal {
        /// This one.
        number: i32,
        /// Whether it left a core dump.
        core: bool,
    },
    /// It ended while no shim watched it, or on a kernel before 6.15 that forgot; counts as failure.
    Unknown,
    /// It never became the program.
    NotLaunched {
        /// Why.
        error: LaunchError,
    },
}

impl Exit {
    /// Reads the kernel's encoding, as `waitpid` has it.
    pub(crate) fn from_wait_status(status: i32) -> Self {
        if libc::WIFSIGNALED(status) {
            Self::Signal { number: libc::WTERMSIG(status), core: libc::WCOREDUMP(status) }
        } else {
            Self::Code { code: libc::WEXITSTATUS(status) }
        }
    }

    /// Whether `restart: on-failure` starts it again.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Code { code: 0 })
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code { code } => write!(f, "exited with code {code}"),
            Self::Signal { number, core } => {
                write!(f, "killed by {}", signal::name(*number))?;
                if *core { f.write_str(" (core dumped)") } else { Ok(()) }
            }
            Self::Unknown => f.write_str("exited with an unknown status"),
            Self::NotLaunched { error } => write!(f, "{error}"),
        }
    }
}

/// A run of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Its number, from 1.
    pub number: u32,
    /// Its main process.
    pub process: ProcessId,
    /// When it started, milliseconds since 1970.
    pub started_at_ms: u64,
}

/// A run that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitRecord {
    /// The run; `None` when no process could be made.
    pub run: Option<Run>,
    /// How it ended.
    pub exit: Exit,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// Whether the kernel killed one of its processes for want of memory during the run.
    pub out_of_memory: bool,
    /// Processes that the program left behind and that were killed; a program that puts itself into
    /// the background shows here.
    pub left_behind: u32,
}

/// What a shim knows of its workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// The order that this belongs to.
    pub(crate) order: u64,
    /// Boot that this belongs to: numbers of processes and times mean nothing after another.
    pub(crate) boot: String,
    /// The shim.
    pub shim: ProcessId,
    /// Where the workload stands.
    pub(crate) machine: Machine,
    /// The current run.
    pub run: Option<Run>,
    /// Runs so far.
    pub runs: u32,
    /// Ends so far, of runs and of starts that failed.
    pub ends: u64,
    /// The last ends, oldest first.
    pub exits: VecDeque<ExitRecord>,
    /// Output dropped so far from the head of the log to keep its limit.
    pub log_dropped_bytes: u64,
    /// Why the log cannot be kept at its limit.
    pub log_unbounded: Option<String>,
}

impl Status {
    /// Where the workload stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.machine.phase()
    }

    /// Times that it was started again.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.runs.saturating_sub(1)
    }

    /// The last end.
    #[must_use]
    pub fn last_exit(&self) -> Option<&ExitRecord> {
        self.exits.back()
    }

    pub(crate) fn remember(&mut self, record: ExitRecord) {
        if self.exits.len() == EXITS_KEPT {
            self.exits.pop_front();
        }
        self.exits.push_back(record);
        self.ends += 1;
    }

    fn path(dir: &Path) -> PathBuf {
        dir.join("state.json")
    }

    /// `None` when there is none or when it cannot be understood: what it described is found in the
    /// cgroup all the same, and killed rather than adopted.
    pub(crate) fn read(dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(Self::path(dir)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        write_json(&Self::path(dir), self)
    }
}

/// Replaces a file by the JSON of `value`: old or new content is there at every moment, also after
/// a power cut.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file: File =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)
}
