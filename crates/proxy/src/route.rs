//! What holds for requests of one kind, and who is asked to answer them.
//!
//! A [`Route`] does not change: a request keeps the one it began with to its end. What the rules
//! in it count is shared by all threads.

mod fixed;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sinew_resilience::Time;
use sinew_resilience::balance::Answer;
use sinew_resilience::breaker::{self, Breaker};
use sinew_resilience::limit::Bulkhead;
use sinew_resilience::retry::{Budget, Policy};

use crate::fault::Fault;
pub use fixed::Fixed;

/// Who answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its number among those of its [`Backends`].
    pub number: u32,
    /// Where it listens.
    pub address: SocketAddr,
}

/// How a try went, as far as it says something about its backend.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// When that was known.
    pub at: Time,
    /// How long it took to answer.
    pub latency: Duration,
    /// How it answered.
    pub answer: Answer,
}

/// Hands out backends.
pub trait Backends: Debug + Send + Sync {
    /// One for a request; none when there is none. `last`: the one that a try failed at, if any.
    /// Each that is handed out is told of with [`ended`](Self::ended).
    fn choose(&self, now: Time, draw: u64, last: Option<u32>) -> Option<Backend>;

    /// A try is over. Without an outcome it says nothing of the backend.
    fn ended(&self, backend: u32, outcome: Option<Outcome>);
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// A connection without a request.
    pub idle: Duration,
    /// A request's head, from its first byte to its last.
    pub head: Duration,
    /// To make a connection.
    pub connect: Duration,
    /// Without a byte, wherever one is due: of a body, or of the answer.
    pub stall: Duration,
    /// A tunnel without a byte.
    pub tunnel: Duration,
    /// All tries of a request, up to the head of the answer.
    pub answer: Option<Duration>,
}

/// A minute for most; less for heads, which are small, and to connect.
impl Default for Times {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            idle: minute,
            head: Duration::from_secs(10),
            connect: Duration::from_secs(2),
            stall: minute,
            tunnel: 60 * minute,
            answer: None,
        }
    }
}

/// What to make of forwarded fields that a request brings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarded {
    /// They are dropped: anybody can write anything into them.
    #[default]
    Replace,
    /// The client is a proxy that is believed: ours goes behind them.
    Append,
}

/// What holds for requests of one kind.
#[derive(Debug)]
pub struct Route {
    /// Who answers.
    pub backends: Arc<dyn Backends>,
    /// Refuses requests while too many fail.
    pub breaker: Option<Breaker>,
    /// How many may be under way.
    pub places: Option<Arc<Bulkhead>>,
    /// What is tried again.
    pub retry: Policy,
    /// How many retries there may be.
    pub budget: Budget,
    /// How long things may take.
    pub times: Times,
    /// The longest body of a request.
    pub body_bytes: u64,
    /// What to make of forwarded fields.
    pub forwarded: Forwarded,
}

/// A request may go on.
#[derive(Debug)]
pub(crate) struct Admitted {
    permit: Option<breaker::Permit>,
    /// Given back when it is dropped.
    _place: Option<sinew_resilience::limit::Permit<Arc<Bulkhead>>>,
}

impl Route {
    /// Bodies of this size are usual, greater ones are uploads.
    pub const BODY_BYTES: u64 = 1 << 30;

    /// To these backends, with the usual settings and neither breaker nor bound.
    #[must_use]
    pub fn to(backends: Arc<dyn Backends>, budget: Budget) -> Self {
        Self {
            backends,
            breaker: None,
            places: None,
            retry: Policy::default(),
            budget,
            times: Times::default(),
            body_bytes: Self::BODY_BYTES,
            forwarded: Forwarded::default(),
        }
    }

    pub(crate) fn admit(&self, now: Time) -> Result<Admitted, Fault> {
        let place = match &self.places {
            Some(places) => Some(Bulkhead::acquire(Arc::clone(places)).map_err(|_| Fault::Full)?),
            None => None,
        };
        let refused = |refused| match refused {
            breaker::Refused::Open(left) => Fault::Open(Some(left)),
            breaker::Refused::Probing | breaker::Refused::Forced => Fault::Open(None),
        };
        let permit = self.breaker.as_ref().map(|breaker| breaker.admit(now)).transpose();
        let permit = permit.map_err(refused)?;
        self.budget.deposit(now);
        Ok(Admitted { permit, _place: place })
    }

    /// How a request ended, all its tries together.
    pub(crate) fn record(&self, admitted: &mut Admitted, now: Time, outcome: breaker::Outcome) {
        if let (Some(breaker), Some(permit)) = (&self.breaker, admitted.permit.take()) {
            breaker.record(permit, now, outcome);
        }
    }
}
