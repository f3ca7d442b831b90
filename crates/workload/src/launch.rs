//! Turns a description into a process: everything that can fail or needs memory is done before the
//! fork, the child makes system calls only, and tells over a socket which of them failed.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs::{File, OpenOptions},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair},
};
use serde::{Deserialize, Serialize};

use crate::{
    Errno, cgroup,
    rights::{self, Rights, RightsError},
};

mod child;

/// Where programs are looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program does not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case", tag = "error")]
pub enum LaunchError {
    /// User, group or capabilities.
    #[error("{source}")]
    Rights {
        /// What about them.
        source: RightsError,
    },
    /// No program is named.
    #[error("command is empty; name a program")]
    Empty,
    /// A string that no program can be given.
    #[error("{field} has a NUL byte in it: {value:?}")]
    Nul {
        /// Field of the file.
        field: String,
        /// The string.
        value: String,
    },
    /// The stop signal does not exist.
    #[error("stop.signal: there is no signal {name:?}")]
    NoSignal {
        /// As given.
        name: String,
    },
    /// The program is not there.
    #[error("program not found: {program}{}", searched(path))]
    NoProgram {
        /// As given.
        program: String,
        /// `PATH`, when it was looked for there.
        path: Option<String>,
    },
    /// The program is a script whose interpreter is not there.
    #[error("{program} is there, but the interpreter in its first line is not")]
    NoInterpreter {
        /// The script.
        program: String,
    },
    /// The kernel does not execute it.
    #[error("cannot execute {program}: {errno}")]
    Exec {
        /// The program.
        program: String,
        /// Why not.
        errno: Errno,
    },
    /// Its working directory.
    #[error("working directory {}: {errno}", path.display())]
    WorkingDir {
        /// The directory.
        path: PathBuf,
        /// What about it.
        errno: Errno,
    },
    /// The file for its output.
    #[error("log {}: {errno}", path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// What about it.
        errno: Errno,
    },
    /// Its cgroup or its limits.
    #[error("{reason}")]
    Cgroup {
        /// What about them, in words.
        reason: String,
    },
    /// Any other step.
    #[error("cannot {step}: {errno}")]
    Refused {
        /// What was tried.
        step: String,
        /// Why not.
        errno: Errno,
    },
}

fn searched(path: &Option<String>) -> String {
    path.as_ref().map_or_else(String::new, |path| format!(" (searched PATH {path})"))
}

impl LaunchError {
    pub(crate) fn refused<E: Into<Errno>>(step: &str) -> impl FnOnce(E) -> Self {
        move |error| Self::Refused { step: step.to_owned(), errno: error.into() }
    }
}

impl From<RightsError> for LaunchError {
    fn from(source: RightsError) -> Self {
        Self::Rights { source }
    }
}

impl From<cgroup::Error> for LaunchError {
    fn from(error: cgroup::Error) -> Self {
        Self::Cgroup { reason: error.to_string() }
    }
}

impl From<cgroup::Unsupported> for LaunchError {
    fn from(error: cgroup::Unsupported) -> Self {
        Self::Cgroup { reason: error.to_string() }
    }
}

/// What to execute, and as what.
pub(crate) struct Program<'a> {
    pub(crate) argv: &'a [String],
    pub(crate) env: &'a BTreeMap<String, String>,
    pub(crate) working_dir: &'a Path,
    pub(crate) rights: &'a Rights,
    /// Exists already.
    pub(crate) cgroup: &'a Path,
    /// The cgroup whose mirrors it joins: that or one above.
    pub(crate) mirrors_of: &'a Path,
    /// Takes standard output and standard error.
    pub(crate) output: OwnedFd,
}

/// Everything that the child needs, ready to use.
pub(crate) struct Prepared {
    program: String,
    path: Option<String>,
    candidates: Vec<CString>,
    argv: Vec<CString>,
    env: Vec<CString>,
    working_dir: CString,
    rights: Rights,
    /// `cgroup.procs` of its cgroup and of the mirrors.
    cgroups: Vec<File>,
    null: OwnedFd,
    output: OwnedFd,
}

/// A process that waits at its [`Gate`].
pub(crate) struct Spawned {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) gate: Gate,
}

/// Holds a process back from becoming the program, and hears from it. When this is dropped before
/// [`Gate::open`], even by a kill, the process ends instead.
pub(crate) struct Gate(OwnedFd);

/// What a started process reports.
pub(crate) enum Report {
    /// It became the program.
    Launched,
    /// It could not.
    Failed(LaunchError),
    /// Nothing yet.
    Pending,
}

impl Prepared {
    /// Looks up and opens all that the child will use.
    pub(crate) fn new(program: Program<'_>) -> Result<Self, LaunchError> {
        let name = program.argv.first().filter(|name| !name.is_empty());
        let name = name.ok_or(LaunchError::Empty)?;
        let path = (!name.contains('/'))
            .then(|| program.env.get("PATH").map_or(DEFAULT_PATH, String::as_str));
        Ok(Self {
            program: name.clone(),
            path: path.map(str::to_owned),
            candidates: candidates(name, path)?,
            argv: program.argv.iter().map(|a| text("command", a)).collect::<Result<_, _>>()?,
            env: environment(program.env, program.rights)?,
            working_dir: CString::new(program.working_dir.as_os_str().as_bytes())
                .map_err(|_| nul("working_dir", &program.working_dir.to_string_lossy()))?,
            rights: program.rights.clone(),
            cgroups: cgroups(program.cgroup, program.mirrors_of)?,
            null: File::options()
                .read(true)
                .open("/dev/null")
                .map_err(LaunchError::refused("open /dev/null"))?
                .into(),
            output: program.output,
        })
    }

