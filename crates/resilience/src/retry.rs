//! Whether a failed call is tried again, and when.
//!
//! A retry helps when the failure was a matter of chance, and harms when it was overload: then
//! every caller's retries are more of it. So a call is tried again only where that is safe (it is
//! idempotent, or nothing of it was sent), only while retries are a small share of the traffic
//! ([`Budget`]), only after a pause that callers draw apart ([`Backoff`]), not before the called
//! one wants it ([`after::parse`]), and only if its deadline leaves time for an answer.

pub mod after;
mod backoff;
mod budget;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;
use std::time::Duration;

use crate::time::Time;
pub use backoff::Backoff;
pub use budget::{Budget, BudgetSettings};

/// How calls of one kind are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Tries of a call, the first one included.
    pub tries: u32,
    /// What one try may take; none: what the call's deadline leaves.
    pub per_try_timeout: Option<Duration>,
    /// The pause before the next try.
    pub backoff: Backoff,
    /// A called one that wants a longer pause than this is not asked again.
    pub longest_pause: Duration,
}

/// Two retries at most, after up to 25 ms and then 50 ms; no pause longer than 5 s.
impl Default for Policy {
    fn default() -> Self {
        Self {
            tries: 3,
            per_try_timeout: None,
            backoff: Backoff::default(),
            longest_pause: Duration::from_secs(5),
        }
    }
}

/// A try that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How far the request went.
    pub reached: Reached,
    /// The call may be made twice with the effect of one (RFC 9110, 9.2.2).
    pub idempotent: bool,
    /// Another try may end otherwise: a broken connection, a time-out, 502, 503, 504. Not so 400.
    pub transient: bool,
    /// The pause that the called one asked for.
    pub retry_after: Option<Duration>,
}

/// How far a request went before it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Nothing of it was sent, or the called one said that it did not look at it
    /// (`REFUSED_STREAM`, a stream above `GOAWAY`'s).
    Nobody,
    /// It may have been acted upon.
    Perhaps,
    /// A part of the answer was passed on: nothing can be tried again.
    Answered,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try again.
    Retry {
        /// After this pause.
        pause: Duration,
        /// When the next try has to have ended, if ever.
        until: Option<Time>,
    },
    /// Pass the failure on.
    GiveUp(Reason),
}

/// Why a failure is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Another try would end alike.
    Permanent,
    /// A part of the answer has been passed on.
    Answered,
    /// It is not idempotent and may have been acted upon.
    MayHaveActed,
    /// All tries were made.
    Tries,
    /// The called one wants a longer pause than the policy allows.
    Pause,
    /// The deadline is over before the next try.
    Deadline,
    /// Retries are as many as the budget allows.
    Budget,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permanent => "another try would end alike",
            Self::Answered => "a part of the answer has been passed on",
            Self::MayHaveActed => "it is not idempotent and may have been acted upon",
            Self::Tries => "all tries were made",
            Self::Pause => "the called one wants a longer pause than is allowed",
            Self::Deadline => "the deadline is over before the next try",
            Self::Budget => "retries are as many as the budget allows",
        })
    }
}

impl Policy {
    /// When the first try has to have ended, if ever.
    #[must_use]
    pub fn until(&self, now: Time, deadline: Option<Time>) -> Option<Time> {
        let own = self.per_try_timeout.map(|timeout| now + timeout);
        [own, deadline].into_iter().flatten().min()
    }

    /// Decides after try number `tried` (1 is the first). A retry is taken from the budget.
    pub fn decide(
        &self,
        tried: u32,
        failure: &Failure,
        deadline: Option<Time>,
        budget: &Budget,
        now: Time,
        draw: u64,
    ) -> Decision {
        match self.pause(tried, failure, deadline, now, draw) {
            Err(reason) => Decision::GiveUp(reason),
            Ok(_) if !budget.take(now) => Decision::GiveUp(Reason::Budget),
            Ok(pause) => Decision::Retry { pause, until: self.until(now + pause, deadline) },
        }
    }

    fn pause(
        &self,
        tried: u32,
        failure: &Failure,
        deadline: Option<Time>,
        now: Time,
        draw: u64,
    ) -> Result<Duration, Reason> {
        match failure.reached {
            Reached::Answered => return Err(Reason::Answered),
            Reached::Perhaps if !failure.idempotent => return Err(Reason::MayHaveActed),
            _ if !failure.transient => return Err(Reason::Permanent),
            _ if tried >= self.tries => return Err(Reason::Tries),
            _ => {}
        }
        let drawn = self.backoff.pause(tried, draw);
        // All who were told the same time would come back at once: the draw keeps them apart.
        let pause = failure.retry_after.map_or(drawn, |wanted| wanted.saturating_add(drawn));
        if failure.retry_after.is_some_and(|wanted| wanted > self.longest_pause) {
            return Err(Reason::Pause);
        }
        if deadline.is_some_and(|deadline| now + pause >= deadline) {
            return Err(Reason::Deadline);
        }
        Ok(pause)
    }
}
