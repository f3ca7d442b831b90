//! The agent with more endpoints than a host can run: its core over the kernel's data path, told
//! that they run. A whole one that has nothing to do tells what comes on top: what it takes beyond a
//! core that knows of nothing.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use super::{CHANGES, ENDPOINTS, loaded, number};
use crate::bench::contender::sinew::Host;
use crate::bench::world::{self, Room};

/// What one load of the agent showed.
pub(super) struct Found {
    pub(super) load_s: f64,
    pub(super) resident_mib: f64,
    pub(super) one_change_ms: Vec<f64>,
}

/// Starts one in `room`, and ends it.
pub(super) fn run(room: &Room, services: u32) -> Result<Found> {
    // What another one pinned would be taken up.
    let _ = fs::remove_dir_all(room.pins());
    let mut command = room.command(world::own().with_file_name("examples").join("crowd"))?;
    command.arg(room.pins()).arg(room.corner("crowd")?);
    command.args([services, ENDPOINTS].map(|n| n.to_string()));
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let found = ask(&mut process, if services > 0 { CHANGES } else { 0 });
    drop(process.stdin.take());
    process.wait()?;
    found
}

/// Memory of an agent beside its core.
pub(super) fn rest_mib(room: &Room, host: &Host) -> Result<f64> {
    Ok(idle_mib(host)? - run(room, 0)?.resident_mib)
}

fn ask(process: &mut Child, changes: usize) -> Result<Found> {
    let pipes = process.stdin.as_mut().zip(process.stdout.as_mut());
    let (stdin, stdout) = pipes.context("the crowd has no pipes")?;
    let mut answers = BufReader::new(stdout).lines();
    let mut answer =
        || -> Result<String> { Ok(answers.next().context("the crowd says nothing more")??) };
    let (load_s, kib) = loaded(&answer()?)?;
    let mut one_change_ms = Vec::new();
    for _ in 0..changes {
        writeln!(stdin, "change")?;
        one_change_ms.push(number(&answer()?)? * 1e3);
    }
    Ok(Found { load_s, resident_mib: kib / 1024.0, one_change_ms })
}

/// Memory of an agent that has nothing to do.
fn idle_mib(host: &Host) -> Result<f64> {
    // It takes calls before it is ready, and answers after.
    host.ask(&["ps"])?;
    let agent = host.agent().context("there is no agent")?;
    let status = fs::read_to_string(format!("/proc/{agent}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
    Ok(number(kib)? / 1024.0)
}
