//! AIMD: up by one, down by a share.

use std::time::Duration;

use super::{Algorithm, Sample};

/// Additive increase, multiplicative decrease (Chiu and Jain, 1989): one more each window that uses
/// the limit, and a share less in each in which calls were dropped, or took too long on average.
#[derive(Clone, Copy, Debug)]
pub struct Aimd {
    /// Windows whose mean latency is longer are like those with a dropped call.
    pub too_long: Duration,
    /// What is left of the limit then: above 0, below 1.
    pub after_drop: f64,
}

/// 0.9 of the limit is left after a drop; a mean of 5 s is too long.
impl Default for Aimd {
    fn default() -> Self {
        Self { too_long: Duration::from_secs(5), after_drop: 0.9 }
    }
}

impl Algorithm for Aimd {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        if sample.dropped > 0 || sample.mean > self.too_long {
            limit * self.after_drop.clamp(0.0, 1.0)
        } else if sample.uses(limit) {
            limit + 1.0
        } else {
            limit
        }
    }
}
