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
/// With the first file that stays.
pub(crate) fn forget(state: &Path) -> io::Result<()> {
    let known = [<Saved as last_good::Kept>::FILE, <Known as last_good::Kept>::FILE];
    let mut failed = Ok(());
    for name in known.into_iter().chain([credentials::FILE, credentials::PENDING]) {
        match fs::remove_file(state.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => failed = Err(error),
            _ => {}
        }
    }
    failed
}
