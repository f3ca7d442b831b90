//! What is left of a network on disk, once this host has left it.

use std::{fs, io, path::Path};

use super::{credentials, joined::Kept, last_good, member::Known, mirror::Saved};
use crate::store::StoreError;

/// From now on an agent that starts here is alone.
///
/// # Errors
/// When that cannot be written.
pub(crate) fn mark(state: &Path, now_ms: u64) -> Result<(), StoreError> {
    Kept::new(state).leave(now_ms)
}

/// Removes the certificate with its key, and what was known of other hosts.
///
/// # Errors
/// With the last file that stays.
pub(crate) fn forget(state: &Path) -> io::Result<()> {
    let others = forget_others(state);
    remove(state, [credentials::FILE, credentials::PENDING]).and(others)
}

/// Removes what was known of other hosts: in another network it would be taken for news of that one.
///
/// # Errors
/// With the last file that stays.
pub(crate) fn forget_others(state: &Path) -> io::Result<()> {
    remove(state, [<Saved as last_good::Kept>::FILE, <Known as last_good::Kept>::FILE])
}

fn remove(state: &Path, names: [&str; 2]) -> io::Result<()> {
    let mut failed = Ok(());
    for name in names {
        match fs::remove_file(state.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => failed = Err(error),
            _ => {}
        }
    }
    failed
}
