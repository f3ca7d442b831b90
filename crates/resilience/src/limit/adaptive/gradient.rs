//! Gradient: the limit falls as latency rises.

use super::baseline::{Baseline, Phase};
use super::{Algorithm, LEAST_S, Sample};

/// Gradient2 of Netflix's concurrency-limits, with a baseline that is measured (as Envoy's
/// adaptive concurrency does) in the place of its long average, which overload draws up:
/// limit × min(1, 1.5 × baseline / mean latency) + √limit, of which a fifth is taken a window.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gradient {
    baseline: Baseline,
}

/// Mean latencies up to this multiple of the baseline leave the limit alone.
const TOLERANCE: f64 = 1.5;
const SMOOTHING: f64 = 0.2;
const AFTER_DROP: f64 = 0.9;

impl Algorithm for Gradient {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        if sample.dropped > 0 {
            return limit * AFTER_DROP;
        }
        let latency_s = sample.mean.as_secs_f64().max(LEAST_S);
        let baseline_s = match self.baseline.see(latency_s, limit, sample) {
            Phase::Measure(limit) => return limit,
            Phase::Known(baseline_s) => baseline_s,
        };
        let gradient = (TOLERANCE * baseline_s / latency_s).clamp(0.5, 1.0);
        let next = limit * gradient + limit.sqrt();
        if next > limit && !sample.uses(limit) {
            return limit;
        }
        limit + (next - limit) * SMOOTHING
    }
}
