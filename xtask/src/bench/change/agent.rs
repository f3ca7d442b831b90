//! An agent that is dead for a minute, and one that is replaced again and again.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::process::Signal;
use sinew_abi::ABI_VERSION;

use super::{CONCURRENCY, Failures};
use crate::bench::bpf;
use crate::bench::contender::sinew::Host;
use crate::bench::load::Running;
use crate::bench::report::Report;

const DOWN: Duration = Duration::from_secs(60);
const UPGRADES: usize = 20;
/// Load between two upgrades.
const CALM: Duration = Duration::from_millis(300);
const DEADLINE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

pub(super) fn run(
    host: &mut Host,
    target: &str,
    quick: bool,
    failures: &mut Failures,
    report: &mut Report,
) -> Result<()> {
    let load = Running::start(host.client()?, target, CONCURRENCY)?;
    host.end_agent(Signal::KILL)?;
    std::thread::sleep(if quick { DOWN / 30 } else { DOWN });
    let found = load.finish()?;
    println!("agent down: {} connections, {} failed", found.connections, found.failures());
    failures.found.insert("agent_down_60s", found);
    host.start_agent()?;

    let load = Running::start(host.client()?, target, CONCURRENCY)?;
    let mut updates = 0;
    for _ in 0..if quick { UPGRADES / 10 } else { UPGRADES } {
        let before = programs(host)?;
        host.end_agent(Signal::TERM)?;
        // As another version does, the next one brings programs of its own.
        forget_programs(host)?;
        host.start_agent()?;
        updates += replaced(host, &before)?;
        std::thread::sleep(CALM);
    }
    let found = load.finish()?;
    println!("agent replaced: {} connections, {} failed", found.connections, found.failures());
    report.single("programs_replaced", updates as f64);
    failures.found.insert("upgrade_20x", found);
    Ok(())
}

/// Takes away the programs that the next agent of this version would go on with.
pub(super) fn forget_programs(host: &Host) -> Result<()> {
    for entry in fs::read_dir(host.room.pins().join(format!("v{ABI_VERSION}")))? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("programs-") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Waits until the new agent's programs are in force; returns how many there are.
fn replaced(host: &Host, before: &BTreeSet<u32>) -> Result<usize> {
    let start = Instant::now();
    loop {
        let new = programs(host)?.difference(before).count();
        if new > 0 {
            return Ok(new);
        }
        if start.elapsed() > DEADLINE {
            bail!("the new agent left the old programs in force for {DEADLINE:?}");
        }
        std::thread::sleep(PAUSE);
    }
}

fn programs(host: &Host) -> Result<BTreeSet<u32>> {
    bpf::pinned(host.room.pins())?.iter().map(bpf::Program::id).collect()
}
