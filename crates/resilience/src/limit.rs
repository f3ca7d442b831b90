//! How many calls may be under way at a time.
//!
//! A service answers soonest when it works on as many calls as it has room for; what is above
//! waits in it and makes all others wait. [`Bulkhead`] is a fixed limit. [`Adaptive`] finds the
//! limit by the latencies it sees ([`Vegas`], [`Gradient`]) or by calls that were dropped
//! ([`Aimd`]). [`Partitions`] divides a limit between callers, and [`Queue`] holds for a moment
//! what is above it.

mod adaptive;
mod bulkhead;
mod partition;
mod queue;

use std::fmt;

use crate::sync::{AtomicU32, Ordering};

pub use adaptive::{
    Adaptive, Aimd, Algorithm, Bounds, Ended, Gradient, Permit as AdaptivePermit, Sample, Vegas,
};
pub use bulkhead::{Bulkhead, Permit};
pub use partition::{Partitions, Permit as PartitionPermit};
pub use queue::{Queue, QueueSettings};

/// As many calls are under way as may be. Nothing was sent: another backend may be tried at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// How many may be.
    pub limit: u32,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} calls are under way, as many as may be", self.limit)
    }
}

impl std::error::Error for Full {}

/// Adds one unless that would be more than the limit; answers how many there are then.
#[inline]
fn enter(in_flight: &AtomicU32, limit: u32) -> Result<u32, Full> {
    // An addition that is taken back would refuse others meanwhile.
    let mut seen = in_flight.load(Ordering::Relaxed);
    while seen < limit {
        match in_flight.compare_exchange_weak(seen, seen + 1, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Ok(seen + 1),
            Err(now) => seen = now,
        }
    }
    Err(Full { limit })
}

#[inline]
fn leave(in_flight: &AtomicU32) {
    in_flight.fetch_sub(1, Ordering::AcqRel);
}
