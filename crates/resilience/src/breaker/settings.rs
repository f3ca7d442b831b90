//! When a circuit opens, and how it closes again.

use std::time::Duration;

use crate::invalid::{Invalid, check};
use crate::window::{Counts, Span};

/// Settings of a [`Breaker`](super::Breaker).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which calls are looked at.
    pub window: Span,
    /// How often they are looked at.
    pub evaluate: Evaluate,
    /// Fewer calls than these in the window never open it; at least 1.
    pub minimum_calls: u32,
    /// It opens when at least so many of a hundred calls failed; 0 to 100.
    pub failure_percent: u8,
    /// It also opens when calls are slow.
    pub slow: Option<Slow>,
    /// How long it stays open the first time.
    pub sleep: Duration,
    /// The sleep doubles with each failed attempt to close it, and after each close that did not
    /// last as long as the sleep before it, up to this.
    pub max_sleep: Duration,
    /// How many calls probe it when it is half open; all have to succeed. 1 to 1000.
    pub probes: u32,
    /// A probe that has not reported for so long has failed: the call's time-out and some more.
    pub lease: Duration,
    /// A probe whose outcome says nothing ([`Outcome::Ignored`](super::Outcome::Ignored)) fails;
    /// else another call probes in its place.
    pub ignored_probe_fails: bool,
    /// Calls count that were admitted before the last change of state: what hung before the
    /// circuit opened then counts against it after it has closed.
    pub late_calls_count: bool,
}

/// When calls are too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// A call that took longer is slow.
    pub after: Duration,
    /// The circuit opens when at least so many of a hundred calls were slow; 1 to 100.
    pub percent: u8,
}

/// When the counts are held against the thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evaluate {
    /// After each call.
    EveryCall,
    /// At the end of each bucket, over the full buckets alone.
    BucketEnd,
}

/// Half of at least 20 calls of the last 10 s; then 5 s, doubling up to a minute.
impl Default for Settings {
    fn default() -> Self {
        Self {
            window: Span::Time { bucket: Duration::from_millis(500), buckets: 20 },
            evaluate: Evaluate::EveryCall,
            minimum_calls: 20,
            failure_percent: 50,
            slow: None,
            sleep: Duration::from_secs(5),
            max_sleep: Duration::from_secs(60),
            probes: 1,
            lease: Duration::from_secs(10),
            ignored_probe_fails: false,
            late_calls_count: false,
        }
    }
}

impl Settings {
    /// Hystrix 1.5 with its default properties, given the command's time-out.
    ///
    /// Exactly its algorithm, but for a known defect: a probe that never reports leaves Hystrix's
    /// circuit half open for ever (its issues 1723, 1806 and 1861). Here it has a lease.
    #[must_use]
    pub fn hystrix(timeout: Duration) -> Self {
        let sleep = Duration::from_secs(5);
        Self {
            evaluate: Evaluate::BucketEnd,
            sleep,
            max_sleep: sleep,
            lease: timeout + sleep,
            ignored_probe_fails: true,
            late_calls_count: true,
            ..Self::default()
        }
    }

    pub(super) fn exceeded(&self, counts: Counts) -> bool {
        let reaches = |part: u32, percent: u8| {
            u64::from(part) * 100 >= u64::from(counts.calls) * u64::from(percent)
        };
        counts.calls >= self.minimum_calls
            && (reaches(counts.failures, self.failure_percent)
                || self.slow.is_some_and(|slow| reaches(counts.slow, slow.percent)))
    }

    pub(super) fn check(&self) -> Result<(), Invalid> {
        let Self { minimum_calls, failure_percent, sleep, max_sleep, probes, lease, .. } = self;
        check(*minimum_calls > 0, "minimum_calls", minimum_calls, "at least 1")?;
        check(*failure_percent <= 100, "failure_percent", failure_percent, "0 to 100")?;
        if let Some(Slow { percent, .. }) = &self.slow {
            check((1..=100).contains(percent), "slow.percent", percent, "1 to 100")?;
        }
        check(!sleep.is_zero(), "sleep", sleep, "a time above 0")?;
        check(max_sleep >= sleep, "max_sleep", max_sleep, "at least `sleep`")?;
        check((1..=1000).contains(probes), "probes", probes, "1 to 1000")?;
        check(!lease.is_zero(), "lease", lease, "a time above 0")?;
        let bucket_end = self.evaluate == Evaluate::BucketEnd;
        let timed = matches!(self.window, Span::Time { .. });
        check(timed || !bucket_end, "window", &self.window, "time, to be evaluated at bucket ends")
    }
}
