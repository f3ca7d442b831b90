//! What reading a head costs, beside `httparse`: an example of `crates/http` measures (`heads`).
//!
//! `_head` does what `httparse` does and some more: it holds fields to limits, and knows those that
//! decide how a message is read. `_message` also tells where the message ends and whether its
//! connection goes on.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context, Result};

use super::report::Report;
use super::{Args, command};
use crate::{process, workspace};

/// Nanoseconds by case, one a round.
type Samples = BTreeMap<String, Vec<f64>>;

pub(super) fn run(args: &Args) -> Result<()> {
    let (rounds, slice_ms) = (args.rounds(25, 3), if args.quick { 2 } else { 20 });
    let mut samples = Samples::new();
    for _ in 0..rounds {
        for (case, ns) in read(&measured(slice_ms)?)? {
            samples.entry(case).or_default().push(ns);
        }
    }
    let mut report = Report::new("http", command(), rounds);
    for (case, ns) in &samples {
        report.median(&format!("{case}_ns"), ns);
        let Some((message, what)) = case.rsplit_once('_') else { continue };
        let Some(peer) = samples.get(&format!("{message}_httparse")) else { continue };
        if ["head", "message"].contains(&what) {
            let ratios: Vec<f64> = ns.iter().zip(peer).map(|(ours, peer)| ours / peer).collect();
            report.median(&format!("{case}_httparse_ratio"), &ratios);
        }
    }
    report.publish(&workspace::root())
}

/// One slice of each case.
fn measured(slice_ms: u32) -> Result<String> {
    let mut heads = process::cargo();
    heads.args(["run", "--release", "--quiet", "--package", "sinew-http", "--example", "heads"]);
    heads.args(["--", "1", &slice_ms.to_string()]);
    let output = heads.current_dir(workspace::root()).stderr(Stdio::inherit()).output()?;
    anyhow::ensure!(output.status.success(), "the example `heads` failed: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn read(lines: &str) -> Result<Vec<(String, f64)>> {
    let line = |line: &str| {
        let mut words = line.split(' ');
        let mut word = || words.next().with_context(|| format!("{line:?} is no sample"));
        Ok((word()?.to_owned(), word()?.parse()?))
    };
    lines.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_sample() {
        let found = read("small_head 80.5 500\nsmall_httparse 90 450\n").unwrap();
        assert_eq!(found, [("small_head".to_owned(), 80.5), ("small_httparse".to_owned(), 90.0)]);
        assert!(read("small_head").is_err());
    }
}
