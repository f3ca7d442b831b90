//! What the committed object was built from, and by which tools.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Sources whose every file decides the object.
const SOURCES: [&str; 2] = ["crates/ebpf", "crates/abi/src"];
/// Directories among them that hold no source: what a build leaves, and the seeds that property
/// tests keep of their failures.
const NOT_SOURCES: [&str; 2] = ["target", "proptest-regressions"];
const ABI_MANIFEST: &str = "crates/abi/Cargo.toml";

/// The file beside the object.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) inputs_sha256: String,
    pub(super) object_sha256: String,
    pub(super) compiler: String,
    pub(super) linker: String,
}

impl Record {
    pub(super) fn read(file: &Path) -> Result<Self> {
        Ok(serde_json::from_slice(&fs::read(file)?)?)
    }

    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(file, text).with_context(|| format!("{} cannot be written", file.display()))
    }
}

/// The digest of every source of the kernel programs, by path and content.
pub(super) fn inputs(root: &Path) -> Result<String> {
    let mut files = vec![root.join(ABI_MANIFEST)];
    for directory in SOURCES {
        collect(&root.join(directory), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let content =
            fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        feed(&mut hash, name.as_bytes());
        feed(&mut hash, &content);
    }
    feed(&mut hash, inherited(&fs::read_to_string(root.join("Cargo.toml"))?).as_bytes());
    Ok(hex(&hash.finalize()))
}

/// The digest of an object.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// What `crates/abi` inherits from the workspace's manifest. The rest of that file concerns user
/// space alone: a new dependency there must not make the object look stale.
fn inherited(manifest: &str) -> String {
    let after = manifest.lines().skip_while(|line| line.trim() != "[workspace.package]").skip(1);
    after.take_while(|line| !line.starts_with('[')).collect::<Vec<_>>().join("\n")
}

/// Lengths go before contents: no two sets of files feed the same bytes.
fn feed(hash: &mut Sha256, bytes: &[u8]) {
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("{} cannot be read", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if !path.is_dir() {
            files.push(path);
        } else if !NOT_SOURCES.iter().any(|name| path.ends_with(name)) {
            collect(&path, files)?;
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("Cargo.toml", "[workspace.package]\nversion = \"1\"\n[profile.dev]\n"),
            ("crates/abi/Cargo.toml", "abi"),
            ("crates/abi/src/lib.rs", "lib"),
            ("crates/ebpf/src/main.rs", "main"),
        ] {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        root
    }

    #[test]
    fn a_change_of_any_source_or_of_its_name_changes_the_digest() {
        let tree = tree();
        let root = tree.path();
        let before = inputs(root).unwrap();
        fs::write(root.join("crates/ebpf/src/main.rs"), "other").unwrap();
        let changed = inputs(root).unwrap();
        fs::rename(root.join("crates/ebpf/src/main.rs"), root.join("crates/ebpf/src/a.rs"))
            .unwrap();
        let renamed = inputs(root).unwrap();
        assert_ne!(before, changed);
        assert_ne!(changed, renamed);
    }

    #[test]
    fn only_the_inherited_part_of_the_root_manifest_counts() {
        let tree = tree();
        let root = tree.path();
        let before = inputs(root).unwrap();
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        fs::write(root.join("Cargo.toml"), format!("{manifest}opt-level = 3\n")).unwrap();
        assert_eq!(before, inputs(root).unwrap());
        fs::write(root.join("Cargo.toml"), manifest.replace('1', "2")).unwrap();
        assert_ne!(before, inputs(root).unwrap());
    }

    #[test]
    fn what_builds_and_tests_leave_inside_the_crate_does_not_count() {
        let tree = tree();
        let before = inputs(tree.path()).unwrap();
        for left in NOT_SOURCES {
            let directory = tree.path().join("crates/ebpf").join(left);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("x"), "x").unwrap();
            assert_eq!(before, inputs(tree.path()).unwrap(), "{left}");
        }
    }
}
