//! What a connection costs: short connections and established echo.
//!
//! Machines are noisy, so nothing is compared across time: in every round every contender takes a
//! turn together with its baseline, in short slices by turns ([`turn`]), and gives one ratio.

mod turn;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use super::contender::{Contender, Datapath, Direct, Envoy, Haproxy, Nftables, Nginx, Path, Sinew};
use super::cost::Cost;
use super::load::{self, short, slices};
use super::report::Report;
use super::world::World;
use super::{Args, command};
use crate::workspace;
use turn::{Lengths, Turn};

const SINEW_3: Sinew = Sinew { name: "sinew3", replicas: 3 };
const SINEW_1000: Sinew = Sinew { name: "sinew1000", replicas: 1000 };
const DATAPATH_3: Datapath = Datapath { name: "datapath3", replicas: 3 };
const DATAPATH_1000: Datapath = Datapath { name: "datapath1000", replicas: 1000 };
const DIRECT: Direct = Direct { servers: 3 };
const DIRECT_1000: Direct = Direct { servers: 1000 };
/// Threads of the client; the machine's cores are shared with the servers.
pub(crate) const THREADS: usize = 4;

/// Slices a round in which the programs are watched.
const COST_SLICES: usize = 18;

/// A way that is open, and its client.
struct Side {
    path: Box<dyn Path>,
    client: RefCell<slices::Client>,
}

impl Side {
    fn open(path: Box<dyn Path>) -> Result<Self> {
        let client = slices::Client::start(path.client()?, &path.targets(), THREADS)?;
        Ok(Self { path, client: RefCell::new(client) })
    }
}

/// A contender and what it is measured against: direct, to the same number of server processes,
/// because a thousand of them cost the scheduler and the caches more than three do, whoever
/// chooses among them. Each contender has a baseline of its own, so that both sides have made the
/// same number of connections at the same times: those closed within a minute weigh on the next.
struct Pair {
    name: &'static str,
    contender: Side,
    baseline: Side,
}

impl Pair {
    fn open(contender: &dyn Contender, world: &World) -> Result<Self> {
        let name = contender.name();
        println!("starting {name}");
        let direct = if is_large(name) { DIRECT_1000 } else { DIRECT };
        let baseline = direct.start_in(world.room(&format!("{name}-baseline"))?)?;
        Ok(Self {
            name,
            contender: Side::open(contender.start(world)?)?,
            baseline: Side::open(baseline)?,
        })
    }
}

/// Runs `cargo xtask bench connect`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let rounds = args.rounds(15, 2);
    let world = World::new("connect")?;
    let contenders = contenders(&args.only)?.into_iter();
    let pairs: Vec<Pair> =
        contenders.map(|contender| Pair::open(contender, &world)).collect::<Result<_>>()?;
    let mut costs = costs(&pairs)?;
    let mut turns: BTreeMap<&str, Vec<Turn>> = BTreeMap::new();
    for round in 0..rounds {
        for offset in 0..pairs.len() {
            let pair = &pairs[(round + offset) % pairs.len()];
            let turn = turn::measure(round, pair, lengths(pair.name, args.quick))?;
            println!("round {:>2}  {:<12} {turn}", round + 1, pair.name);
            turns.entry(pair.name).or_default().push(turn);
            for cost in &mut costs {
                cost.measure(COST_SLICES.div_ceil(pairs.len()))?;
            }
        }
        for cost in &mut costs {
            cost.end_round();
        }
    }
    let mut report = Report::new("connect", command(), rounds);
    report.single("concurrency", THREADS as f64);
    summarize(&turns, &mut report);
    for cost in &costs {
        cost.summarize(&mut report);
    }
    report.publish(&workspace::root())
}

fn contenders(only: &[String]) -> Result<Vec<&'static dyn Contender>> {
    const ALL: [&dyn Contender; 10] = [
        &SINEW_3,
        &SINEW_1000,
        &Nftables,
        &Haproxy,
        &Nginx,
        &Envoy,
        &DATAPATH_3,
        &DATAPATH_1000,
        &DIRECT,
        &DIRECT_1000,
    ];
    /// The rest is for those who work on the data path, and direct against direct for those who
    /// ask what the method cannot tell apart.
    const USUAL: usize = 6;
    let known = |name: &String| ALL.iter().any(|contender| contender.name() == name);
    if let Some(stranger) = only.iter().find(|name| !known(name)) {
        let names = ALL.map(<dyn Contender>::name).join(", ");
        bail!("--only {stranger}: there is no such contender; there are {names}");
    }
    if only.is_empty() {
        return Ok(ALL[..USUAL].to_vec());
    }
    let wanted = |name: &str| only.iter().any(|only| only == name);
    Ok(ALL.into_iter().filter(|contender| wanted(contender.name())).collect())
}

/// What the programs cost is measured once for few and once for many backends.
fn costs(pairs: &[Pair]) -> Result<Vec<Cost<'_>>> {
    let few = ([SINEW_3.name, DATAPATH_3.name], "");
    let many = ([SINEW_1000.name, DATAPATH_1000.name], "_1000");
    let open = |(names, suffix): ([&str; 2], _)| {
        let pair = pairs.iter().find(|pair| names.contains(&pair.name))?;
        Some(Cost::open(pair.contender.path.as_ref(), pair.baseline.path.room(), suffix))
    };
    [few, many].into_iter().filter_map(open).collect()
}

/// Of a contender's turn. What is called after it was long away finds cold caches: with a thousand
/// servers the lead-in calls each of them, with three the shortest slices tell most.
fn lengths(name: &str, quick: bool) -> Lengths {
    let (slices, lead_in, short) = if is_large(name) { (20, 100, 50) } else { (60, 6, 25) };
    Lengths {
        slices: if quick { 2 } else { slices },
        lead_in: Duration::from_millis(lead_in),
        short: Duration::from_millis(short),
        echo: Duration::from_millis(6),
    }
}

fn is_large(name: &str) -> bool {
    name.ends_with("1000")
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

fn summarize(turns: &BTreeMap<&str, Vec<Turn>>, report: &mut Report) {
    for (name, turns) in turns {
        let ratios = |ratio: fn(&Turn) -> f64| -> Vec<f64> { turns.iter().map(ratio).collect() };
        report.median(&format!("{name}_conn_ratio"), &ratios(Turn::rate));
        report.median(&format!("{name}_conn_sum_ratio"), &ratios(Turn::rate_of_sums));
        report.median(&format!("{name}_p50_ratio"), &ratios(Turn::p50));
        report.median(&format!("{name}_p99_ratio"), &ratios(Turn::p99));
        report.median(&format!("{name}_echo_ratio"), &ratios(Turn::echo));
    }
    let few = turns.iter().filter(|(name, _)| !is_large(name)).flat_map(|(_, turns)| turns);
    let direct: Vec<f64> = few.map(|turn| turn.baseline.per_second()).collect();
    report.median("direct_conn_per_s", &direct);
}
