//! What a client counted.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Quantiles of a set of durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub(crate) p50_ns: f64,
    pub(crate) p99_ns: f64,
    pub(crate) max_ns: f64,
}

impl Quantiles {
    /// Sorts the samples and reads the quantiles off; none give zeros.
    pub(crate) fn of(samples: &mut [u32]) -> Self {
        samples.sort_unstable();
        let at = |share: f64| {
            let index = (samples.len() as f64 * share).ceil() as usize;
            samples.get(index.saturating_sub(1)).copied().map_or(0.0, f64::from)
        };
        Self { p50_ns: at(0.5), p99_ns: at(0.99), max_ns: at(1.0) }
    }
}

/// Successes and failures of short connections.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) connect_ns: Vec<u32>,
    pub(crate) total_ns: Vec<u32>,
    /// Failures before the first byte of the request was sent, by kind.
    pub(crate) before_request: BTreeMap<String, u64>,
    /// Failures after that, by kind.
    pub(crate) after_request: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn succeeded(&mut self, connect: Duration, total: Duration) {
        self.connect_ns.push(nanoseconds(connect));
        self.total_ns.push(nanoseconds(total));
    }

    /// What succeeded so far does not count; what failed does.
    pub(crate) fn forget_successes(&mut self) {
        self.connect_ns.clear();
        self.total_ns.clear();
    }

    pub(crate) fn failed_before(&mut self, stage: &str, error: &io::Error) {
        *self.before_request.entry(kind(stage, error)).or_default() += 1;
    }

    pub(crate) fn failed_after(&mut self, stage: &str, error: &io::Error) {
        *self.after_request.entry(kind(stage, error)).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.connect_ns.extend(other.connect_ns);
        self.total_ns.extend(other.total_ns);
        for (kind, count) in other.before_request {
            *self.before_request.entry(kind).or_default() += count;
        }
        for (kind, count) in other.after_request {
            *self.after_request.entry(kind).or_default() += count;
        }
    }
}

fn kind(stage: &str, error: &io::Error) -> String {
    format!("{stage}: {}", error.kind())
}

fn nanoseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_that_were_seen() {
        let mut samples: Vec<u32> = (1..=100).rev().collect();
        let found = Quantiles::of(&mut samples);
        assert_eq!(found, Quantiles { p50_ns: 50.0, p99_ns: 99.0, max_ns: 100.0 });
        assert_eq!(Quantiles::of(&mut []), Quantiles::default());
        assert_eq!(Quantiles::of(&mut [7]).p99_ns, 7.0);
    }

    #[test]
    fn failures_are_kept_apart_by_kind_and_stage() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let mut tally = Tally::default();
        tally.failed_before("connect", &refused);
        let mut other = Tally::default();
        other.failed_before("connect", &refused);
        other.failed_after("read", &refused);
        tally.add(other);
        assert_eq!(tally.before_request["connect: connection refused"], 2);
        assert_eq!(tally.after_request["read: connection refused"], 1);
    }
}
