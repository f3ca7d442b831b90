//! One agent a run directory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
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
        if let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if errno != rustix::io::Errno::WOULDBLOCK {
                return Err(fault(&path)(errno.into()));
            }
            let mut pid = String::new();
            let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            let pid = if known { pid.trim().to_owned() } else { "an unknown one".to_owned() };
            return Err(LockError::Held { pid, run: run.to_owned() });
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(fault(&path))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
