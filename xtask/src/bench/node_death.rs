//! What callers see of a host that is cut off under load, without a word.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::load::{finish, hung, now_ns, open};
use super::network::{self, Network, Store};
use super::report::Report;
use super::set::Set;
use super::{Args, command, world};
use crate::workspace;

const SERVICE: &str = "target";
const PORT: u16 = 8080;
/// Callers are on the first; all of them have a replica.
const HOSTS: u8 = 3;
const VICTIM: u8 = 3;
/// Connections begun a second.
const RATE: u32 = 500;
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(12);
/// When a connection has not answered by then, it has failed.
const PATIENCE_MS: u64 = 3000;
/// Open connections, over all replicas.
const ESTABLISHED: usize = 30;
const REMOVED_DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(1);

/// Runs `cargo xtask bench node_death`; a round is a host that is cut off.
pub(crate) fn run(args: &Args) -> Result<()> {
    let rounds = args.rounds(5, 1);
    let mut report = Report::new("node_death", command(), rounds);
    let mut found = Vec::new();
    for round in 0..rounds {
        let one = cut()?;
        println!("round {} of {rounds}: {one:?}", round + 1);
        found.push(one);
    }
    let sum = |of: fn(&Found) -> u64| found.iter().map(of).sum::<u64>() as f64;
    report.single("attempts_after_1s", sum(|it| it.attempts));
    report.single("failed_after_1s", sum(|it| it.failed));
    report.single("failed_in_the_first_s", sum(|it| it.failed_before));
    let all = |of: fn(&Found) -> f64| found.iter().map(of).collect::<Vec<_>>();
    report.median("hung_established_s", &all(|it| it.hung_s));
    report.median("removed_s", &all(|it| it.removed_s));
    report.publish(&workspace::root())
}

#[derive(Debug)]
struct Found {
    /// Begun more than a second after the cut.
    attempts: u64,
    /// Of these.
    failed: u64,
    /// Begun within the second after the cut, and failed.
    failed_before: u64,
    /// From the cut to the last broken connection.
    hung_s: f64,
    /// From the cut until the kernel's set was without the host.
    removed_s: f64,
}

fn cut() -> Result<Found> {
    let network = Network::start("death", HOSTS, Store::Embedded)?;
    let addresses = network.serve(SERVICE, PORT, &[1, 2, 3])?;
    let (caller, victim) = (network.host(1)?, network.host(VICTIM)?);
    let target = format!("{}:{PORT}", addresses[0]);
    let set = Set::of(&network::pins(caller), addresses[0], PORT)?;

    let mut established = network.client(caller)?;
    let count = ESTABLISHED.to_string();
    established.args(["internal", "load", "hung", &target, "--connections", &count]);
    let mut hung = world::announced(established.stdin(std::process::Stdio::piped()))?;
    let mut callers = network.client(caller)?;
    callers.args(["internal", "load", "open", &target, "--rate", &RATE.to_string()]);
    let length = (BEFORE + AFTER).as_millis().to_string();
    callers.args(["--milliseconds", &length, "--patience-ms", &PATIENCE_MS.to_string()]);
    let load = callers.stdout(std::process::Stdio::piped()).spawn()?;
    std::thread::sleep(BEFORE);

    let cut_ns = now_ns();
    network.all().cut(victim)?;
    let removed_s = removed(&set)?;
    let opened: open::Found = finish(load, &callers)?;
    drop(hung.stdin.take());
    let broken: hung::Found = finish(hung, &established)?;
    let last_ns = broken.broken_ns.iter().max().context("the cut host had no connection")?;
    let (before, after) = opened.since(cut_ns, Duration::from_secs(1));
    Ok(Found {
        attempts: after.begun,
        failed: after.failed,
        failed_before: before.failed,
        hung_s: last_ns.saturating_sub(cut_ns) as f64 / 1e9,
        removed_s,
    })
}

fn removed(set: &Set) -> Result<f64> {
    let start = Instant::now();
    while set.len()? >= u32::from(HOSTS) {
        if start.elapsed() > REMOVED_DEADLINE {
            bail!("the host that was cut off is a backend still");
        }
        std::thread::sleep(PAUSE);
    }
    Ok(start.elapsed().as_secs_f64())
}
