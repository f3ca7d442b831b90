//! One agent a run directory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::fs::{FlockOperation, flock};

/// Why this agent cannot be the one.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// There is one.
    #[error("another agent, process {pid}, uses {} already", run.display())]
    Held {
        /// Its process; `an unknown one` when it did not say.
        pid: String,
        /// The directory.
        run: PathBuf,
    },
    /// The directory cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A killed agent holds the lock until the kernel has closed its files, and those of a child that
/// has not become another program yet; on a loaded machine that takes a while.
const LAST_BREATH: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Held as long as this value lives; the kernel ends it with the process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Becomes the agent of `run`, which is made when it is not there.
    ///
    /// # Errors
    /// When another one is, or the directory cannot be used.
    pub(crate) fn take(run: &Path) -> Result<Self, LockError> {
        let fault = |path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Io { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o750).create(run).map_err(fault(run))?;
        let path = run.join("agent.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(fault(&path))?;
        let end = Instant::now() + LAST_BREATH;
        while let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if errno != rustix::io::Errno::WOULDBLOCK {
                return Err(fault(&path)(errno.into()));
            }
            let holder = holder(&mut file);
            if holder.as_deref().is_some_and(runs) || Instant::now() >= end {
                let pid = holder.unwrap_or_else(|| "an unknown one".to_owned());
                return Err(LockError::Held { pid, run: run.to_owned() });
            }
            sleep(LOOK_EVERY);
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(fault(&path))?;
        Ok(Self { _file: file })
    }
}

/// Who has it, as it says itself.
fn holder(file: &mut File) -> Option<String> {
    let mut pid = String::new();
    file.rewind().and_then(|()| file.read_to_string(&mut pid)).ok()?;
    let pid = pid.trim();
    (!pid.is_empty()).then(|| pid.to_owned())
}

/// Whether a process still executes a program: one that is ending has none any more.
fn runs(pid: &str) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

#[cfg(test)]
mod tests {
    use std::{process::Command, thread};

    use super::*;

    #[test]
    fn a_holder_that_is_ending_is_waited_for() {
        let run = tempfile::tempdir().unwrap();
        let first = Lock::take(run.path()).unwrap();
        // The lock says a process that has ended.
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        fs::write(run.path().join("agent.lock"), child.id().to_string()).unwrap();
        let path = run.path().to_owned();
        let second = thread::spawn(move || Lock::take(&path));
        thread::sleep(LOOK_EVERY * 4);
        assert!(!second.is_finished());
        drop(first);
        second.join().unwrap().unwrap();
    }

    #[test]
    fn there_is_one_agent_at_a_time() {
        let run = tempfile::tempdir().unwrap();
        let first = Lock::take(run.path()).unwrap();
        let second = Lock::take(run.path()).unwrap_err();
        let LockError::Held { pid, .. } = &second else { panic!("{second}") };
        assert_eq!(*pid, std::process::id().to_string());
        drop(first);
        Lock::take(run.path()).unwrap();
    }
}
