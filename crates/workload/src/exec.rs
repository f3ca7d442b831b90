//! `health.exec`: a command run as the workload is run, in a cgroup below the workload's, so that
//! whatever it starts is limited with the workload and killed with the check.

use std::{
    fmt,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{io::unix::AsyncFd, time::timeout};

use crate::{
    LaunchError, LaunchSpec, cgroup,
    launch::{Gate, Prepared, Program, Report},
    process::{ProcessId, exit_of},
    readable::readable,
    status::Exit,
};

/// What is kept of a check's output: its end.
const OUTPUT_KEPT_BYTES: usize = 4096;

/// A check to run: a command run as a workload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSpec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Whose health it tells; its user, rights, environment and cgroup are the check's.
    pub workload: LaunchSpec,
}

/// What became of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// It exited with 0.
    Passed,
    /// It ended otherwise.
    Failed {
        /// How.
        exit: Exit,
        /// The last line it wrote, empty if none.
        last_line: String,
    },
    /// It did not end in time and was killed.
    TimedOut {
        /// The time it had.
        after: Duration,
        /// The last line it wrote, empty if none.
        last_line: String,
    },
    /// It could not be run.
    NotRun {
        /// Why.
        error: LaunchError,
    },
}

impl fmt::Display for CheckOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last_line = match self {
            Self::Passed => return f.write_str("passed"),
            Self::NotRun { error } => return write!(f, "{error}"),
            Self::Failed { exit, last_line } => {
                write!(f, "{exit}")?;
                last_line
            }
            Self::TimedOut { after, last_line } => {
                write!(f, "did not end within {after:?}")?;
                last_line
            }
        };
        if last_line.is_empty() { Ok(()) } else { write!(f, ": {last_line}") }
    }
}

/// Runs a check to its end or until its time is over; then, and also when this is dropped, all that
/// it started is killed.
pub async fn run_check(spec: &CheckSpec, limit: Duration) -> CheckOutcome {
    let mut check = match Check::start(spec) {
        Ok(check) => check,
        Err(error) => return CheckOutcome::NotRun { error },
    };
    match timeout(limit, check.end()).await {
        Ok(Ok(Exit::Code { code: 0 })) => CheckOutcome::Passed,
        Ok(Ok(exit)) => CheckOutcome::Failed { exit, last_line: check.last_line() },
        Ok(Err(error)) => CheckOutcome::NotRun { error },
        Err(_) => CheckOutcome::TimedOut { after: limit, last_line: check.last_line() },
    }
}

struct Check {
    /// Cleans up when the check is dropped.
    _cgroup: CheckCgroup,
    prepared: Prepared,
    gate: Gate,
    /// Readable when the process reports.
    report: AsyncFd<OwnedFd>,
    process: ProcessId,
    pidfd: AsyncFd<OwnedFd>,
    pipe: AsyncFd<OwnedFd>,
    output: Vec<u8>,
}

impl Check {
    fn start(spec: &CheckSpec) -> Result<Self, LaunchError> {
        let workload = &spec.workload;
        let rights = workload.rights()?;
        let mut cgroup = CheckCgroup::create(&workload.cgroup)?;
        let (pipe, output) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(LaunchError::refused("make a pipe"))?;
        // The program's end waits when the pipe is full, as programs expect.
        rustix::fs::fcntl_setfl(&output, rustix::fs::OFlags::empty())
            .map_err(LaunchError::refused("make a pipe"))?;
        let prepared = Prepared::new(Program {
            argv: &spec.argv,
            env: &workload.env,
            working_dir: &workload.working_dir,
            rights: &rights,
            cgroup: &cgroup.path,
            mirrors_of: &workload.cgroup,
            output,
        })?;
        let spawned = prepared.spawn()?;
        let process = ProcessId::of(spawned.pid);
        cgroup.zombie = spawned.pidfd.try_clone().ok();
        let report = spawned.gate.as_fd().try_clone_to_owned();
        let report = report.map_err(LaunchError::refused("watch the process"))?;
        let check = Self {
            prepared,
            process: process.map_err(LaunchError::refused("read its start time"))?,
            pidfd: watch(spawned.pidfd)?,
            report: watch(report)?,
            gate: spawned.gate,
            pipe: watch(pipe)?,
            output: Vec::new(),
            _cgroup: cgroup,
        };
        check.gate.open();
        Ok(check)
    }

