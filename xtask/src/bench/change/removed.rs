//! From the end of a process to the moment when the kernel's set of backends is without it.
//!
//! Half of them say themselves when they die, by their own hand and without delay. The others are
//! killed, and the clock runs from before the signal: under a load that takes every processor, most
//! of that is the time until a killed process has had its turns to die.
//!
//! The kernel looks for the listener before it chooses, so a dead one is not chosen even before.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::bench::contender::sinew::{Host, PORT, echo};
use crate::bench::load::{Quantiles, now_ns};
use crate::bench::prompt::Prompt;
use crate::bench::report::Report;
use crate::bench::server::last_words;
use crate::bench::set::Set;
use crate::process;

/// They stay dead: one that came back would hide that another one left.
const MORTAL: &str = "mortal";
/// Of these, one is left in the end.
const MORTALS: u16 = 21;
const DIRECTORY: &str = "last-words";
const DEADLINE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_micros(20);
/// From one death to the next.
const CALM: Duration = Duration::from_millis(50);

pub(super) fn run(host: &Host, rounds: usize, report: &mut Report) -> Result<()> {
    let directory = host.room.files().join(DIRECTORY);
    fs::create_dir(&directory)?;
    let mut mortal = echo(MORTALS);
    mortal["restart"] = json!("never");
    let command = mortal["command"].as_array_mut().context("the service has no command")?;
    command.extend([json!("--last-words"), json!(directory.to_string_lossy())]);
    let (mut exits, mut kills) = (Vec::new(), Vec::new());
    let _prompt = Prompt::become_so();
    for _ in 0..rounds {
        host.up(&json!({"name": MORTAL, "services": {MORTAL: mortal}}))?;
        let set = Set::of(host.room.pins(), host.address(MORTAL)?.parse()?, PORT)?;
        for pair in host.processes(MORTAL)?[1..].chunks_exact(2) {
            std::thread::sleep(CALM);
            exits.push(exit(&set, pair[0], &directory)?);
            std::thread::sleep(CALM);
            kills.push(kill(&set, pair[1])?);
        }
        process::output(host.sinew()?.args(["down", MORTAL]))?;
    }
    for (what, samples) in [("exit_to_removed", &mut exits), ("kill_to_removed", &mut kills)] {
        let found = Quantiles::of(samples);
        report.single(&format!("{what}_p50_ms"), found.p50_ns / 1e6);
        report.single(&format!("{what}_p99_ms"), found.p99_ns / 1e6);
        report.single(&format!("{what}_samples"), samples.len() as f64);
    }
    Ok(())
}

/// Nanoseconds from what the process says was its end.
fn exit(set: &Set, victim: Pid, directory: &Path) -> Result<u32> {
    let removed_ns = without(set, victim, Signal::USR1)?;
    let exit_ns = last_words::heard(directory, victim)
        .with_context(|| format!("process {victim} did not say when it died"))?;
    Ok(span(exit_ns, removed_ns))
}

/// Nanoseconds from the kill.
fn kill(set: &Set, victim: Pid) -> Result<u32> {
    let killed_ns = now_ns();
    let removed_ns = without(set, victim, Signal::KILL)?;
    Ok(span(killed_ns, removed_ns))
}

fn span(from_ns: u64, to_ns: u64) -> u32 {
    u32::try_from(to_ns.saturating_sub(from_ns)).unwrap_or(u32::MAX)
}

/// Sends the signal, and tells when the set was first seen without the process.
fn without(set: &Set, victim: Pid, signal: Signal) -> Result<u64> {
    let before = set.len()?;
    let start = Instant::now();
    kill_process(victim, signal)?;
    while set.len()? >= before {
        if start.elapsed() > DEADLINE {
            bail!("process {victim} was killed and is a backend still");
        }
        std::thread::sleep(PAUSE);
    }
    Ok(now_ns())
}
