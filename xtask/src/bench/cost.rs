//! What the programs themselves cost, by the kernel's own clock.
//!
//! The clock costs too, about as much as the empty program reads; nothing is taken off.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};

use super::bpf::{self, Program, Runs};
use super::connect::shorts_to;
use super::contender::{Path, SERVERS};
use super::report::Report;
use super::world::{self, Room};

const LENGTH: Duration = Duration::from_millis(500);

/// Measures Sinew's programs while connections go through them, and past them. A service of
/// another size has a suffix for its keys.
pub(crate) fn measure(
    sinew: &dyn Path,
    direct: &Room,
    rounds: usize,
    suffix: &str,
    report: &mut Report,
) -> Result<()> {
    let stranger = SERVERS[0].to_string();
    world::announced(sinew.room().task("server")?.arg(&stranger))?;
    let programs = bpf::pinned(sinew.room().pins())?;
    let _counting = bpf::count_run_times()?;
    let (mut hits, mut totals, mut misses, mut empties) = (vec![], vec![], vec![], vec![]);
    let mut shares: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        let (connections, runs) = watched(&programs, || load(sinew, &sinew.targets()))?;
        hits.push(mean(&runs, "connect4")?);
        totals.push(runs.iter().map(|(_, runs)| runs.time_ns as f64).sum::<f64>() / connections);
        for (name, runs) in runs.into_iter().filter(|(_, runs)| runs.count > 0) {
            shares.entry(name).or_default().push(runs.time_ns as f64 / connections);
        }
        let (_, runs) = watched(&programs, || load(sinew, &stranger))?;
        misses.push(mean(&runs, "connect4")?);
        empties.push(empty(direct)?);
    }
    report.median(&format!("connect4_hit{suffix}_ns"), &hits);
    report.median(&format!("total_bpf{suffix}_ns"), &totals);
    if suffix.is_empty() {
        report.median("connect4_miss_ns", &misses);
        report.median("empty_program_ns", &empties);
    }
    for (name, samples) in shares {
        report.median(&format!("share_{name}{suffix}_ns"), &samples);
    }
    Ok(())
}

/// The programs' runs while something happened, by name.
fn watched(
    programs: &[Program],
    work: impl FnOnce() -> Result<f64>,
) -> Result<(f64, Vec<(String, Runs)>)> {
    let before: Vec<Runs> = programs.iter().map(Program::runs).collect::<Result<_>>()?;
    let done = work()?;
    let mut found = Vec::new();
    for (program, before) in programs.iter().zip(before) {
        found.push((program.name()?, program.runs()?.since(before)));
    }
    Ok((done, found))
}

fn load(path: &dyn Path, target: &str) -> Result<f64> {
    let found = shorts_to(path.client()?, target, LENGTH)?;
    if found.failures() > 0 || found.connections == 0 {
        bail!("the client of {target} failed: {found:?}");
    }
    Ok(found.connections as f64)
}

fn mean(runs: &[(String, Runs)], name: &str) -> Result<f64> {
    let found = runs.iter().find(|(found, _)| found == name).and_then(|(_, runs)| runs.mean_ns());
    match found {
        Some(mean) => Ok(mean),
        None => bail!("the program {name} is not pinned or did not run"),
    }
}

/// The least that the clock shows for any program on the hook.
fn empty(room: &Room) -> Result<f64> {
    let cgroup = room.corner("empty")?;
    let (program, _link) = bpf::attach_empty(&cgroup)?;
    let client = room.command_in(&cgroup, world::own())?;
    shorts_to(client, &SERVERS[0].to_string(), LENGTH)?;
    match program.runs()?.mean_ns() {
        Some(mean) => Ok(mean),
        None => bail!("the empty program did not run"),
    }
}
