//! From single checks to a verdict: some successes in a row make it healthy, some failures in a row
//! unhealthy, and failures soon after the start count for nothing.

use std::time::Instant;

use sinew_model::Health;

/// The verdict about one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tracker {
    since: Instant,
    verdict: Option<bool>,
    successes: u32,
    failures: u32,
}

impl Tracker {
    /// Knows nothing of a process that started at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, verdict: None, successes: 0, failures: 0 }
    }

    /// Takes a process that ran before anybody looked for a healthy one, until the first failure.
    pub(crate) fn presume_well(now: Instant, health: &Health) -> Self {
        let failures = health.unhealthy_threshold.saturating_sub(1);
        Self { since: now, verdict: Some(true), successes: 0, failures }
    }

    /// Takes the result of a check that ended at `now`.
    pub(crate) fn record(&mut self, now: Instant, well: bool, health: &Health) {
        if well {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
            if self.successes >= health.healthy_threshold {
                self.verdict = Some(true);
            }
            return;
        }
        self.successes = 0;
        if self.verdict.is_none() && now < self.since + health.start_period {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= health.unhealthy_threshold {
            self.verdict = Some(false);
        }
    }

    /// Enough successes came in a row, and not enough failures since.
    pub(crate) fn is_healthy(&self) -> bool {
        self.verdict == Some(true)
    }

    /// Enough failures came in a row, and not enough successes since.
    pub(crate) fn failed(&self) -> bool {
        self.verdict == Some(false)
    }

    /// Whether there is a verdict at all.
    pub(crate) fn is_settled(&self) -> bool {
        self.verdict.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sinew_model::Check;

    use super::*;

    fn health() -> Health {
        Health {
            check: Check::Tcp { port: 80 },
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
            start_period: Duration::from_secs(10),
        }
    }

    fn after(results: &[(u64, bool)]) -> Option<bool> {
        let start = Instant::now();
        let mut tracker = Tracker::new(start);
        for (second, well) in results {
            tracker.record(start + Duration::from_secs(*second), *well, &health());
        }
        tracker.verdict
    }

    #[test]
    fn thresholds_count_in_a_row() {
        assert_eq!(after(&[(1, true)]), None);
        assert_eq!(after(&[(1, true), (2, true)]), Some(true));
        assert_eq!(after(&[(1, true), (2, false), (3, true)]), None);
        let well = [(1, true), (2, true)];
        assert_eq!(after(&[&well[..], &[(3, false), (4, false)]].concat()), Some(true));
        assert_eq!(
            after(&[&well[..], &[(3, false), (4, false), (5, false)]].concat()),
            Some(false)
        );
    }

    #[test]
    fn what_is_presumed_well_fails_at_once() {
        let now = Instant::now();
        let mut tracker = Tracker::presume_well(now, &health());
        assert!(tracker.is_healthy());
        tracker.record(now, false, &health());
        assert!(tracker.failed());
        let mut tracker = Tracker::presume_well(now, &health());
        tracker.record(now, true, &health());
        tracker.record(now, false, &health());
        assert!(tracker.is_healthy(), "a success confirms it");
    }

    #[test]
    fn failures_during_the_start_count_for_nothing() {
        let early: Vec<_> = (0..10).map(|s| (s, false)).collect();
        assert_eq!(after(&early), None);
        let late: Vec<_> = (0..=12).map(|s| (s, false)).collect();
        assert_eq!(after(&late), Some(false));
        assert_eq!(after(&[&late[..], &[(13, true), (14, true)]].concat()), Some(true));
    }
}
