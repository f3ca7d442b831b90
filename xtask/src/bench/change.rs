//! How soon a change takes effect under load, and whether clients notice: replicas that come and
//! go, an agent that is away, an agent that is replaced, and the programs of links alone.

mod agent;
mod links;
mod removed;
mod routed;

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::json;

use super::contender::sinew::{Host, PORT, SERVICE, echo};
use super::load::{Running, short};
use super::report::Report;
use super::world::World;
use super::{Args, command};
use crate::workspace;

/// Clients at a time.
const CONCURRENCY: usize = 4;
const REPLICAS: u16 = 3;

/// Runs `cargo xtask bench change`; a round is a change of every kind.
pub(crate) fn run(args: &Args) -> Result<()> {
    let kinds = Kinds::of(&args.only)?;
    let rounds = args.rounds(10, 1);
    let world = World::new("change")?;
    let mut host = Host::start(&world, "sinew")?;
    let mut service = echo(REPLICAS);
    routed::tell_times(&host, &mut service)?;
    host.up(&json!({"name": "bench", "services": {SERVICE: service}}))?;
    let target = format!("{}:{PORT}", host.address(SERVICE)?);

    let mut report = Report::new("change", command(), rounds);
    let mut failures = Failures::default();
    if kinds.has(SCALE) {
        let work = || routed::run(&host, rounds, &mut report);
        under_load(&host, &target, &mut failures, SCALE, work)?;
    }
    if kinds.has(EXIT) {
        let work = || removed::run(&host, rounds, &mut report);
        under_load(&host, &target, &mut failures, EXIT, work)?;
    }
    if kinds.has(AGENT) {
        agent::run(&mut host, &target, args.quick, &mut failures, &mut report)?;
    }
    if kinds.has(LINKS) {
        links::run(&mut host, &target, args.quick, &mut failures, &mut report)?;
    }
    failures.report(&mut report);
    report.publish(&workspace::root())
}

const SCALE: &str = "scale";
const EXIT: &str = "exit";
const AGENT: &str = "agent";
const LINKS: &str = "links";
const ALL: [&str; 4] = [SCALE, EXIT, AGENT, LINKS];

/// The kinds of change that are measured.
struct Kinds<'a>(&'a [String]);

impl<'a> Kinds<'a> {
    fn of(only: &'a [String]) -> Result<Self> {
        match only.iter().find(|kind| !ALL.contains(&kind.as_str())) {
            Some(kind) => bail!("--only {kind}: there are {}", ALL.join(", ")),
            None => Ok(Self(only)),
        }
    }

    fn has(&self, kind: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|only| only == kind)
    }
}

/// What clients saw, by what was changed meanwhile.
#[derive(Default)]
struct Failures {
    found: BTreeMap<&'static str, short::Found>,
}

impl Failures {
    fn report(&self, report: &mut Report) {
        for (change, found) in &self.found {
            report.single(&format!("{change}_connections"), found.connections as f64);
            report.single(&format!("{change}_connections_per_s"), found.per_second());
            report.single(&format!("{change}_failures"), found.failures() as f64);
        }
        report.single("concurrency", CONCURRENCY as f64);
    }
}

fn under_load(
    host: &Host,
    target: &str,
    failures: &mut Failures,
    change: &'static str,
    work: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let load = Running::start(host.client()?, target, CONCURRENCY)?;
    work()?;
    let found = load.finish()?;
    println!("{change}: {} connections, {} failed", found.connections, found.failures());
    for (kind, count) in found.before_request.iter().chain(&found.after_request) {
        println!("  {count} {kind}");
    }
    failures.found.insert(change, found);
    Ok(())
}
