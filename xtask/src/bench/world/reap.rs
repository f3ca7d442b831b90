//! Takes a bench's world away once the bench is over, also when the bench was killed.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Options of `xtask internal reap`.
#[derive(clap::Args)]
pub(crate) struct Args {
    cgroup: PathBuf,
    files: PathBuf,
    pins: PathBuf,
}

const DEADLINE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// Waits for the end of standard input, which the bench holds open.
pub(crate) fn run(args: &Args) -> Result<()> {
    // The terminal's signals are for the bench; the reaper outlives it.
    rustix::process::setsid()?;
    let mut nothing = Vec::new();
    std::io::stdin().read_to_end(&mut nothing)?;
    let outcome = remove_cgroup(&args.cgroup);
    remove_files(&args.pins)?;
    remove_files(&args.files)?;
    outcome
}

fn remove_cgroup(cgroup: &Path) -> Result<()> {
    if !cgroup.exists() {
        return Ok(());
    }
    fs::write(cgroup.join("cgroup.kill"), "1")?;
    let start = Instant::now();
    // The kernel has no event for "the last dying process left", so the directory is asked.
    while let Err(error) = remove_tree(cgroup) {
        if start.elapsed() > DEADLINE {
            bail!("{} cannot be removed: {error}", cgroup.display());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Only directories: a cgroup's files go with it.
fn remove_tree(cgroup: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(cgroup)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(cgroup)
}

fn remove_files(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", directory.display()))
        }
        _ => Ok(()),
    }
}
