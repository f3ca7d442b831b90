//! Requests through Sinew's proxy, nginx and HAProxy, each with one thread on a processor of its
//! own; nginx as the server and wrk as the client share the other one.
//!
//! What a request costs is the processor time of the proxy alone, as its cgroup accounts it: it
//! does not depend on how fast client and server are, nor much on who else uses the machine.

mod contenders;
mod load;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::report::Report;
use super::world::World;
use super::{Args, command};
use crate::{process, workspace};
use contenders::{Contender, NAMES};
use load::{Case, Slice};

/// By contender and case: what its slices found, one a round.
type Samples = BTreeMap<(&'static str, &'static str), Vec<Slice>>;

pub(super) fn run(args: &Args) -> Result<()> {
    let processors = std::thread::available_parallelism()?.get();
    ensure!(processors >= 2, "the proxy needs a processor of its own: this machine has one");
    build()?;
    let (rounds, seconds) = (args.rounds(9, 2), if args.quick { 1 } else { 3 });
    let world = World::new("proxy")?;
    let contenders: Vec<Contender> =
        NAMES.iter().map(|name| Contender::start(&world, name)).collect::<Result<_>>()?;
    let mut samples = Samples::new();
    for round in 0..rounds {
        for case in Case::ALL {
            for nth in 0..contenders.len() {
                // Another one begins each time.
                let contender = &contenders[(round + nth) % contenders.len()];
                let slice = load::slice(contender, case, seconds)?;
                samples.entry((contender.name, case.name())).or_default().push(slice);
            }
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    report(&samples, rounds).publish(&workspace::root())
}

fn build() -> Result<()> {
    let mut build = process::cargo();
    build.args(["build", "--release", "--package", "sinew-proxy", "--example", "proxy"]);
    process::run(build.current_dir(workspace::root()))
}

fn report(samples: &Samples, rounds: usize) -> Report {
    let mut report = Report::new("proxy", command(), rounds);
    let of = |slices: &[Slice], figure: fn(&Slice) -> f64| -> Vec<f64> {
        slices.iter().map(figure).collect()
    };
    for ((name, case), slices) in samples {
        let key = |figure: &str| format!("{case}_{name}_{figure}");
        report.median(&key("rps"), &of(slices, |slice| slice.rps));
        report.median(&key("rps_per_cpu"), &of(slices, |slice| slice.rps_per_cpu));
        report.median(&key("p50_us"), &of(slices, |slice| slice.p50_us));
        report.median(&key("p99_us"), &of(slices, |slice| slice.p99_us));
    }
    for ((name, case), peers) in samples.iter().filter(|((name, _), _)| *name != "sinew") {
        let Some(ours) = samples.get(&("sinew", *case)) else { continue };
        // Of one round: what the machine does changes from one to the next.
        let ratios = |figure: fn(&Slice) -> f64| -> Vec<f64> {
            ours.iter().zip(peers).map(|(ours, peer)| figure(ours) / figure(peer)).collect()
        };
        let mut put = |figure: &str, ratios: &[f64]| {
            report.median(&format!("{case}_{name}_{figure}_ratio"), ratios);
        };
        put("rps", &ratios(|slice| slice.rps));
        put("rps_per_cpu", &ratios(|slice| slice.rps_per_cpu));
        put("closed_p99", &ratios(|slice| slice.p99_us));
    }
    report
}
