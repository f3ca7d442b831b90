//! What size costs: time and memory to load many services, to change one, and to connect beside
//! them. The services are put into the data path directly, where their endpoints lie on other hosts,
//! and into an agent's core, which takes them for its own.

mod crowd;

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::connect::shorts_to;
use super::contender::datapath::Host;
use super::contender::{Datapath, Path, sinew};
use super::load::short;
use super::plot::{Curves, Panel};
use super::report::Report;
use super::world::{Room, World};
use super::{Args, command};
use crate::workspace;

/// The curve: services, each with so many endpoints.
const SIZES: [u32; 3] = [100, 1000, 10_000];
const ENDPOINTS: u32 = 10;
/// What is drawn.
const PANELS: [Panel<'_>; 4] = [
    ("load_s", "time to load, s", Some(3.0)),
    ("agent_change_ms", "one change, ms", Some(1.0)),
    ("agent_rss_mib", "memory of the agent, MiB", Some(150.0)),
    ("connect_ratio_vs_small", "connect(), of beside one service", Some(1.05)),
];
const CHANGES: usize = 20;
const LENGTH: Duration = Duration::from_millis(500);

/// Runs `cargo xtask bench scale`; every round measures every size once.
pub(crate) fn run(args: &Args) -> Result<()> {
    let rounds = args.rounds(7, 2);
    let world = World::new("scale")?;
    let small = Host::start(&world, &Datapath { name: "small", replicas: 3 })?;
    let large = Host::start(&world, &Datapath { name: "large", replicas: 3 })?;
    let mut report = Report::new("scale", command(), rounds);
    let crowded = world.room("crowd")?;
    let rest_mib = crowd::rest_mib(&crowded, &sinew::Host::start(&world, "idle")?)?;
    report.single("agent_rest_rss_mib", rest_mib);
    for size in SIZES {
        let mut found = measure(&small, &large, size, rounds)?;
        found.measure_agent(&crowded, size, rounds, rest_mib)?;
        for (key, samples) in found.figures() {
            report.median(&format!("{key}{}", suffix(size)), samples);
        }
    }
    let root = workspace::root();
    report.publish(&root)?;
    if !args.quick {
        let sizes = SIZES.map(|size| (size.to_string(), suffix(size)));
        let curves = Curves { panels: &PANELS, sizes: &sizes, of: "services of 10 endpoints each" };
        let picture = curves.draw(&serde_json::to_value(&report)?)?;
        fs::write(root.join("docs/scale.svg"), picture)?;
    }
    Ok(())
}

/// Of the keys of a size: the last one is what is promised, the others draw the curve.
fn suffix(size: u32) -> String {
    if SIZES.last() == Some(&size) { String::new() } else { format!("_{size}_services") }
}

#[derive(Default)]
struct Found {
    load_s: Vec<f64>,
    one_change_ms: Vec<f64>,
    resident_mib: Vec<f64>,
    connect_ratio: Vec<f64>,
    agent_load_s: Vec<f64>,
    agent_change_ms: Vec<f64>,
    agent_resident_mib: Vec<f64>,
}

impl Found {
    fn figures(&self) -> [(&'static str, &[f64]); 7] {
        [
            ("load_s", &self.load_s),
            ("one_change_ms", &self.one_change_ms),
            ("datapath_rss_mib", &self.resident_mib),
            ("connect_ratio_vs_small", &self.connect_ratio),
            ("agent_load_s", &self.agent_load_s),
            ("agent_change_ms", &self.agent_change_ms),
            ("agent_rss_mib", &self.agent_resident_mib),
        ]
    }

    fn measure_agent(
        &mut self,
        room: &Room,
        size: u32,
        rounds: usize,
        rest_mib: f64,
    ) -> Result<()> {
        for _ in 0..rounds {
            let found = crowd::run(room, size)?;
            self.agent_load_s.push(found.load_s);
            self.agent_resident_mib.push(found.resident_mib + rest_mib);
            self.agent_change_ms.extend(found.one_change_ms);
        }
        Ok(())
    }
}

fn measure(small: &Host, large: &Host, size: u32, rounds: usize) -> Result<Found> {
    let mut found = Found::default();
    for round in 0..rounds {
        large.order("services 0 0")?;
        let (seconds, kib) = loaded(&large.order(&format!("services {size} {ENDPOINTS}"))?)?;
        found.load_s.push(seconds);
        found.resident_mib.push(kib / 1024.0);
        for _ in 0..CHANGES {
            found.one_change_ms.push(number(&large.order("change")?)? * 1e3);
        }
        let (beside_few, beside_many) = if round.is_multiple_of(2) {
            let few = p50(small)?;
            (few, p50(large)?)
        } else {
            let many = p50(large)?;
            (p50(small)?, many)
        };
        found.connect_ratio.push(beside_many / beside_few);
        println!(
            "round {:>2}  {size:>6} services loaded in {seconds:.3} s, {:.0} MiB; connect {:.2}",
            round + 1,
            kib / 1024.0,
            beside_many / beside_few
        );
    }
    Ok(found)
}

/// `SECONDS KIB`
fn loaded(answer: &str) -> Result<(f64, f64)> {
    let (seconds, kib) = answer
        .split_once(' ')
        .with_context(|| format!("the host of the data path answered {answer:?}"))?;
    Ok((number(seconds)?, number(kib)?))
}

fn number(answer: &str) -> Result<f64> {
    answer.parse().with_context(|| format!("the host of the data path answered {answer:?}"))
}

fn p50(host: &Host) -> Result<f64> {
    let found: short::Found = shorts_to(host.client()?, &host.targets(), LENGTH)?;
    if found.failures() > 0 {
        bail!("connections beside many services failed: {found:?}");
    }
    Ok(found.connect.p50_ns)
}
