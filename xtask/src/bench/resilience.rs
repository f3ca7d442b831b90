//! What one call of each rule of `crates/resilience` costs, beside crates that do the same.
//!
//! No root, no other crate of Sinew: an example of that crate measures (`examples/calls`).

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context, Result};

use super::report::Report;
use super::{Args, command};
use crate::{process, workspace};

/// By case and threads: nanoseconds and allocations a call, one a round.
type Samples = BTreeMap<(String, u32), (Vec<f64>, Vec<f64>)>;

/// What does the same: ours, and the other. Ours reads the clock where the other does.
const PEERS: [(&str, &str); 8] = [
    ("breaker_closed", "recloser_closed"),
    ("breaker_closed_clock", "failsafe_closed"),
    ("breaker_open_clock", "recloser_open"),
    ("breaker_open_clock", "failsafe_open"),
    ("bulkhead_tower", "tower_concurrency_limit"),
    ("bulkhead_full_tower", "tower_load_shed"),
    ("gcra_clock", "tower_rate_limit"),
    ("retry_budget_clock", "tower_budget"),
];

pub(super) fn run(args: &Args) -> Result<()> {
    let (rounds, slice_ms) = (args.rounds(25, 3), if args.quick { 2 } else { 20 });
    let samples = samples(&measured(rounds, slice_ms)?)?;
    let mut report = Report::new("resilience", command(), rounds);
    for ((case, threads), (ns, allocations)) in &samples {
        let suffix = suffix(*threads);
        report.median(&format!("{case}{suffix}_ns"), ns);
        report.median(&format!("{case}{suffix}_allocations"), allocations);
    }
    for ((ours, peer), threads) in PEERS.iter().flat_map(|pair| [(pair, 1), (pair, 2)]) {
        let of = |case: &str| samples.get(&(case.to_owned(), threads)).map(|(ns, _)| ns);
        let Some((mine, others)) = of(ours).zip(of(peer)) else { continue };
        let ratios: Vec<f64> = mine.iter().zip(others).map(|(mine, other)| mine / other).collect();
        report.median(&format!("{ours}_{peer}{}_ratio", suffix(threads)), &ratios);
    }
    report.publish(&workspace::root())
}

fn suffix(threads: u32) -> &'static str {
    if threads == 1 { "" } else { "_2threads" }
}

fn measured(rounds: usize, slice_ms: u32) -> Result<String> {
    let mut calls = process::cargo();
    calls.args(["run", "--release", "--quiet", "--package", "sinew-resilience"]);
    calls.args(["--example", "calls", "--", &rounds.to_string(), &slice_ms.to_string()]);
    let output = calls.current_dir(workspace::root()).stderr(Stdio::inherit()).output()?;
    anyhow::ensure!(output.status.success(), "the example `calls` failed: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn samples(lines: &str) -> Result<Samples> {
    let mut samples = Samples::new();
    for line in lines.lines() {
        let mut words = line.split(' ');
        let mut word = || words.next().with_context(|| format!("{line:?} is no sample"));
        let key = (word()?.to_owned(), word()?.parse()?);
        let (ns, allocations) = samples.entry(key).or_default();
        ns.push(word()?.parse()?);
        allocations.push(word()?.parse()?);
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_sample() {
        let found = samples("gcra 1 5.5 0\ngcra 2 30 0.25\ngcra 1 6 0\n").unwrap();
        assert_eq!(found[&("gcra".to_owned(), 1)], (vec![5.5, 6.0], vec![0.0, 0.0]));
        assert_eq!(found[&("gcra".to_owned(), 2)], (vec![30.0], vec![0.25]));
        assert!(samples("gcra 1 5.5").is_err());
    }
}
