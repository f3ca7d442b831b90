//! An agent that is dead for a minute, and one that is replaced again and again.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::{CONCURRENCY, Failures};
use crate::bench::bpf;
use crate::bench::contender::sinew::Host;
use crate::bench::load::Running;
use crate::bench::report::Report;

const DOWN: Duration = Duration::from_secs(60);
const UPGRADES: usize = 20;
/// Load between two upgrades.
const CALM: Duration = Duration::from_millis(300);

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
        host.start_agent()?;
        std::thread::sleep(CALM);
        updates += programs(host)?.difference(&before).count();
    }
    let found = load.finish()?;
    println!("agent replaced: {} connections, {} failed", found.connections, found.failures());
    report.single("programs_replaced", updates as f64);
    // Every replacement updates the links, so this is the same count under another question.
    report.single("link_update_failures", found.failures() as f64);
    failures.found.insert("upgrade_20x", found);
    Ok(())
}

fn programs(host: &Host) -> Result<BTreeSet<u32>> {
    bpf::pinned(host.room.pins())?.iter().map(bpf::Program::id).collect()
}
