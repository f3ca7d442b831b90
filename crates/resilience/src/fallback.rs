//! What to answer when a call cannot be made or has failed.
//!
//! A [`Plan`] is a list of what may take the answer's place, best first: an older answer from a
//! [`StaleCache`], another service, a fixed reply. Other services are guarded by a
//! [`Bulkhead`](crate::limit::Bulkhead) of their own, so that fallbacks do not become the overload.

mod cache;

use std::time::Duration;

pub use cache::{CacheSettings, StaleCache};

/// One thing to answer with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<S, R> {
    /// The last good answer, if it is no older than this.
    Stale {
        /// How old it may be.
        max_age: Duration,
    },
    /// Whatever this service answers.
    Service(S),
    /// This, always.
    Reply(R),
}

/// What to answer with, best first. `S` names a service, `R` is a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<S, R> {
    steps: Box<[Step<S, R>]>,
}

impl<S, R> Plan<S, R> {
    /// A plan of these steps. What follows a fixed reply is never reached.
    #[must_use]
    pub fn new(steps: Vec<Step<S, R>>) -> Self {
        Self { steps: steps.into() }
    }

    /// The first step from number `from` on that can be taken, and its number. `stale` is the age
    /// of the last good answer, if there is one. When a step fails as well, go on with the number
    /// after its own; with none left the failure itself is passed on.
    pub fn step(&self, from: usize, stale: Option<Duration>) -> Option<(usize, &Step<S, R>)> {
        self.steps.iter().enumerate().skip(from).find(|(_, step)| match step {
            Step::Stale { max_age } => stale.is_some_and(|age| age <= *max_age),
            Step::Service(_) | Step::Reply(_) => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_can_be_taken_is() {
        let max_age = Duration::from_secs(60);
        let stale = Step::Stale { max_age };
        let plan = Plan::new(vec![stale, Step::Service("spare"), Step::Reply("sorry")]);
        let step = |from, age| plan.step(from, age).map(|(number, _)| number);
        assert_eq!(step(0, Some(max_age)), Some(0));
        assert_eq!(step(0, Some(max_age + Duration::from_nanos(1))), Some(1));
        assert_eq!(
            [step(0, None), step(1, None), step(2, None), step(3, None)],
            [Some(1), Some(1), Some(2), None]
        );
        assert_eq!(plan.step(2, None), Some((2, &Step::Reply("sorry"))));
    }
}
