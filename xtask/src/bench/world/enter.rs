//! Joins a network namespace and a cgroup, then becomes the wanted program.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, set_parent_process_death_signal, setsid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Options of `xtask internal enter`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// File of the network namespace
    namespace: PathBuf,
    cgroup: PathBuf,
    program: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Returns only when the program could not be started.
pub(crate) fn run(args: &Args) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The scheduler shares time among sessions. Sinew gives each workload one of its own; so have
    // all others here, else their servers would share one with their client.
    setsid()?;
    fs::write(args.cgroup.join("cgroup.procs"), "0")
        .with_context(|| format!("{} cannot be joined", args.cgroup.display()))?;
    let namespace = File::open(&args.namespace)
        .with_context(|| format!("{} cannot be opened", args.namespace.display()))?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    let error = Command::new(&args.program).args(&args.arguments).exec();
    bail!("{} could not be started: {error}", args.program.display())
}
