//! What a bench found: figures with their spread, as a file for machines and a table for people.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

/// The file `target/bench/<bench>.json`.
#[derive(Serialize)]
pub(crate) struct Report {
    bench: &'static str,
    command: String,
    runs: usize,
    figures: BTreeMap<String, f64>,
    spread: BTreeMap<String, [f64; 2]>,
    /// Of medians: where the median of endless rounds lies, with 95 % confidence.
    confidence: BTreeMap<String, [f64; 2]>,
}

impl Report {
    pub(crate) fn new(bench: &'static str, command: String, runs: usize) -> Self {
        Self {
            bench,
            command,
            runs,
            figures: BTreeMap::new(),
            spread: BTreeMap::new(),
            confidence: BTreeMap::new(),
        }
    }

    /// Adds a figure measured once a round: its median, and the least and the greatest value.
    /// Without a sample there is no figure.
    pub(crate) fn median(&mut self, key: &str, samples: &[f64]) {
        let sorted = sorted(samples);
        let (Some(&least), Some(&greatest)) = (sorted.first(), sorted.last()) else { return };
        self.put(key, middle(&sorted), [least, greatest]);
        if let Some(outside) = outside(sorted.len()) {
            let interval = [sorted[outside], sorted[sorted.len() - 1 - outside]];
            self.confidence.insert(key.to_owned(), interval.map(rounded));
        }
    }

    /// Adds a figure that is a count, or a quantile over the whole bench.
    pub(crate) fn single(&mut self, key: &str, value: f64) {
        self.put(key, value, [value, value]);
    }

    fn put(&mut self, key: &str, value: f64, spread: [f64; 2]) {
        self.figures.insert(key.to_owned(), rounded(value));
        self.spread.insert(key.to_owned(), spread.map(rounded));
    }

    /// What is measured in part, or only tried, must not replace the whole.
    fn name(&self) -> String {
        let part = ["--only", "--quick"].iter().any(|option| self.command.contains(option));
        if part { format!("{}.part", self.bench) } else { self.bench.to_owned() }
    }

    /// Writes the file below `target/bench` and prints the table.
    pub(crate) fn publish(&self, root: &Path) -> Result<()> {
        let directory = root.join("target/bench");
        fs::create_dir_all(&directory)?;
        let file = directory.join(format!("{}.json", self.name()));
        fs::write(&file, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("{} cannot be written", file.display()))?;
        println!("\n{}, {} runs: median (least .. greatest)", self.command, self.runs);
        for (key, figure) in &self.figures {
            let [least, greatest] = self.spread[key];
            print!("  {key:<32} {figure:>12}   ({least} .. {greatest})");
            match self.confidence.get(key) {
                Some([from, to]) => println!("   95 %: {from} .. {to}"),
                None => println!(),
            }
        }
        println!("written to {}", file.display());
        Ok(())
    }
}

/// The value in the middle.
pub(crate) fn median(samples: &[f64]) -> Option<f64> {
    (!samples.is_empty()).then(|| middle(&sorted(samples)))
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Of at least one.
fn middle(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// How many samples at either end lie outside the interval of confidence. A sample is above the
/// true median as a coin falls, however samples are distributed. Few samples have no interval.
fn outside(samples: usize) -> Option<usize> {
    let mut ln_chance = samples as f64 * 0.5_f64.ln();
    let mut sum = ln_chance.exp();
    let mut heads = 0;
    while sum <= 0.025 {
        heads += 1;
        ln_chance += ((samples - heads + 1) as f64 / heads as f64).ln();
        sum += ln_chance.exp();
    }
    heads.checked_sub(1)
}

/// Four significant digits say all that such a measurement knows.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    if digits <= 0 {
        return value.round();
    }
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[7.0]), Some(7.0));
    }

    #[test]
    fn the_interval_of_confidence_is_that_of_the_sign_test() {
        // From tables of the sign test, 5 % two-sided.
        for (samples, expected) in [(6, 0), (8, 0), (9, 1), (12, 2), (15, 3), (25, 7), (100, 39)] {
            assert_eq!(outside(samples), Some(expected), "{samples}");
        }
        assert_eq!(outside(5), None);
        let share = outside(10_000).unwrap() as f64 / 10_000.0;
        assert!((0.49..0.491).contains(&share), "{share}");
    }

    #[test]
    fn the_ends_of_an_interval_of_confidence_are_samples() {
        let mut report = Report::new("x", String::new(), 9);
        report.median("k", &[9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 4.0, 5.0]);
        assert_eq!(report.confidence["k"], [2.0, 8.0]);
    }

    #[test]
    fn no_sample_gives_no_figure() {
        let mut report = Report::new("x", String::new(), 0);
        report.median("k", &[]);
        assert!(report.figures.is_empty());
    }

    #[test]
    fn the_file_has_the_agreed_shape() {
        let mut report = Report::new("connect", "cargo xtask bench connect".to_owned(), 6);
        report.median("ratio", &[0.98, 0.97, 0.96, 0.97, 0.97, 0.97]);
        assert_eq!(
            serde_json::to_value(&report).unwrap(),
            serde_json::json!({
                "bench": "connect",
                "command": "cargo xtask bench connect",
                "runs": 6,
                "figures": {"ratio": 0.97},
                "spread": {"ratio": [0.96, 0.98]},
                "confidence": {"ratio": [0.96, 0.98]},
            })
        );
    }

    #[test]
    fn digits_that_mean_nothing_are_dropped() {
        assert_eq!(rounded(0.987_654), 0.9877);
        assert_eq!(rounded(23_456.7), 23_457.0);
        assert_eq!(rounded(0.0), 0.0);
        assert_eq!(rounded(-1.234_56), -1.235);
    }
}
