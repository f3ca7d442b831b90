//! Percentiles of the last while.

use std::time::Duration;

use super::{Histogram, Recorder, quantile};
use crate::invalid::{Invalid, check};
use crate::sync::{AtomicU64, Mutex, Ordering};
use crate::time::{Time, ns};

/// A [`Recorder`] of the last `buckets` buckets of time, the current one among them. Takes 10 KB a
/// bucket.
#[derive(Debug)]
pub struct Rolling {
    bucket_ns: u64,
    recorders: Box<[Recorder]>,
    /// The number of the current bucket.
    epoch: AtomicU64,
    /// Held by who begins a bucket.
    beginning: Mutex<()>,
}

impl Rolling {
    /// An empty one.
    ///
    /// # Errors
    /// A bucket of no time, or not 1 to 60 of them.
    pub fn new(bucket: Duration, buckets: u32) -> Result<Self, Invalid> {
        check(!bucket.is_zero(), "bucket", &bucket, "a time above 0")?;
        check((1..=60).contains(&buckets), "buckets", &buckets, "1 to 60")?;
        Ok(Self {
            bucket_ns: ns(bucket),
            recorders: (0..buckets).map(|_| Recorder::default()).collect(),
            epoch: AtomicU64::new(0),
            beginning: Mutex::new(()),
        })
    }

    /// Counts a latency.
    pub fn record(&self, now: Time, latency: Duration) {
        let epoch = self.advance(now);
        self.recorder(epoch).record_latency(latency);
    }

    /// What the last buckets counted, merged.
    #[must_use]
    pub fn read(&self, now: Time) -> Histogram {
        self.advance(now);
        let mut all = Histogram::default();
        self.recorders.iter().for_each(|recorder| recorder.read_into(&mut all));
        all
    }

    /// [`Histogram::latency`] of the last buckets, and of how many values it is. Allocates nothing.
    #[must_use]
    pub fn latency(&self, now: Time, q: f64) -> Option<(Duration, u64)> {
        self.advance(now);
        let count_of = |bucket: usize| -> u64 {
            let counts = self.recorders.iter().map(|recorder| &recorder.counts[bucket]);
            counts.map(|count| count.load(Ordering::Relaxed)).sum()
        };
        let total = (0..super::BUCKETS).map(count_of).sum();
        let value = quantile((0..super::BUCKETS).map(count_of), total, q)?;
        Some((Duration::from_nanos(value), total))
    }

    fn recorder(&self, epoch: u64) -> &Recorder {
        &self.recorders[(epoch % self.recorders.len() as u64) as usize]
    }

    /// Empties the buckets that begin. One thread does it; others still count into the last one.
    fn advance(&self, now: Time) -> u64 {
        let next = now.as_ns() / self.bucket_ns;
        let epoch = self.epoch.load(Ordering::Acquire);
        if next <= epoch {
            return epoch;
        }
        let Ok(_beginning) = self.beginning.try_lock() else { return epoch };
        let epoch = self.epoch.load(Ordering::Acquire);
        for begun in (epoch + 1..=next).take(self.recorders.len()) {
            self.recorder(begun).clear();
        }
        self.epoch.store(next.max(epoch), Ordering::Release);
        next.max(epoch)
    }
}
