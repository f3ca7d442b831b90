//! Where things lie in the checkout.

use std::path::PathBuf;

use anyhow::Result;

use crate::process;

/// The root of the checkout, with symlinks resolved: compilers report resolved paths.
pub(crate) fn root() -> PathBuf {
    // Cargo's word at run time comes first: checkouts may share a target directory.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = manifest.parent().unwrap_or(&manifest);
    root.canonicalize().unwrap_or_else(|_| root.to_path_buf())
}

/// Builds `sinew` for use; where it lies.
pub(crate) fn build_sinew() -> Result<PathBuf> {
    println!("building sinew");
    let mut build = process::cargo();
    build.args(["build", "--quiet", "--release", "--package", "sinew"]).current_dir(root());
    process::run(&mut build)?;
    Ok(built("release/sinew"))
}

/// A file that cargo built, wherever the user keeps its output.
pub(crate) fn built(path: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(|| root().join("target"), PathBuf::from).join(path)
}
