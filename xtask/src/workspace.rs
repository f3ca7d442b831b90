//! Where things lie in the checkout.

use std::path::PathBuf;

/// The root of the checkout, with symlinks resolved: compilers report resolved paths.
pub(crate) fn root() -> PathBuf {
    // Cargo's word at run time comes first: checkouts may share a target directory.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = manifest.parent().unwrap_or(&manifest);
    root.canonicalize().unwrap_or_else(|_| root.to_path_buf())
}
