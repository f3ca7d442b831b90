//! What clients see while replicas die and hang under load. Clients never retry.

mod patience;
mod stop;

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::contender::sinew::{Host, PORT, SERVICE, echo};
use super::load::Running;
use super::report::Report;
use super::world::World;
use super::{Args, command};
use crate::workspace;

const REPLICAS: u16 = 3;
/// Clients at a time; a killed replica takes with it what these have at it, a third of them.
const CONCURRENCY: usize = 4;
/// Load between a replica's return and the next kill.
const CALM: Duration = Duration::from_millis(100);
/// A replica that is not back by then will not come.
const RETURN_DEADLINE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

/// Runs `cargo xtask bench kill`; a round is a kill.
pub(crate) fn run(args: &Args) -> Result<()> {
    let kills = args.rounds(50, 3);
    let stops = if args.quick { 2 } else { 10 };
    let world = World::new("kill")?;
    let host = Host::start(&world, "sinew")?;
    host.up(&json!({"name": "bench", "services": {SERVICE: echo(REPLICAS)}}))?;
    let target = format!("{}:{PORT}", host.address(SERVICE)?);

    let mut report = Report::new("kill", command(), kills);
    kill_under_load(&host, &target, kills, &mut report)?;
    stop::run(&host, &target, stops, &mut report)?;
    patience::run(&host, args.quick, &mut report)?;
    report.publish(&workspace::root())
}

fn kill_under_load(host: &Host, target: &str, kills: usize, report: &mut Report) -> Result<()> {
    let load = Running::start(host.client()?, target, CONCURRENCY)?;
    for number in 0..kills {
        let victim = replica(host, number)?;
        std::thread::sleep(CALM);
        kill_process(victim, Signal::KILL)?;
        println!("kill {} of {kills}: process {victim}", number + 1);
        returned(host, victim)?;
    }
    std::thread::sleep(CALM);
    let found = load.finish()?;
    println!("before the request: {:?}, after it: {:?}", found.before_request, found.after_request);
    let refused: u64 = found.before_request.values().sum();
    let in_flight: u64 = found.after_request.values().sum();
    let connections = found.connections + refused + in_flight;
    report.single("kills", kills as f64);
    report.single("connections", connections as f64);
    report.single("connections_per_s", connections as f64 / found.seconds);
    report.single("concurrency", CONCURRENCY as f64);
    report.single("refused", refused as f64);
    report.single("failed_in_flight_per_kill", in_flight as f64 / kills as f64);
    Ok(())
}

/// Replicas in turn; all of them must be up.
fn replica(host: &Host, number: usize) -> Result<Pid> {
    let processes = host.processes(SERVICE)?;
    if processes.len() != usize::from(REPLICAS) {
        bail!("{} of {REPLICAS} replicas are up", processes.len());
    }
    Ok(processes[number % processes.len()])
}

fn returned(host: &Host, victim: Pid) -> Result<()> {
    let start = Instant::now();
    loop {
        let processes = host.processes(SERVICE)?;
        if processes.len() == usize::from(REPLICAS) && !processes.contains(&victim) {
            return Ok(());
        }
        if start.elapsed() > RETURN_DEADLINE {
            bail!("process {victim} was killed, and no other has taken its place");
        }
        std::thread::sleep(PAUSE);
    }
}
