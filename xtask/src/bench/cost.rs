//! What the programs themselves cost, by the kernel's own clock.
//!
//! The clock costs too, about as much as the empty program reads; nothing is taken off.
//!
//! A run's time includes what interrupted it, and a machine that others use is faster and slower
//! by turns: for some ten milliseconds the programs, as everything, may take half as long again. So
//! a round takes the median over many short slices between the turns of the contenders.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Result;

use super::bpf::{self, Program, Runs};
use super::contender::{Path, SERVERS};
use super::load::slices::{Client, Order, Work};
use super::report::{self, Report};
use super::world::{self, Room};

/// Nothing is left out: programs are counted from the first connection to the last.
const ORDER: Order =
    Order { work: Work::Short, lead_in: Duration::ZERO, length: Duration::from_millis(25) };

/// The programs of a Sinew, with clients through them and past them.
pub(crate) struct Cost<'a> {
    /// Of the keys, for a service of another size.
    suffix: &'a str,
    programs: Vec<Program>,
    caller: Client,
    /// Of a server that is no service.
    stranger: Client,
    /// Past an empty program.
    other: Client,
    empty: Program,
    _link: OwnedFd,
    /// By key, one a slice.
    round: BTreeMap<String, Vec<f64>>,
    /// By key, one a round.
    samples: BTreeMap<String, Vec<f64>>,
}

impl<'a> Cost<'a> {
    pub(crate) fn open(sinew: &dyn Path, direct: &Room, suffix: &'a str) -> Result<Self> {
        let threads = super::connect::THREADS;
        let address = SERVERS[0].to_string();
        world::announced(sinew.room().task("server")?.arg(&address))?;
        let cgroup = direct.corner("empty")?;
        let (empty, link) = bpf::attach_empty(&cgroup)?;
        Ok(Self {
            suffix,
            programs: bpf::pinned(sinew.room().pins())?,
            caller: Client::start(sinew.client()?, &sinew.targets(), threads)?,
            stranger: Client::start(sinew.client()?, &address, threads)?,
            other: Client::start(direct.command_in(&cgroup, world::own())?, &address, threads)?,
            empty,
            _link: link,
            round: BTreeMap::new(),
            samples: BTreeMap::new(),
        })
    }

    /// Measures in so many slices.
    pub(crate) fn measure(&mut self, slices: usize) -> Result<()> {
        // As long as it takes to call each of many backends: their caches are cold after a pause.
        self.caller.work(&Order { length: ORDER.length * 4, ..ORDER })?;
        let _counting = bpf::count_run_times()?;
        for _ in 0..slices {
            for (key, value) in self.slice()? {
                self.round.entry(key).or_default().push(value);
            }
        }
        Ok(())
    }

    pub(crate) fn end_round(&mut self) {
        for (key, slices) in std::mem::take(&mut self.round) {
            self.samples.entry(key).or_default().extend(report::median(&slices));
        }
    }

    fn slice(&mut self) -> Result<Vec<(String, f64)>> {
        let suffix = self.suffix;
        let (connections, runs) = watched(&self.programs, &mut self.caller)?;
        if connections == 0.0 {
            return Ok(Vec::new());
        }
        let total: u64 = runs.iter().map(|(_, runs)| runs.time_ns).sum();
        let mut found = vec![(format!("total_bpf{suffix}_ns"), total as f64 / connections)];
        found
            .extend(mean(&runs, "connect4").map(|mean| (format!("connect4_hit{suffix}_ns"), mean)));
        for (name, runs) in runs.into_iter().filter(|(_, runs)| runs.count > 0) {
            found.push((format!("share_{name}{suffix}_ns"), runs.time_ns as f64 / connections));
        }
        if suffix.is_empty() {
            let (_, runs) = watched(&self.programs, &mut self.stranger)?;
            found.extend(mean(&runs, "connect4").map(|mean| ("connect4_miss_ns".to_owned(), mean)));
            let (_, runs) = watched(std::slice::from_ref(&self.empty), &mut self.other)?;
            found.extend(mean(&runs, "empty").map(|mean| ("empty_program_ns".to_owned(), mean)));
        }
        Ok(found)
    }

    pub(crate) fn summarize(&self, report: &mut Report) {
        for (key, samples) in &self.samples {
            report.median(key, samples);
        }
    }
}

/// Connections in a slice, and the programs' runs meanwhile, by name.
fn watched(programs: &[Program], client: &mut Client) -> Result<(f64, Vec<(String, Runs)>)> {
    let before: Vec<Runs> = programs.iter().map(Program::runs).collect::<Result<_>>()?;
    let connections = client.work(&ORDER)?.total_ns.len() as f64;
    let mut found = Vec::new();
    for (program, before) in programs.iter().zip(before) {
        found.push((program.name()?, program.runs()?.since(before)));
    }
    Ok((connections, found))
}

/// None in a slice in which the machine stood still.
fn mean(runs: &[(String, Runs)], name: &str) -> Option<f64> {
    runs.iter().find(|(found, _)| found == name).and_then(|(_, runs)| runs.mean_ns())
}
