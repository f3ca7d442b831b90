//! Rate limits: GCRA, for one thing or for many keys in bounded memory.
//!
//! The generic cell rate algorithm (ITU-T I.371, "virtual scheduling") is a token bucket that needs
//! one number: the theoretical arrival time, at which the bucket would be full again. A call of
//! cost `c` moves it by `c` intervals; it conforms while that is no more than a burst ahead of now.

mod keyed;
#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;
use std::time::Duration;

use crate::invalid::{Invalid, check};
use crate::sync::{AtomicU64, Ordering, Padded};
use crate::time::{Time, ns};
pub use keyed::Keyed;

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// So often, at least once.
    pub count: u32,
    /// In so long, up to a day; not more often than once a nanosecond.
    pub period: Duration,
    /// How much of it may come at once after a pause, at least 1.
    pub burst: u32,
}

impl Rate {
    /// So often a second, and as many at once.
    #[must_use]
    pub fn per_second(count: u32) -> Self {
        Self { count, period: Duration::from_secs(1), burst: count }
    }

    fn gauge(self) -> Result<Gauge, Invalid> {
        let Self { count, period, burst } = self;
        check(count >= 1, "count", &count, "at least 1")?;
        check(burst >= 1, "burst", &burst, "at least 1")?;
        let interval_ns = ns(period) / u64::from(count);
        let within = interval_ns >= 1 && period <= Duration::from_secs(86_400);
        check(within, "period", &period, "a time up to a day, and 1 ns for each of `count`")?;
        Ok(Gauge { interval_ns, burst_ns: interval_ns.saturating_mul(u64::from(burst)), burst })
    }
}

/// The rate does not allow it. Nothing was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// It does after so long, if nothing comes before: what `Retry-After` is to say.
    For(Duration),
    /// It never does: the cost is above the burst.
    Always {
        /// The most that may come at once.
        burst: u32,
    },
}

impl fmt::Display for Limited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::For(wait) => write!(f, "the rate limit is reached: try again in {wait:?}"),
            Self::Always { burst } => {
                write!(f, "it costs more than the {burst} that may come at once")
            }
        }
    }
}

impl std::error::Error for Limited {}

#[derive(Clone, Copy, Debug)]
struct Gauge {
    interval_ns: u64,
    burst_ns: u64,
    burst: u32,
}

impl Gauge {
    /// The next theoretical arrival time, given this one.
    #[inline]
    fn next(self, arrival_ns: u64, now: Time, cost: u32) -> Result<u64, Limited> {
        let now = now.as_ns();
        let cost_ns = self.interval_ns.saturating_mul(u64::from(cost));
        let next = arrival_ns.max(now).saturating_add(cost_ns);
        let ahead = next - now;
        if ahead <= self.burst_ns {
            Ok(next)
        } else if cost > self.burst {
            Err(Limited::Always { burst: self.burst })
        } else {
            Err(Limited::For(Duration::from_nanos(ahead - self.burst_ns)))
        }
    }
}

/// A rate limit of one thing, shared by all threads: one word, without a lock.
#[derive(Debug)]
pub struct Gcra {
    gauge: Gauge,
    arrival_ns: Padded<AtomicU64>,
}

impl Gcra {
    /// A limit of which nothing was used.
    ///
    /// # Errors
    /// A rate that cannot be.
    pub fn new(rate: Rate) -> Result<Self, Invalid> {
        Ok(Self { gauge: rate.gauge()?, arrival_ns: Padded(AtomicU64::new(0)) })
    }

    /// Counts something that costs so much; 1 is usual.
    ///
    /// # Errors
    /// The rate does not allow it.
    #[inline]
    pub fn take(&self, now: Time, cost: u32) -> Result<(), Limited> {
        let mut arrival = self.arrival_ns.load(Ordering::Relaxed);
        loop {
            let next = self.gauge.next(arrival, now, cost)?;
            let word = &self.arrival_ns;
            match word.compare_exchange_weak(arrival, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(seen) => arrival = seen,
            }
        }
    }
}
