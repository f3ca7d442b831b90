//! What control did not take of what this host reported. It may be taken later, when there is room or
//! somebody has changed a limit: all is reported again, more and more rarely.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use sinew_model::ServiceName;
use sinew_proto::Held;

/// From an answer to the next report, doubled each time.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(super) struct Refusals {
    reasons: BTreeMap<ServiceName, String>,
    again: Option<Instant>,
    times: u32,
}

impl Refusals {
    pub(super) fn reasons(&self) -> &BTreeMap<ServiceName, String> {
        &self.reasons
    }

    /// Takes an answer, which names all that is held now; those that are new or held for another
    /// reason are returned.
    pub(super) fn take(&mut self, now: Instant, held: Vec<Held>) -> Vec<(ServiceName, String)> {
        let held: BTreeMap<_, _> = held.into_iter().map(|one| (one.service, one.reason)).collect();
        let is_new = |(name, reason): &(&ServiceName, &String)| {
            self.reasons.get(*name).is_none_or(|before| before != *reason)
        };
        let told = held.iter().filter(is_new).map(|(name, reason)| (name.clone(), reason.clone()));
        let told: Vec<_> = told.collect();
        if held.is_empty() || !told.is_empty() {
            self.times = 0;
        }
        self.reasons = held;
        let factor = 1_u32.checked_shl(self.times).unwrap_or(u32::MAX);
        let after = FIRST.saturating_mul(factor).min(LONGEST);
        self.again = (!self.reasons.is_empty()).then(|| now + after);
        told
    }

    /// When all is to be reported again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.again
    }

    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.again.is_some_and(|at| at <= now);
        if due {
            self.again = None;
            self.times = self.times.saturating_add(1);
        }
        due
    }

    /// A session begins, and everything is reported.
    pub(super) fn begin(&mut self) {
        self.again = None;
    }
}
