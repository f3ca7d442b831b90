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
}

impl Report {
    pub(crate) fn new(bench: &'static str, command: String, runs: usize) -> Self {
        Self { bench, command, runs, figures: BTreeMap::new(), spread: BTreeMap::new() }
    }

    /// Adds a figure measured once a round: its median, and the least and the greatest value.
    /// Without a sample there is no figure.
    pub(crate) fn median(&mut self, key: &str, samples: &[f64]) {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(&least), Some(&greatest)) = (sorted.first(), sorted.last()) else { return };
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        self.put(key, median, [least, greatest]);
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
            println!("  {key:<32} {figure:>12}   ({least} .. {greatest})");
        }
        println!("written to {}", file.display());
        Ok(())
    }
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

    fn median(samples: &[f64]) -> f64 {
        let mut report = Report::new("x", String::new(), samples.len());
        report.median("k", samples);
        report.figures["k"]
    }

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
    }

    #[test]
    fn no_sample_gives_no_figure() {
        let mut report = Report::new("x", String::new(), 0);
        report.median("k", &[]);
        assert!(report.figures.is_empty());
    }

    #[test]
    fn the_file_has_the_agreed_shape() {
        let mut report = Report::new("connect", "cargo xtask bench connect".to_owned(), 2);
        report.median("ratio", &[0.98, 0.96]);
        assert_eq!(
            serde_json::to_value(&report).unwrap(),
            serde_json::json!({
                "bench": "connect",
                "command": "cargo xtask bench connect",
                "runs": 2,
                "figures": {"ratio": 0.97},
                "spread": {"ratio": [0.96, 0.98]},
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
