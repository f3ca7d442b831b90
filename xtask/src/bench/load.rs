//! The clients of every bench. They never retry: what fails is counted.

pub(crate) mod hung;
pub(crate) mod open;
pub(crate) mod patient;
pub(crate) mod short;
pub(crate) mod slices;
mod tally;
pub(crate) mod who;

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use tally::{Quantiles, Tally};

use super::world;

/// Short connections until told otherwise.
pub(crate) struct Running {
    client: Command,
    child: Child,
}

impl Running {
    /// Makes the given process such a client, and waits until it connects.
    pub(crate) fn start(mut client: Command, target: &str, threads: usize) -> Result<Self> {
        client.args(["internal", "load", "short", target, "--threads", &threads.to_string()]);
        let child = world::announced(client.stdin(Stdio::piped()))?;
        Ok(Self { client, child })
    }

    pub(crate) fn finish(mut self) -> Result<short::Found> {
        drop(self.child.stdin.take());
        finish(self.child, &self.client)
    }
}

/// Bytes of a request and of its response.
pub(crate) const MESSAGE_BYTES: usize = 64;

/// Options of `xtask internal load`.
#[derive(clap::Subcommand)]
pub(crate) enum Load {
    /// Connect, one request, its response, close; as fast as the threads go
    Short(short::Args),
    /// Slices of `short` or of an echo, whenever standard input orders one
    Slices(slices::Args),
    /// As `short`, begun at a fixed rate whatever becomes of those begun before
    Open(open::Args),
    /// Connections that are open and quiet, and when they break
    Hung(hung::Args),
    /// Connections that stay open with nothing coming back
    Patient(patient::Args),
    /// Which processes answer
    Who(who::Args),
}

/// Runs a client and prints what it found as one line of JSON.
pub(crate) fn run(load: &Load) -> Result<()> {
    match load {
        Load::Short(args) => print(&short::run(args)?),
        Load::Slices(args) => slices::run(args),
        Load::Open(args) => print(&open::run(args)?),
        Load::Hung(args) => print(&hung::run(args)?),
        Load::Patient(args) => print(&patient::run(args)?),
        Load::Who(args) => print(&who::run(args)?),
    }
}

/// Runs a client that another process was told to be, and reads what it found.
pub(crate) fn collect<T: DeserializeOwned>(client: &mut Command) -> Result<T> {
    let child = client.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    finish(child, client)
}

/// Reads what a client found that was started before.
pub(crate) fn finish<T: DeserializeOwned>(child: Child, client: &Command) -> Result<T> {
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("`{}` failed: {}", crate::process::line(client), output.status);
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("`{}` printed no result", crate::process::line(client)))
}

/// `CLOCK_MONOTONIC`, which all processes of a machine share.
pub(crate) fn now_ns() -> u64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Monotonic);
    tv_sec.unsigned_abs() * 1_000_000_000 + tv_nsec.unsigned_abs()
}

/// `HOST:PORT[,HOST:PORT…]`, resolved once.
fn resolve(targets: &str) -> Result<Vec<SocketAddr>> {
    targets.split(',').map(first_address).collect()
}

fn first_address(target: &str) -> Result<SocketAddr> {
    let mut found =
        target.to_socket_addrs().with_context(|| format!("{target} cannot be resolved"))?;
    found.next().with_context(|| format!("{target} has no address"))
}

fn print(found: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(found)?);
    Ok(())
}
