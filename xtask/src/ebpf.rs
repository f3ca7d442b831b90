//! The kernel programs: built here, committed as an object, and checked to be the same.
//!
//! The object is committed so that Sinew builds with stable Rust alone. What was built from
//! which sources by which tools is recorded beside it, so that a stale object cannot go unseen.

mod record;
mod strip;
mod toolchain;
mod wrapper;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;
use record::Record;
use toolchain::{Lock, Toolchain};
pub(crate) use wrapper::become_rustc;

const OBJECT: &str = "crates/datapath/object/sinew.bpf.o";
const RECORD: &str = "crates/datapath/object/sinew.bpf.json";
const REMEDY: &str = "run `cargo xtask ebpf` and commit crates/datapath/object";

/// Options of `cargo xtask ebpf`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Change nothing; fail when the committed object is not what the sources give
    #[arg(long)]
    check: bool,
}

/// Runs `cargo xtask ebpf`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = workspace::root();
    if args.check { check(&root) } else { build(&root) }
}

fn build(root: &Path) -> Result<()> {
    let toolchain = Toolchain::find(root)?;
    println!("building the kernel programs with {toolchain}");
    let built = toolchain.build(root, Lock::Update)?;
    let bytes = strip::debug_sections(&read(&built)?)?;
    let record = Record {
        inputs_sha256: record::inputs(root)?,
        object_sha256: record::digest(&bytes),
        compiler: toolchain.compiler.clone(),
        linker: toolchain.linker.clone(),
    };
    let object = root.join(OBJECT);
    fs::create_dir_all(object.parent().unwrap_or(root))?;
    fs::write(&object, &bytes).with_context(|| format!("{OBJECT} cannot be written"))?;
    record.write(&root.join(RECORD))?;
    println!("{OBJECT}: {} bytes", bytes.len());
    Ok(())
}

/// Fails when the committed object is not what the sources give.
pub(crate) fn check(root: &Path) -> Result<()> {
    let record = Record::read(&root.join(RECORD))
        .with_context(|| format!("{RECORD} cannot be used: {REMEDY}"))?;
    let inputs = record::inputs(root)?;
    if record.inputs_sha256 != inputs {
        bail!(
            "{OBJECT} was built from other sources than these (inputs {} in the record, {inputs} \
             in the tree): {REMEDY}",
            record.inputs_sha256
        );
    }
    let committed = read(&root.join(OBJECT))?;
    let found = record::digest(&committed);
    if record.object_sha256 != found {
        bail!(
            "{OBJECT} is not the object of its record (sha256 {} in the record, {found} in the \
             file): {REMEDY}",
            record.object_sha256
        );
    }
    println!("{OBJECT}: sources and object agree with the record");
    rebuild_and_compare(root, &record, &committed)
}

/// The last doubt, that the record itself is wrong, is settled where the same tools are present.
fn rebuild_and_compare(root: &Path, record: &Record, committed: &[u8]) -> Result<()> {
    let toolchain = match Toolchain::find(root) {
        Ok(toolchain) => toolchain,
        Err(missing) => {
            println!("not rebuilt: {missing}");
            return Ok(());
        }
    };
    if toolchain.compiler != record.compiler || toolchain.linker != record.linker {
        println!(
            "not rebuilt: made with {} and {}, here is {toolchain}",
            record.compiler, record.linker
        );
        return Ok(());
    }
    println!("rebuilding with {toolchain}");
    if strip::debug_sections(&read(&toolchain.build(root, Lock::Keep)?)?)? != committed {
        bail!("{OBJECT} differs from what the same tools build from these sources: {REMEDY}");
    }
    println!("{OBJECT}: rebuilt, byte for byte the same");
    Ok(())
}

fn read(file: &PathBuf) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("{} cannot be read", file.display()))
}