    /// Forks a process that joins the cgroup and waits there.
    pub(crate) fn spawn(&self) -> Result<Spawned, LaunchError> {
        let (gate, childs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(LaunchError::refused("make a socket pair"))?;
        let forked = child::fork(self, &gate, &childs);
        let (pid, pidfd) = forked.map_err(LaunchError::refused("fork"))?;
        Ok(Spawned { pid, pidfd, gate: Gate(gate) })
    }

    /// What the process tells of itself.
    pub(crate) fn report(&self, gate: &Gate) -> Report {
        let mut message = [0; child::REPORT_BYTES];
        match recv(&gate.0, &mut message[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Report::Launched,
            Ok(_) => {
                let (step, errno) = child::Step::decode(message);
                Report::Failed(self.explain(step, errno))
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Report::Pending,
            // The other end was closed with our word unread: it died before it began.
            Err(errno) => Report::Failed(LaunchError::refused("hear from the process")(errno)),
        }
    }

    fn explain(&self, step: child::Step, errno: Errno) -> LaunchError {
        use child::Step;
        let program = self.program.clone();
        let refused = |step: &str| LaunchError::Refused { step: step.to_owned(), errno };
        match step {
            Step::JoinCgroup => refused("join its cgroup"),
            Step::Output => refused("take over standard input and output"),
            Step::CloseFiles => refused("close inherited files"),
            Step::Rights(step) => RightsError::Refused { step, errno }.into(),
            Step::WorkingDir => {
                let path = PathBuf::from(std::ffi::OsStr::from_bytes(self.working_dir.as_bytes()));
                LaunchError::WorkingDir { path, errno }
            }
            // A directory of `PATH` that the user may not enter denies what is not in it as well.
            Step::Exec if errno == Errno(libc::EACCES) && !self.found() => {
                LaunchError::NoProgram { program, path: self.path.clone() }
            }
            Step::Exec if errno != Errno(libc::ENOENT) => LaunchError::Exec { program, errno },
            Step::Exec if self.found() => LaunchError::NoInterpreter { program },
            Step::Exec => LaunchError::NoProgram { program, path: self.path.clone() },
        }
    }

    fn found(&self) -> bool {
        let dir = Path::new(std::ffi::OsStr::from_bytes(self.working_dir.as_bytes()));
        self.candidates
            .iter()
            .any(|path| dir.join(std::ffi::OsStr::from_bytes(path.as_bytes())).is_file())
    }
}

impl Gate {
    /// Lets the process go on to become the program.
    pub(crate) fn open(&self) {
        // A process that has ended already has told why, or its end will.
        let _ = send(&self.0, &[0], SendFlags::NOSIGNAL);
    }
}

impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens the file for a workload's output.
///
/// It belongs to the workload's user: programs such as nginx open `/dev/stdout` again, which the
/// kernel checks against the file. The user could write to it through the descriptor anyway.
pub(crate) fn open_log(path: &Path, uid: u32) -> Result<OwnedFd, LaunchError> {
    let failed = |errno: Errno| LaunchError::Log { path: path.to_owned(), errno };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| failed(error.into()))?;
    }
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
    // No link is followed and no device opened: the user can put one in the place of its file
    // wherever the directory is its own.
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mode = Mode::from_raw_mode(0o640);
    let file = rustix::fs::open(path, flags, mode).map_err(|e| failed(e.into()))?;
    let stat = rustix::fs::fstat(&file).map_err(|e| failed(e.into()))?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(failed(Errno(libc::EINVAL)));
    }
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND).map_err(|e| failed(e.into()))?;
    // Whatever the umask says.
    rustix::fs::fchmod(&file, mode).map_err(|e| failed(e.into()))?;
    if stat.st_uid != uid {
        let owner = rustix::fs::Uid::from_raw(uid);
        rustix::fs::fchown(&file, Some(owner), None).map_err(|e| failed(e.into()))?;
    }
    Ok(file)
}

fn cgroups(own: &Path, mirrors_of: &Path) -> Result<Vec<File>, LaunchError> {
    std::iter::once(own.to_owned())
        .chain(cgroup::mirrors(mirrors_of))
        .map(|dir| OpenOptions::new().write(true).open(dir.join("cgroup.procs")))
        .collect::<Result<_, _>>()
        .map_err(LaunchError::refused("open its cgroup"))
}

fn nul(field: &str, value: &str) -> LaunchError {
    LaunchError::Nul { field: field.to_owned(), value: value.to_owned() }
}

fn text(field: &str, value: &str) -> Result<CString, LaunchError> {
    CString::new(value).map_err(|_| nul(field, value))
}

/// Relative entries of `PATH` are passed over: what they name depends on who looks.
fn candidates(name: &str, path: Option<&str>) -> Result<Vec<CString>, LaunchError> {
    let Some(path) = path else { return Ok(vec![text("command", name)?]) };
    path.split(':')
        .filter(|dir| dir.starts_with('/'))
        .map(|dir| text("command", &format!("{}/{name}", dir.trim_end_matches('/'))))
        .collect()
}

fn environment(
    env: &BTreeMap<String, String>,
    rights: &rights::Rights,
) -> Result<Vec<CString>, LaunchError> {
    let name = rights.user_name.as_ref();
    let usual = [("HOME", rights.home.as_ref()), ("USER", name), ("LOGNAME", name)];
    let usual = usual.into_iter().filter(|(key, _)| !env.contains_key(*key));
    let usual = usual.filter_map(|(key, value)| Some(format!("{key}={}", value?)));
    let given = env.iter().map(|(key, value)| format!("{key}={value}"));
    given.chain(usual).map(|pair| text("env", &pair)).collect()
}