    async fn end(&mut self) -> Result<Exit, LaunchError> {
        self.become_program().await?;
        let exit = loop {
            tokio::select! {
                ready = self.pidfd.readable() => {
                    let mut ready = ready.map_err(LaunchError::refused("watch the process"))?;
                    match exit_of(self.pidfd.get_ref().as_fd(), self.process) {
                        Some(exit) => break exit,
                        None => ready.clear_ready(),
                    }
                }
                ready = self.pipe.readable() => {
                    let mut ready = ready.map_err(LaunchError::refused("watch its output"))?;
                    ready.clear_ready();
                    if !read_end(self.pipe.get_ref(), &mut self.output) {
                        // All who could write are gone, so the process is ending.
                        break self.end_of_process().await?;
                    }
                }
            }
        };
        read_end(self.pipe.get_ref(), &mut self.output);
        Ok(exit)
    }

    async fn become_program(&self) -> Result<(), LaunchError> {
        loop {
            let ready = self.report.readable().await;
            let mut ready = ready.map_err(LaunchError::refused("watch the process"))?;
            match self.prepared.report(&self.gate) {
                Report::Launched => return Ok(()),
                Report::Failed(error) => return Err(error),
                Report::Pending => ready.clear_ready(),
            }
        }
    }

    /// A program may also close its output and run on.
    async fn end_of_process(&self) -> Result<Exit, LaunchError> {
        loop {
            let ready = self.pidfd.readable().await;
            let mut ready = ready.map_err(LaunchError::refused("watch the process"))?;
            match exit_of(self.pidfd.get_ref().as_fd(), self.process) {
                Some(exit) => return Ok(exit),
                None => ready.clear_ready(),
            }
        }
    }

    fn last_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.output);
        text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
    }
}

fn watch(file: OwnedFd) -> Result<AsyncFd<OwnedFd>, LaunchError> {
    readable(file).map_err(LaunchError::refused("watch the process"))
}

/// Reads what is there and keeps its end. Answers whether more may come.
fn read_end(pipe: &OwnedFd, output: &mut Vec<u8>) -> bool {
    let mut buffer = [0; OUTPUT_KEPT_BYTES];
    loop {
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => return false,
            Ok(length) => {
                output.extend_from_slice(&buffer[..length]);
                let excess = output.len().saturating_sub(OUTPUT_KEPT_BYTES);
                output.drain(..excess);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return errno == rustix::io::Errno::AGAIN,
        }
    }
}

/// The cgroup of a check; killed and removed when dropped.
struct CheckCgroup {
    path: PathBuf,
    /// The process to wait for, once there is one.
    zombie: Option<OwnedFd>,
}

impl CheckCgroup {
    fn create(of: &Path) -> Result<Self, LaunchError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = of.join(format!("check-{}-{number}", std::process::id()));
        cgroup::create(&path)?;
        Ok(Self { path, zombie: None })
    }
}

impl Drop for CheckCgroup {
    fn drop(&mut self) {
        let _ = cgroup::kill(&self.path);
        let (path, zombie) = (std::mem::take(&mut self.path), self.zombie.take());
        let clean = move || {
            use rustix::process::{WaitId, WaitIdOptions, waitid};
            if let Some(zombie) = &zombie {
                // Fails when it was waited for already.
                let _ = waitid(WaitId::PidFd(zombie.as_fd()), WaitIdOptions::EXITED);
            }
            // What is left is removed with the workload's cgroup.
            let _ = cgroup::remove_all(&path);
        };
        // Ending takes the kernel a moment, which must not hold up the runtime's thread.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(clean)),
            Err(_) => clean(),
        }
    }
}
