//! A stopped process listens on, and its kernel accepts for it: is it still chosen?

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::{Signal, kill_process};

use super::replica;
use crate::bench::contender::sinew::Host;
use crate::bench::load::{self, open};
use crate::bench::report::Report;

/// Connections begun a second, whatever becomes of them.
const RATE: u32 = 8000;
const BEFORE: Duration = Duration::from_millis(400);
const STOPPED: Duration = Duration::from_millis(1000);
const AFTER: Duration = Duration::from_millis(300);
/// The kernel has so long to notice.
const GRACE: Duration = Duration::from_millis(200);
/// A connection without a response for so long went to the stopped process.
const PATIENCE: Duration = Duration::from_millis(200);

pub(super) fn run(host: &Host, target: &str, stops: usize, report: &mut Report) -> Result<()> {
    let (mut early, mut late) = (Vec::new(), Vec::new());
    let mut failed = 0;
    for number in 0..stops {
        let (found, stopped_ns) = one(host, target, number)?;
        let span = |from: Duration, to: Duration| share(&found, stopped_ns, from, to);
        early.push(span(Duration::ZERO, GRACE)?);
        late.push(span(GRACE, STOPPED - PATIENCE)?);
        failed += found.failed.iter().sum::<u32>();
        println!(
            "stop {} of {stops}: share {:.4} at first, {:.4} after {GRACE:?}",
            number + 1,
            early[number],
            late[number]
        );
    }
    report.single("stops", stops as f64);
    report.single("stop_rate_per_s", f64::from(RATE));
    report.single("stop_failed", f64::from(failed));
    report.median("stopped_share_first_200ms", &early);
    report.median("stopped_share_after_200ms", &late);
    Ok(())
}

fn one(host: &Host, target: &str, number: usize) -> Result<(open::Found, u64)> {
    let victim = replica(host, number)?;
    let length = BEFORE + STOPPED + AFTER;
    let mut client = host.client()?;
    client.args(["internal", "load", "open", target, "--rate", &RATE.to_string()]);
    client.args(["--milliseconds", &length.as_millis().to_string()]);
    client.args(["--patience-ms", &PATIENCE.as_millis().to_string()]);
    let child = client.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    std::thread::sleep(BEFORE);
    kill_process(victim, Signal::STOP)?;
    let stopped_ns = load::now_ns();
    std::thread::sleep(STOPPED);
    kill_process(victim, Signal::CONT)?;
    Ok((load::finish(child, &client)?, stopped_ns))
}

/// The share of connections begun in a span after the stop that stayed without a response.
fn share(found: &open::Found, stopped_ns: u64, from: Duration, to: Duration) -> Result<f64> {
    let Some(stop) = stopped_ns.checked_sub(found.start_ns) else {
        bail!("the client began after the stop: the machine is too busy for this bench");
    };
    let slice = |offset: Duration| {
        let at = u128::from(stop) + offset.as_nanos();
        (at.div_ceil(open::SLICE.as_nanos()) as usize).min(found.begun.len())
    };
    let span = slice(from)..slice(to);
    let begun: u32 = found.begun[span.clone()].iter().sum();
    let unanswered: u32 = found.unanswered[span].iter().sum();
    if begun == 0 {
        bail!("no connection was begun while a replica was stopped");
    }
    Ok(f64::from(unanswered) / f64::from(begun))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_span_counts() {
        let found = open::Found {
            start_ns: 1_000_000_000,
            begun: vec![10; 6],
            unanswered: vec![0, 9, 5, 0, 0, 9],
            failed: vec![0; 6],
        };
        let stop = found.start_ns + 20_000_000;
        let ms = Duration::from_millis;
        assert_eq!(share(&found, stop, ms(0), ms(20)).unwrap(), 0.25);
        assert_eq!(share(&found, stop, ms(10), ms(30)).unwrap(), 0.0);
        assert!(share(&found, 0, ms(0), ms(10)).is_err());
    }
}
