//! How soon all hosts know what happens on one of them: from listen() there until the kernels of the
//! others choose the new replica, and from its kill until they no longer do.
//!
//! Each host's set of backends is looked at in the maps of its kernel, all the time. Between hosts
//! there is a bridge of this machine, and all of them share its processors.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::load::{Quantiles, now_ns};
use super::network::{self, Network, Store};
use super::report::Report;
use super::set::Set;
use super::simulated::Simulated;
use super::{Args, command, world};
use crate::workspace;

const HOSTS: u8 = 3;
/// Simulated, beside the real ones.
const SUBSCRIBERS: usize = 200;
const SERVICE: &str = "target";
const PORT: u16 = 8080;
const PAUSE: Duration = Duration::from_micros(50);
const DEADLINE: Duration = Duration::from_secs(20);
/// From one change to the next: they are not to meet.
const CALM: Duration = Duration::from_millis(100);
const DIRECTORY: &str = "listened";

/// Runs `cargo xtask bench propagate`; a round is a replica that comes and one that is killed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let rounds = args.rounds(100, 5);
    let mut report = Report::new("propagate", command(), rounds);
    for store in [Store::Embedded, Store::Etcd] {
        if args.only.is_empty() || args.only.iter().any(|only| only == store.name()) {
            measure(store, rounds, &mut report)?;
        }
    }
    report.publish(&workspace::root())
}

fn measure(store: Store, rounds: usize, report: &mut Report) -> Result<()> {
    let network = Network::start("propagate", HOSTS, store)?;
    let first = network.host(1)?;
    let directory = first.files().join(DIRECTORY);
    fs::create_dir(&directory)?;
    let own = world::own();
    let listen = format!("0.0.0.0:{PORT}");
    let words = [
        own.to_string_lossy().into_owned(),
        "internal".into(),
        "server".into(),
        listen,
        "--listened".into(),
        directory.to_string_lossy().into_owned(),
    ];
    // One that comes back would be two changes.
    let service = json!({"command": words, "port": PORT, "restart": "never", "replicas": 1});
    network.up(first, &json!({"name": "bench", "services": {SERVICE: service}}))?;
    let mut sets = Vec::new();
    for host in network.hosts() {
        let address = network.address(host, SERVICE)?;
        network.await_backends(host, address, PORT, 1)?;
        sets.push(Set::of(&network::pins(host), address, PORT)?);
    }
    let subscribers = Simulated::start(&network, HOSTS, SUBSCRIBERS, 0, 0.0, Some(SERVICE))?;
    let others = &sets[1..];
    let (mut ups, mut downs) = (Vec::new(), Vec::new());
    let mut known = BTreeSet::new();
    newcomer(&directory, &mut known)?;
    for round in 0..rounds {
        std::thread::sleep(CALM);
        // Those that were killed stay among the replicas.
        network.scale(first, SERVICE, round + 2)?;
        let seen_ns = reached(others, 2)?;
        let (victim, listened_ns) = newcomer(&directory, &mut known)?;
        ups.push(span(listened_ns, seen_ns));
        std::thread::sleep(CALM);
        let killed_ns = now_ns();
        kill_process(victim, Signal::KILL)?;
        downs.push(span(killed_ns, reached(others, 1)?));
        if round % 10 == 9 {
            println!("{}: {} of {rounds} rounds", store.name(), round + 1);
        }
    }
    subscribers.finish()?;
    for (what, samples) in [("up", &mut ups), ("down", &mut downs)] {
        let found = Quantiles::of(samples);
        report.single(&format!("{}_{what}_p50_ms", store.name()), found.p50_ns / 1e6);
        report.single(&format!("{}_{what}_p99_ms", store.name()), found.p99_ns / 1e6);
    }
    Ok(())
}

/// When the last of the sets was first seen with so many backends.
fn reached(sets: &[Set], backends: u32) -> Result<u64> {
    let start = Instant::now();
    let mut waiting: Vec<&Set> = sets.iter().collect();
    loop {
        let mut left = Vec::new();
        for set in waiting {
            if set.len()? != backends {
                left.push(set);
            }
        }
        let now_ns = now_ns();
        if left.is_empty() {
            return Ok(now_ns);
        }
        if start.elapsed() > DEADLINE {
            bail!("{} hosts do not choose from {backends} backends in {DEADLINE:?}", left.len());
        }
        waiting = left;
        std::thread::sleep(PAUSE);
    }
}

/// The process that says that it listens and is not known yet, and when that was. It says so after
/// listen(), and others may know sooner.
fn newcomer(directory: &Path, known: &mut BTreeSet<OsString>) -> Result<(Pid, u64)> {
    let start = Instant::now();
    loop {
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            // Not all of it may be written yet.
            let said = fs::read_to_string(directory.join(&name))?;
            let Some(listened_ns) = said.strip_suffix('\n') else { continue };
            if known.insert(name.clone()) {
                let pid = name.to_string_lossy().parse().ok().and_then(Pid::from_raw);
                let pid = pid.with_context(|| format!("{} is no process", name.display()))?;
                return Ok((pid, listened_ns.parse()?));
            }
        }
        if start.elapsed() > DEADLINE {
            bail!("a replica did not say that it listens");
        }
        std::thread::sleep(PAUSE);
    }
}

fn span(from_ns: u64, to_ns: u64) -> u32 {
    u32::try_from(to_ns.saturating_sub(from_ns)).unwrap_or(u32::MAX)
}
