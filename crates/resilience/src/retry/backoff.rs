//! Pauses that grow, and that callers draw apart.

use std::time::Duration;

use crate::draw::below;
use crate::time::ns;

/// Exponential back-off with full jitter: a pause is drawn from 0 to `base` × 2^(tried - 1), or to
/// the cap (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog 2015).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The longest pause after the first try.
    pub base: Duration,
    /// The longest pause of all.
    pub cap: Duration,
}

/// 25 ms, doubling up to 1 s.
impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(25), cap: Duration::from_secs(1) }
    }
}

impl Backoff {
    /// The longest pause after try number `tried`; 1 is the first.
    #[must_use]
    pub fn longest(&self, tried: u32) -> Duration {
        let doublings = tried.saturating_sub(1);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }

    /// The pause after try number `tried`, 1 being the first, given a draw.
    #[must_use]
    pub fn pause(&self, tried: u32, draw: u64) -> Duration {
        Duration::from_nanos(below(draw, ns(self.longest(tried)).saturating_add(1)))
    }
}
