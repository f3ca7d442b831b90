//! Retries as a share of traffic.

use std::time::Duration;

use crate::invalid::{Invalid, check};
use crate::time::Time;
use crate::window::{Counts, Span, Window};

/// Settings of a [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetSettings {
    /// Retries for a hundred calls, 0 to 1000.
    pub percent: u32,
    /// Retries a second that are allowed whatever the traffic is, 0 to 1000000: with little traffic
    /// a share of it is nothing.
    pub minimum_per_second: u32,
    /// How far back calls and retries are looked at: 1 s to a minute.
    pub window: Duration,
}

/// Finagle's and Linkerd's: 20 % and 10 a second, over 10 s.
impl Default for BudgetSettings {
    fn default() -> Self {
        Self { percent: 20, minimum_per_second: 10, window: Duration::from_secs(10) }
    }
}

/// How many retries callers of one service may make, as Finagle's `RetryBudget` has it. One word of
/// atomics: of several threads no two take the same retry.
#[derive(Debug)]
pub struct Budget {
    settings: BudgetSettings,
    reserve: u64,
    /// Of calls; a retry is what a window calls a failure.
    window: Window,
}

const BUCKETS: u32 = 20;

impl Budget {
    /// A budget of which nothing was taken.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn new(settings: BudgetSettings) -> Result<Self, Invalid> {
        let BudgetSettings { percent, minimum_per_second, window } = settings;
        check(percent <= 1000, "percent", &percent, "0 to 1000")?;
        let minimum = minimum_per_second <= 1_000_000;
        check(minimum, "minimum_per_second", &minimum_per_second, "0 to 1000000")?;
        let within = (1..=60).contains(&window.as_secs()) && window <= Duration::from_secs(60);
        check(within, "window", &window, "1 s to 60 s")?;
        let span = Span::Time { bucket: window / BUCKETS, buckets: BUCKETS };
        let reserve = u64::from(minimum_per_second) * window.as_millis() as u64 / 1000;
        Ok(Self { settings, reserve, window: Window::new(span)? })
    }

    /// Counts a call: its first try, not its retries.
    #[inline]
    pub fn deposit(&self, now: Time) {
        self.window.advance(now, |_| false);
        self.window.add(false, false);
    }

    /// Takes a retry; `false` when there is none.
    #[inline]
    #[must_use = "a retry that was refused may not be made"]
    pub fn take(&self, now: Time) -> bool {
        self.window.add_failure_if(now, |counts| self.allowed(counts) > u64::from(counts.failures))
    }

    /// Retries that may be made now.
    pub fn left(&self, now: Time) -> u64 {
        let counts = self.window.counts(now);
        self.allowed(counts).saturating_sub(u64::from(counts.failures))
    }

    fn allowed(&self, counts: Counts) -> u64 {
        u64::from(counts.calls) * u64::from(self.settings.percent) / 100 + self.reserve
    }
}
