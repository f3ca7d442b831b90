//! The time that every rule is told.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, Instant};

/// A moment on a monotonic clock: nanoseconds since an origin of the caller's choice.
///
/// All moments told to one rule have to be of one origin. They may go back a little, as those of
/// several threads do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The origin itself.
    pub const ORIGIN: Self = Self(0);
    /// Later than all others.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment so many nanoseconds after the origin.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_ns(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Stops at [`Time::NEVER`].
    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(ns(after)))
    }
}

impl Sub for Time {
    type Output = Duration;

    /// The time from `earlier` to this; none when `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} after the origin", Duration::from_nanos(self.0))
    }
}

/// Nanoseconds of a duration; those above 584 years are 584 years.
pub(crate) fn ns(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000_000);
    whole.saturating_add(u64::from(duration.subsec_nanos()))
}

/// The process's monotonic clock, for those who have no clock of their own. No rule reads it.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock whose origin is this moment.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Time {
        Time(ns(self.0.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_neither_wraps_nor_runs_backwards() {
        let (early, late) = (Time::from_ns(5), Time::from_ns(8));
        assert_eq!(late - early, Duration::from_nanos(3));
        assert_eq!(early - late, Duration::ZERO);
        assert_eq!(early + Duration::MAX, Time::NEVER);
        assert_eq!(early + Duration::new(18_446_744_073, 709_551_610), Time::NEVER);
        assert_eq!(early + Duration::new(18, 5), Time::from_ns(18_000_000_010));
    }
}
