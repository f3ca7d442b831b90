//! The policy file: read when somebody asks for what it might allow, so that a change of it needs
//! no word to the agent. One that is bad changes nothing.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sinew_model::{ParseErrors, Policy, parse_policy};
use sinew_workload::rights::Databases;

use crate::{
    launch::Owner,
    rights::{Caller, Permits, unknown},
};

/// More than any honest policy.
const MAX_BYTES: u64 = 1 << 20;
/// Others than the owner write.
const OTHERS_WRITE: u32 = 0o022;
/// Who may write in a directory may not replace what others have there.
const STICKY: u32 = 0o1000;

/// Why a policy file is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    /// It cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is something else.
    #[error("{} is no regular file of at most {MAX_BYTES} bytes", .0.display())]
    Kind(PathBuf),
    /// Somebody else could have written it.
    #[error(
        "{} belongs to user {uid}, not to root: `chown root {}`", path.display(), path.display()
    )]
    NotRoots {
        /// The file, or a directory above it.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Somebody else could write it.
    #[error(
        "{} is writable by others than root (mode {mode:03o}): `chmod go-w {}`",
        path.display(), path.display()
    )]
    Writable {
        /// The file, or a directory above it.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is not a policy.
    #[error(transparent)]
    Invalid(#[from] ParseErrors),
}

/// The policy of this host.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    path: PathBuf,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    /// The last one that was good.
    policy: Arc<Policy>,
    /// Why the file is not in force.
    trouble: Option<String>,
}

impl PolicyFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, last: Mutex::default() }
    }

    /// `caller` with what it is allowed now. Reads files.
    pub(crate) fn allow(&self, caller: Caller) -> Caller {
        if caller.is_root() {
            return caller;
        }
        let policy = self.read().policy.clone();
        let permits = match Databases::read() {
            Ok(accounts) => Permits::of(&policy, self.path.clone(), &caller, &accounts),
            // Nobody is known then.
            Err(_) => Permits { file: self.path.clone(), ..Permits::default() },
        };
        Caller { permits, ..caller }
    }

    /// As who adopted something, when that one is not there any more. Reads files.
    pub(crate) fn allow_owner(&self, owner: Owner) -> Caller {
        let accounts = Databases::read();
        let groups = accounts.map(|accounts| accounts.groups(owner.uid)).unwrap_or_default();
        self.allow(Caller::new(0, owner.uid, owner.gid, groups))
    }

    /// What an operator should know of it. Reads files.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let (policy, trouble) = {
            let last = self.read();
            (last.policy.clone(), last.trouble.clone())
        };
        let unknown = Databases::read().map(|accounts| unknown(&policy, &accounts));
        let unknown = unknown.unwrap_or_default().into_iter();
        let unknown = unknown.map(|what| format!("{}: {what}", self.path.display()));
        trouble.into_iter().chain(unknown).collect()
    }

    fn read(&self) -> MutexGuard<'_, Last> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match load(&self.path) {
            Ok(policy) => {
                if policy != *last.policy {
                    let (rules, path) = (policy.rules.len(), self.path.display());
                    tracing::info!("the {rules} rules of {path} are in force");
                    last.policy = Arc::new(policy);
                }
                last.trouble = None;
            }
            Err(error) => {
                let trouble = Some(format!(
                    "the policy is not taken, and what was allowed before goes on: {error}"
                ));
                if let Some(trouble) = trouble.as_ref().filter(|_| trouble != last.trouble) {
                    tracing::warn!("{trouble}");
                }
                last.trouble = trouble;
            }
        }
        last
    }
}

/// Without a file nothing is allowed.
fn load(path: &Path) -> Result<Policy, PolicyError> {
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = match open {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Policy::default()),
        Err(source) => return Err(PolicyError::Unreadable { path: path.to_owned(), source }),
    };
    let text = read(path, file)?;
    Ok(parse_policy(&text, path)?)
}

fn read(path: &Path, file: File) -> Result<String, PolicyError> {
    let unreadable = |source| PolicyError::Unreadable { path: path.to_owned(), source };
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(PolicyError::Kind(path.to_owned()));
    }
    check(path, &metadata)?;
    let real = fs::canonicalize(path).map_err(unreadable)?;
    // A link stands in a directory of its own, and who may write there may replace it.
    let named = path.parent().map(Path::to_owned).into_iter();
    for directory in real.ancestors().skip(1).map(Path::to_owned).chain(named) {
        if !directory.as_os_str().is_empty() {
            check(&directory, &fs::metadata(&directory).map_err(unreadable)?)?;
        }
    }
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// # Errors
/// When anybody but root could have changed it.
fn check(path: &Path, metadata: &Metadata) -> Result<(), PolicyError> {
    let (path, mode) = (path.to_owned(), metadata.mode() & 0o7777);
    if metadata.uid() != 0 {
        return Err(PolicyError::NotRoots { path, uid: metadata.uid() });
    }
    if mode & OTHERS_WRITE != 0 && !(metadata.is_dir() && mode & STICKY != 0) {
        return Err(PolicyError::Writable { path, mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
