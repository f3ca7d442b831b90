//! Every link is given another program again and again: no connection may fail at that moment.
//!
//! An agent of another version does so once for each link. Here a program takes turns with its
//! predecessor of the same code, which is verified and fitted anew, so that nothing else changes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::process::Signal;

use super::{CONCURRENCY, Failures, agent};
use crate::bench::bpf::{self, Link, Program};
use crate::bench::contender::sinew::Host;
use crate::bench::load::Running;
use crate::bench::report::Report;

const ROUNDS: usize = 100;
/// Between two replacements: connections are made with each program in force.
const CALM: Duration = Duration::from_millis(1);
const DEADLINE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

pub(super) fn run(
    host: &mut Host,
    target: &str,
    quick: bool,
    failures: &mut Failures,
    report: &mut Report,
) -> Result<()> {
    let links = replaceable(host)?;
    let pairs = pairs(host, &links)?;
    let load = Running::start(host.client()?, target, CONCURRENCY)?;
    let mut updates = 0_u32;
    for _ in 0..if quick { ROUNDS / 20 } else { ROUNDS } {
        for (link, former, present) in &pairs {
            for program in [former, present] {
                link.replace(program)?;
                updates += 1;
                std::thread::sleep(CALM);
            }
        }
    }
    let found = load.finish()?;
    println!(
        "{updates} replacements at {} links: {} connections, {} failed",
        pairs.len(),
        found.connections,
        found.failures()
    );
    report.single("link_updates", f64::from(updates));
    report.single("link_update_failures", found.failures() as f64);
    failures.found.insert("links", found);
    Ok(())
}

/// Links whose kind lets the kernel replace the program.
fn replaceable(host: &Host) -> Result<Vec<Link>> {
    let mut links = bpf::links(host.room.pins())?;
    links.retain(Link::is_replaceable);
    if links.is_empty() {
        bail!("no link is pinned below {}", host.room.pins().display());
    }
    Ok(links)
}

/// Each link with the program that it had before the agent was replaced, and the one that it has now.
fn pairs<'a>(host: &mut Host, links: &'a [Link]) -> Result<Vec<(&'a Link, Program, Program)>> {
    let former = links.iter().map(Link::program).collect::<Result<Vec<_>>>()?;
    host.end_agent(Signal::TERM)?;
    agent::forget_programs(host)?;
    host.start_agent()?;
    let mut pairs = Vec::new();
    let mut kinds = BTreeMap::new();
    for (link, former) in links.iter().zip(former) {
        let present = other_than(link, former.id()?)?;
        *kinds.entry(present.name()?).or_insert(0) += 1;
        pairs.push((link, former, present));
    }
    println!("links: {kinds:?}");
    Ok(pairs)
}

fn other_than(link: &Link, former: u32) -> Result<Program> {
    let start = Instant::now();
    loop {
        let present = link.program()?;
        if present.id()? != former {
            return Ok(present);
        }
        if start.elapsed() > DEADLINE {
            bail!("the new agent left an old program in force for {DEADLINE:?}");
        }
        std::thread::sleep(PAUSE);
    }
}
