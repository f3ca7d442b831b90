//! Several hosts on this machine, for trying things out.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, bail};
use sinew_hosts::Hosts;

use crate::setup::{self, Purpose};
use crate::workspace;

/// Options of `cargo xtask hosts`.
#[derive(clap::Args)]
#[command(after_help = "\
In the command, `on h1 COMMAND` runs a command on a host, `cut h1` and `heal h1` cut it off without \
a word, `pause h1` and `resume h1` stop all that runs on it, and `crash h1` kills that (-9). `sinew` \
is on the PATH and has directories of its own on each host. When the command ends, the hosts go.

Examples:
  cargo xtask hosts 3                                         a shell beside three hosts
  cargo xtask hosts 2 -- sh -c 'cut h2; on h1 sinew doctor'   commands beside two
  cargo xtask hosts 2 -- on h1 ip neighbour                   one command on one host")]
pub(crate) struct Args {
    /// How many
    #[arg(default_value_t = 3)]
    count: u8,
    /// What to run beside them; the shell when it is left out
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// Runs `cargo xtask hosts`.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::require_root("hosts")?;
    setup::ensure(Purpose::Hosts)?;
    let sinew = workspace::build_sinew()?;
    let hosts = Hosts::new("hosts", args.count)?;
    for host in hosts.all() {
        println!("{:<4} {:<12} {}", host.name(), host.address().to_string(), host.address6());
    }
    let status = command(args, &hosts, &sinew)?;
    if !status.success() {
        bail!("the command ended with {status}");
    }
    Ok(())
}

fn command(args: &Args, hosts: &Hosts, sinew: &std::path::Path) -> Result<ExitStatus> {
    let binaries = sinew.parent().map(PathBuf::from).unwrap_or_default();
    let old = std::env::var_os("PATH").unwrap_or_default();
    let path = [hosts.scripts(), binaries].into_iter().chain(std::env::split_paths(&old));
    let path = std::env::join_paths(path).context("the PATH")?;
    let shell = || vec![std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())];
    let words = if args.command.is_empty() { shell() } else { args.command.clone() };
    let [program, arguments @ ..] = &words[..] else { bail!("no command") };
    // The scripts are found by the new PATH.
    let mut command = Command::new("env");
    command.arg(program).args(arguments).env("PATH", path);
    command.status().with_context(|| format!("{} could not be started", program.display()))
}
