//! Percentiles of latencies, in fixed memory, that can be merged across threads, hosts and time.
//!
//! Log-linear, as Tene's HdrHistogram is: an octave has 32 buckets of the same width, so a value is
//! known to 1/32 of itself, and the middle of its bucket is off by 1/64 (1.6 %) at most; values
//! below 64 are exact. 1216 buckets reach to 2^42 - 1, 73 minutes of nanoseconds; what is greater
//! counts as that. Merging adds buckets, so percentiles of a merged histogram are as good as those
//! of one that saw all values; averages of percentiles mean nothing.
//!
//! The kernel's histograms (`sinew_abi::histogram`) have four buckets an octave, since they live in
//! its maps; they tell tens of percent apart, these tell a p99 from another.

mod rolling;
#[cfg(all(test, not(loom)))]
mod tests;

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};
use crate::time::ns;
pub use rolling::Rolling;

/// Buckets of a histogram.
pub const BUCKETS: usize = 1216;

/// The greatest value that is told from greater ones.
pub const GREATEST: u64 = (1 << 42) - 1;

/// Buckets of an octave, and the first value whose octave is not wider than they are.
const STEPS: u64 = 32;
const STEPS_LOG: u32 = 5;

/// The bucket that counts a value.
#[must_use]
pub const fn bucket(value: u64) -> usize {
    let value = if value > GREATEST { GREATEST } else { value };
    if value < STEPS {
        return value as usize;
    }
    let shift = value.ilog2() - STEPS_LOG;
    (shift as u64 * STEPS + (value >> shift)) as usize
}

/// The least value that a bucket counts. The next bucket's is the first that it does not.
#[must_use]
pub const fn lower_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    (bucket % STEPS + STEPS) << shift
}

const fn middle(bucket: usize) -> u64 {
    let (low, end) = (lower_bound(bucket), lower_bound(bucket + 1));
    low + (end - 1 - low) / 2
}

/// Counts of values, for one owner: what a [`Recorder`] was read as, or several of them merged.
/// Takes 10 KB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: Box<[u64]>,
    sum: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into(), sum: 0 }
    }
}

impl Histogram {
    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.counts[bucket(value)] += 1;
        self.sum = self.sum.wrapping_add(value);
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        for (count, others) in self.counts.iter_mut().zip(&other.counts) {
            *count += others;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// Adds counts of one bucket and the sum of their values, as they came from elsewhere. A bucket
    /// that there is not counts as the last.
    pub fn add(&mut self, bucket: usize, count: u64, sum: u64) {
        self.counts[bucket.min(BUCKETS - 1)] += count;
        self.sum = self.sum.wrapping_add(sum);
    }

    /// How many values were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of the values themselves, modulo 2^64.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The mean of the values themselves; none without a value.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum as f64 / count as f64)
    }

    /// The buckets that counted something: number and count.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0)
    }

    /// The least value that at least a share `q` (0 to 1) of all values does not exceed, off by
    /// 1.6 % at most; none without a value.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<u64> {
        quantile(self.counts.iter().copied(), self.count(), q)
    }

    /// [`Histogram::quantile`] of latencies.
    #[must_use]
    pub fn latency(&self, q: f64) -> Option<Duration> {
        self.quantile(q).map(Duration::from_nanos)
    }
}

fn quantile(counts: impl Iterator<Item = u64>, total: u64, q: f64) -> Option<u64> {
    if total == 0 {
        return None;
    }
    let rank = ((q * total as f64).ceil() as u64).clamp(1, total);
    let mut seen = 0;
    for (bucket, count) in counts.enumerate() {
        seen += count;
        if seen >= rank {
            return Some(middle(bucket));
        }
    }
    // Counted while it was read: the rank lies in what was added since.
    Some(GREATEST)
}

/// A histogram that all threads record into: two atomic additions a value. Takes 10 KB.
#[derive(Debug)]
pub struct Recorder {
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Default for Recorder {
    fn default() -> Self {
        let counts = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self { counts, sum: AtomicU64::new(0) }
    }
}

impl Recorder {
    /// Counts a value.
    #[inline]
    pub fn record(&self, value: u64) {
        self.counts[bucket(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a latency, in nanoseconds.
    #[inline]
    pub fn record_latency(&self, latency: Duration) {
        self.record(ns(latency));
    }

    /// Adds what was counted so far. Values recorded meanwhile may be in it or not.
    pub fn read_into(&self, histogram: &mut Histogram) {
        for (sum, count) in histogram.counts.iter_mut().zip(&self.counts) {
            *sum += count.load(Ordering::Relaxed);
        }
        histogram.sum = histogram.sum.wrapping_add(self.sum.load(Ordering::Relaxed));
    }

    /// What was counted so far.
    #[must_use]
    pub fn read(&self) -> Histogram {
        let mut histogram = Histogram::default();
        self.read_into(&mut histogram);
        histogram
    }

    fn clear(&self) {
        for count in &self.counts {
            count.store(0, Ordering::Relaxed);
        }
        self.sum.store(0, Ordering::Relaxed);
    }
}
