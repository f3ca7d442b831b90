//! From listen() in a new replica to the first connection that is routed to it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::REPLICAS;
use crate::bench::contender::sinew::{Host, SERVICE};
use crate::bench::load::Quantiles;
use crate::bench::report::Report;
use crate::process;

/// Replicas that are added each round, one by one.
const MORE: u16 = 10;
const DIRECTORY: &str = "times";
const DEADLINE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// Has the servers write down when they listened and when they were first connected to.
pub(super) fn tell_times(host: &Host, service: &mut Value) -> Result<()> {
    let directory = host.room.files().join(DIRECTORY);
    fs::create_dir(&directory)?;
    let command = service["command"].as_array_mut().context("the service has no command")?;
    command.extend([json!("--times"), json!(directory.to_string_lossy())]);
    Ok(())
}

pub(super) fn run(host: &Host, rounds: usize, report: &mut Report) -> Result<()> {
    // These listened before there was a load.
    let first: Vec<String> = host.processes(SERVICE)?.iter().map(ToString::to_string).collect();
    for round in 0..rounds {
        for more in 1..=MORE {
            scale(host, REPLICAS + more)?;
            let servers = round * usize::from(MORE) + usize::from(REPLICAS + more);
            await_first_connections(host, servers)?;
        }
        scale(host, REPLICAS)?;
    }
    let mut samples = Vec::new();
    for entry in fs::read_dir(host.room.files().join(DIRECTORY))? {
        let entry = entry?;
        if first.iter().any(|process| entry.file_name().to_string_lossy() == *process) {
            continue;
        }
        let told = fs::read_to_string(entry.path())?;
        let (listened, connected) = told.split_once(' ').context("a server's times are cut")?;
        let time = connected.parse::<u64>()?.saturating_sub(listened.parse()?);
        samples.push(u32::try_from(time).unwrap_or(u32::MAX));
    }
    let found = Quantiles::of(&mut samples);
    report.single("listen_to_routed_p50_ms", found.p50_ns / 1e6);
    report.single("listen_to_routed_p99_ms", found.p99_ns / 1e6);
    report.single("listen_to_routed_samples", samples.len() as f64);
    Ok(())
}

/// Sets the number of replicas and waits until there are so many. One that still drains would come
/// back, instead of a new one that listens.
fn scale(host: &Host, replicas: u16) -> Result<()> {
    process::output(host.sinew()?.args(["scale", &format!("{SERVICE}={replicas}")]))?;
    let start = Instant::now();
    while !host.has_settled(SERVICE, replicas)? {
        if start.elapsed() > DEADLINE {
            bail!("{SERVICE} has not got {replicas} replicas in {DEADLINE:?}");
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn await_first_connections(host: &Host, servers: usize) -> Result<()> {
    let directory = host.room.files().join(DIRECTORY);
    let start = Instant::now();
    while fs::read_dir(&directory)?.count() < servers {
        if start.elapsed() > DEADLINE {
            bail!("a new replica got no connection in {DEADLINE:?}");
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}
