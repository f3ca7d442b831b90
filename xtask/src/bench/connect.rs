//! What a connection costs: short connections and established echo.
//!
//! Machines are noisy, so nothing is compared across time: every round measures every contender
//! once, in rotating order, and a ratio is taken against direct in the same round.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use super::contender::{Contender, Datapath, Direct, Envoy, Haproxy, Nftables, Nginx, Path, Sinew};
use super::cost;
use super::load::{self, Quantiles, short};
use super::report::Report;
use super::world::World;
use super::{Args, command};
use crate::workspace;

const SINEW_3: Sinew = Sinew { name: "sinew3", replicas: 3 };
const SINEW_1000: Sinew = Sinew { name: "sinew1000", replicas: 1000 };
const DATAPATH_3: Datapath = Datapath { name: "datapath3", replicas: 3 };
const DATAPATH_1000: Datapath = Datapath { name: "datapath1000", replicas: 1000 };
const DIRECT: Direct = Direct { name: "direct", servers: 3 };
const DIRECT_1000: Direct = Direct { name: "direct1000", servers: 1000 };
/// Threads of the client; the machine's cores are shared with the servers.
const THREADS: usize = 4;

/// Lengths of one contender's turn.
struct Lengths {
    warm_up: Duration,
    short: Duration,
    echo: Duration,
}

/// What one turn found.
struct Turn {
    short: short::Found,
    echo: Quantiles,
}

/// Runs `cargo xtask bench connect`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let rounds = args.rounds(15, 2);
    let lengths = lengths(args.quick);
    let world = World::new("connect")?;
    let mut open = Vec::new();
    for contender in contenders(&args.only)? {
        println!("starting {}", contender.name());
        open.push((contender.name(), contender.start(&world)?));
    }
    let mut turns: BTreeMap<&str, Vec<Turn>> = BTreeMap::new();
    for round in 0..rounds {
        for offset in 0..open.len() {
            let (name, path) = &open[(round + offset) % open.len()];
            let turn = measure(name, path.as_ref(), &lengths)?;
            println!(
                "round {:>2}  {name:<10} {:>8.0} connections/s  p99 {:>6.0} us  echo {:>5.1} us",
                round + 1,
                turn.short.per_second(),
                turn.short.total.p99_ns / 1e3,
                turn.echo.p50_ns / 1e3
            );
            turns.entry(name).or_default().push(turn);
        }
    }
    let mut report = Report::new("connect", command(), rounds);
    report.single("concurrency", THREADS as f64);
    summarize(&turns, &mut report);
    for (names, suffix) in
        [([SINEW_3.name, DATAPATH_3.name], ""), ([SINEW_1000.name, DATAPATH_1000.name], "_1000")]
    {
        if let Some((_, sinew)) = open.iter().find(|(name, _)| names.contains(name)) {
            cost::measure(sinew.as_ref(), open[0].1.room(), rounds, suffix, &mut report)?;
        }
    }
    report.publish(&workspace::root())
}

/// What a contender is measured against: the same number of server processes, because a thousand
/// of them cost the scheduler and the caches more than three do, whoever chooses among them.
fn baseline(name: &str) -> &'static str {
    if name.ends_with("1000") && name != DIRECT_1000.name { DIRECT_1000.name } else { DIRECT.name }
}

/// Direct comes first, and always.
fn contenders(only: &[String]) -> Result<Vec<&'static dyn Contender>> {
    const ALL: [&dyn Contender; 10] = [
        &DIRECT,
        &DIRECT_1000,
        &SINEW_3,
        &SINEW_1000,
        &Nftables,
        &Haproxy,
        &Nginx,
        &Envoy,
        &DATAPATH_3,
        &DATAPATH_1000,
    ];
    /// The rest is for those who work on the data path.
    const USUAL: usize = 8;
    let known = |name: &String| ALL.iter().any(|contender| contender.name() == name);
    if let Some(stranger) = only.iter().find(|name| !known(name)) {
        let names = ALL.map(<dyn Contender>::name).join(", ");
        bail!("--only {stranger}: there is no such contender; there are {names}");
    }
    if only.is_empty() {
        return Ok(ALL[..USUAL].to_vec());
    }
    let wanted = |name: &str| {
        name == DIRECT.name || only.iter().any(|only| only == name || baseline(only) == name)
    };
    Ok(ALL.into_iter().filter(|contender| wanted(contender.name())).collect())
}

fn lengths(quick: bool) -> Lengths {
    let unit = Duration::from_millis(if quick { 100 } else { 1000 });
    Lengths { warm_up: unit / 5, short: unit, echo: unit * 2 / 5 }
}

fn measure(name: &str, path: &dyn Path, lengths: &Lengths) -> Result<Turn> {
    shorts(path, lengths.warm_up)?;
    let short = shorts(path, lengths.short)?;
    if short.failures() > 0 || short.connections == 0 {
        bail!(
            "{name} failed: {} connections, before the request {:?}, after it {:?}",
            short.connections,
            short.before_request,
            short.after_request
        );
    }
    Ok(Turn { short, echo: echo(path, lengths.echo)? })
}

fn shorts(path: &dyn Path, length: Duration) -> Result<short::Found> {
    shorts_to(path.client()?, &path.targets(), length)
}

/// Lets a client make short connections.
pub(crate) fn shorts_to(
    mut client: Command,
    targets: &str,
    length: Duration,
) -> Result<short::Found> {
    client.args(["internal", "load", "short", targets]);
    client.args(["--threads", &THREADS.to_string()]);
    client.args(["--milliseconds", &length.as_millis().to_string()]);
    load::collect(&mut client)
}

fn echo(path: &dyn Path, length: Duration) -> Result<Quantiles> {
    let targets = path.targets();
    let mut client = path.client()?;
    client.args(["internal", "load", "echo", targets.split(',').next().unwrap_or_default()]);
    client.args(["--milliseconds", &length.as_millis().to_string(), "--cpu", "0"]);
    path.room().pin(Some(other_cpu()))?;
    let found = load::collect(&mut client);
    path.room().pin(None)?;
    found
}

/// Client and server talk across cores, as they would if they were many.
fn other_cpu() -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    usize::from(cpus > 1)
}

fn summarize(turns: &BTreeMap<&str, Vec<Turn>>, report: &mut Report) {
    for (name, found) in turns {
        let Some(direct) = turns.get(baseline(name)) else { continue };
        if *name == DIRECT.name {
            let rates: Vec<f64> = found.iter().map(|turn| turn.short.per_second()).collect();
            report.median("direct_conn_per_s", &rates);
            continue;
        }
        let ratios = |value: fn(&Turn) -> f64| -> Vec<f64> {
            found.iter().zip(direct).map(|(turn, direct)| value(turn) / value(direct)).collect()
        };
        report.median(&format!("{name}_conn_ratio"), &ratios(|turn| turn.short.per_second()));
        report.median(&format!("{name}_p50_ratio"), &ratios(|turn| turn.short.total.p50_ns));
        report.median(&format!("{name}_p99_ratio"), &ratios(|turn| turn.short.total.p99_ns));
        report.median(&format!("{name}_echo_ratio"), &ratios(|turn| turn.echo.p50_ns));
    }
}
