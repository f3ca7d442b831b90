//! Which replica is tried, and when: in an order of chance and after pauses of chance, so that a
//! thousand hosts that lost the same replica do not meet at the next one.

use std::time::{Duration, Instant};

/// Bounds of the pauses between attempts: full jitter, from nothing up to `base`, doubled with each
/// failure in a row and at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOff {
    /// After the first failure at most this.
    pub base: Duration,
    /// After any number of them at most this.
    pub max: Duration,
}

impl BackOff {
    /// The longest pause after so many failures.
    pub(crate) fn bound(self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }
}

pub(super) struct Route {
    addresses: Vec<String>,
    /// The next one to try.
    at: usize,
    back_off: BackOff,
    failures: u32,
    random: Box<dyn FnMut() -> f64 + Send>,
}

impl Route {
    pub(super) fn new(
        addresses: Vec<String>,
        back_off: BackOff,
        random: Box<dyn FnMut() -> f64 + Send>,
    ) -> Self {
        let mut route = Self { addresses, at: 0, back_off, failures: 0, random };
        route.shuffle();
        route
    }

    /// Goes to these from now on.
    pub(super) fn set(&mut self, addresses: Vec<String>) {
        (self.addresses, self.at, self.failures) = (addresses, 0, 0);
        self.shuffle();
    }

    /// The next address; each is tried once before one is tried again.
    pub(super) fn next(&mut self) -> Option<String> {
        if self.at == self.addresses.len() {
            self.at = 0;
            self.shuffle();
        }
        let address = self.addresses.get(self.at)?.clone();
        self.at += 1;
        Some(address)
    }

    /// The address that was given last.
    pub(super) fn current(&self) -> &str {
        let last = self.at.checked_sub(1).and_then(|at| self.addresses.get(at));
        last.map_or("", String::as_str)
    }

    /// When to try the next one, after a session that lasted so long. A short one is a failure too:
    /// who takes hosts in and drops them again must not be called in a circle.
    pub(super) fn failed(&mut self, now: Instant, lasted: Duration) -> Instant {
        if lasted >= self.back_off.max {
            self.failures = 0;
        }
        let bound = self.back_off.bound(self.failures);
        self.failures = self.failures.saturating_add(1);
        now + bound.mul_f64(self.chance())
    }

    /// Some time after `after`: who told it told others the same.
    pub(super) fn spread(&mut self, now: Instant, after: Duration) -> Instant {
        now + after + self.back_off.base.mul_f64(self.chance())
    }

    fn chance(&mut self) -> f64 {
        (self.random)().clamp(0.0, 1.0)
    }

    fn shuffle(&mut self) {
        for last in (1..self.addresses.len()).rev() {
            let other = (self.chance() * (last + 1) as f64) as usize;
            self.addresses.swap(last, other.min(last));
        }
    }
}
