//! Makes a network namespace and keeps it for as long as the bench lives.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;

use crate::process;

/// Options of `xtask internal hold`.
#[derive(clap::Args)]
pub(crate) struct Args {
    cgroup: PathBuf,
}

/// Says `ready`, then waits to be killed.
pub(crate) fn run(args: &Args) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    fs::create_dir_all(args.cgroup.join("holder"))?;
    fs::write(args.cgroup.join("holder/cgroup.procs"), "0")?;
    // SAFETY: this process has one thread, and no file descriptor of it depends on the network
    // namespace that it leaves.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
        .context("a network namespace cannot be made")?;
    process::run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    // A single address in front of three servers needs many source ports; the same for everyone.
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "10000 65000")?;
    println!("ready");
    loop {
        std::thread::park();
    }
}
