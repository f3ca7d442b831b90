//! The latency of a called one that has nothing waiting.

use std::time::Duration;

use super::Sample;

/// How long a latency near the baseline may not have been seen before it is measured anew.
const STALE: Duration = Duration::from_secs(10);

/// A latency this near to the baseline confirms it.
const NEAR: f64 = 1.1;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Baseline {
    latency_s: f64,
    unseen: Duration,
    measuring: Option<Measuring>,
}

/// The limit is lowered. First all that was sent before has to come back, then it is measured.
#[derive(Clone, Copy, Debug)]
struct Measuring {
    drain: Duration,
    measure: Duration,
    since: Duration,
    least_s: f64,
    lowered: f64,
    limit: f64,
}

/// What a window means for the limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    /// This is the latency without a queue, in seconds; decide.
    Known(f64),
    /// The limit is to be this, to measure it.
    Measure(f64),
}

impl Baseline {
    /// Takes the latency of a window, in seconds.
    pub(super) fn see(&mut self, latency_s: f64, limit: f64, sample: &Sample) -> Phase {
        if let Some(measuring) = self.measuring.take() {
            return self.measure(measuring, latency_s, sample);
        }
        if self.latency_s == 0.0 || latency_s < self.latency_s {
            self.latency_s = latency_s;
        }
        if latency_s <= self.latency_s * NEAR {
            self.unseen = Duration::ZERO;
        } else {
            // A window without calls for hours says no more than another.
            self.unseen += sample.length.min(STALE / 10);
        }
        if self.unseen < STALE {
            return Phase::Known(self.latency_s);
        }
        self.unseen = Duration::ZERO;
        // Half of what is worked on, by Little's law, if the baseline still is what it was.
        let lowered = (limit * self.latency_s / latency_s / 2.0).max(1.0);
        let now = Duration::from_secs_f64(latency_s);
        let (drain, measure) = (now * 2, now + sample.length.min(now));
        let begun = Measuring {
            drain,
            measure,
            since: Duration::ZERO,
            least_s: f64::INFINITY,
            lowered,
            limit,
        };
        self.measuring = Some(begun);
        Phase::Measure(lowered)
    }

    fn measure(&mut self, mut measuring: Measuring, latency_s: f64, sample: &Sample) -> Phase {
        if measuring.since >= measuring.drain {
            measuring.least_s = measuring.least_s.min(latency_s);
        }
        measuring.since += sample.length;
        let over = measuring.since >= measuring.drain + measuring.measure;
        if over && measuring.least_s.is_finite() {
            self.latency_s = measuring.least_s;
            return Phase::Measure(measuring.limit);
        }
        self.measuring = Some(measuring);
        Phase::Measure(measuring.lowered)
    }
}
