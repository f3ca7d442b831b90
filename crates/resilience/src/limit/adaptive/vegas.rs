//! Vegas: as many calls as wait in the called one are too many.

use super::baseline::{Baseline, Phase};
use super::{Algorithm, LEAST_S, Sample};

/// TCP Vegas (Brakmo and Peterson, IEEE JSAC 1995) for calls, with the thresholds of Netflix's
/// concurrency-limits: of `n` calls under way `n` × (1 - latency without a queue / latency) wait.
/// The limit grows while fewer wait than 3 × log10(limit), and shrinks while more wait than twice
/// that: by half of what is above, so that a limit that is far too high is not for long.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vegas {
    baseline: Baseline,
}

/// What a dropped call leaves of the limit.
const AFTER_DROP: f64 = 0.9;

impl Algorithm for Vegas {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        if sample.dropped > 0 {
            return limit * AFTER_DROP;
        }
        let latency_s = sample.least.as_secs_f64().max(LEAST_S);
        let baseline_s = match self.baseline.see(latency_s, limit, sample) {
            Phase::Measure(limit) => return limit,
            Phase::Known(baseline_s) => baseline_s,
        };
        let step = limit.log10().max(1.0);
        let waiting = f64::from(sample.most_in_flight) * (1.0 - baseline_s / latency_s);
        if waiting > 6.0 * step {
            // What is under way may be far above a limit that has just been lowered.
            (limit - ((waiting - 6.0 * step) / 2.0).max(1.0)).max(limit / 2.0)
        } else if waiting < 3.0 * step && sample.uses(limit) {
            // Where next to nothing waits, there is room for more at once.
            limit + if waiting < step { 6.0 * step } else { step }
        } else {
            limit
        }
    }
}
