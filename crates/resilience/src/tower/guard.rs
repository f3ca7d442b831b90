//! A rate, a limit and a breaker before a service.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::breaker::{self, Breaker, Outcome, Refused};
use crate::limit::{self, Adaptive, AdaptivePermit, Bulkhead, Ended, Full};
use crate::rate::{Gcra, Limited};
use crate::time::{Clock, Time};

/// Puts a rate, a limit and a breaker before a service, each where one is given. `C` says how a
/// call ended: `Fn(Result<&Response, &Error>) -> Verdict`.
#[derive(Clone, Debug)]
pub struct GuardLayer<C> {
    rules: Rules,
    classify: C,
}

#[derive(Clone, Debug)]
struct Rules {
    clock: Clock,
    rate: Option<Arc<Gcra>>,
    bulkhead: Option<Arc<Bulkhead>>,
    adaptive: Option<Arc<Adaptive>>,
    breaker: Option<Arc<Breaker>>,
}

impl<C> GuardLayer<C> {
    /// One that refuses nothing yet. All rules have to be told the time by this clock alone.
    pub fn new(clock: Clock, classify: C) -> Self {
        let rules = Rules { clock, rate: None, bulkhead: None, adaptive: None, breaker: None };
        Self { rules, classify }
    }

    /// Refuses calls above a rate.
    #[must_use]
    pub fn rate(mut self, rate: Arc<Gcra>) -> Self {
        self.rules.rate = Some(rate);
        self
    }

    /// Refuses calls above a fixed number at a time.
    #[must_use]
    pub fn bulkhead(mut self, bulkhead: Arc<Bulkhead>) -> Self {
        self.rules.bulkhead = Some(bulkhead);
        self
    }

    /// Refuses calls above a number at a time that is found out.
    #[must_use]
    pub fn adaptive(mut self, limit: Arc<Adaptive>) -> Self {
        self.rules.adaptive = Some(limit);
        self
    }

    /// Refuses calls while a circuit is open.
    #[must_use]
    pub fn breaker(mut self, breaker: Arc<Breaker>) -> Self {
        self.rules.breaker = Some(breaker);
        self
    }
}

impl<S, C: Clone> Layer<S> for GuardLayer<C> {
    type Service = Guard<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Guard { inner, rules: self.rules.clone(), classify: self.classify.clone() }
    }
}

/// The service of a [`GuardLayer`].
#[derive(Clone, Debug)]
pub struct Guard<S, C> {
    inner: S,
    rules: Rules,
    classify: C,
}

/// How a call ended, for the breaker and for the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Well; its latency counts.
    Success,
    /// Badly, and the service is at fault. It may have failed at once: its latency does not count.
    Failure,
    /// Refused for overload, or timed out: adaptive limits fall.
    Overload,
    /// It says nothing of the service: a bad request.
    Ignored,
}

/// Why a guarded call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardError<E> {
    /// The service itself failed.
    Inner(E),
    /// The rate does not allow it. Nothing was sent.
    Limited(Limited),
    /// As many calls are under way as may be. Nothing was sent.
    Full(Full),
    /// The circuit is open. Nothing was sent.
    Refused(Refused),
}

impl<E: fmt::Display> fmt::Display for GuardError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inner(error) => error.fmt(f),
            Self::Limited(limited) => limited.fmt(f),
            Self::Full(full) => full.fmt(f),
            Self::Refused(refused) => refused.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for GuardError<E> {}

impl<S, C, Request> Service<Request> for Guard<S, C>
where
    S: Service<Request>,
    C: Fn(Result<&S::Response, &S::Error>) -> Verdict + Clone,
{
    type Response = S::Response;
    type Error = GuardError<S::Error>;
    type Future = GuardFuture<S::Future, C, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(GuardError::Inner)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match self.rules.admit() {
            Ok(held) => {
                let (call, classify) = (self.inner.call(request), self.classify.clone());
                GuardFuture { state: State::Admitted { call, held, classify } }
            }
            Err(error) => GuardFuture { state: State::Refused { error: Some(error) } },
        }
    }
}

/// What a call under way holds. Dropped before the call has ended it gives all of it back: the
/// caller gave up, which says nothing of the service.
struct Held {
    clock: Clock,
    _bulkhead: Option<limit::Permit<Arc<Bulkhead>>>,
    adaptive: Option<AdaptivePermit<Arc<Adaptive>>>,
    breaker: Option<(Arc<Breaker>, breaker::Permit)>,
}

impl Held {
    fn end(&mut self, verdict: Verdict) {
        if self.breaker.is_none() && self.adaptive.is_none() {
            return;
        }
        let now = self.clock.now();
        let (outcome, ended) = match verdict {
            Verdict::Success => (Outcome::Success, Ended::Answered),
            Verdict::Failure => (Outcome::Failure, Ended::Ignored),
            Verdict::Overload => (Outcome::Failure, Ended::Dropped),
            Verdict::Ignored => (Outcome::Ignored, Ended::Ignored),
        };
        if let Some((breaker, permit)) = self.breaker.take() {
            breaker.record(permit, now, outcome);
        }
        if let Some(permit) = self.adaptive.take() {
            permit.end(now, ended);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.breaker.is_some() {
            self.end(Verdict::Ignored);
        }
    }
}

impl Rules {
    /// The breaker is asked last, so that no probe is spent on a call that is not made.
    fn admit<E>(&self) -> Result<Held, GuardError<E>> {
        // A look at the clock costs more than a bulkhead.
        let timed = self.rate.is_some() || self.adaptive.is_some() || self.breaker.is_some();
        let now = if timed { self.clock.now() } else { Time::ORIGIN };
        let bulkhead = self.bulkhead.clone().map(Bulkhead::acquire).transpose();
        let bulkhead = bulkhead.map_err(GuardError::Full)?;
        let adaptive = self.adaptive.clone().map(|limit| Adaptive::acquire(limit, now));
        let adaptive = adaptive.transpose().map_err(GuardError::Full)?;
        if let Some(rate) = &self.rate {
            rate.take(now, 1).map_err(GuardError::Limited)?;
        }
        let admitted = match &self.breaker {
            Some(breaker) => {
                let permit = breaker.admit(now).map_err(GuardError::Refused)?;
                Some((breaker.clone(), permit))
            }
            None => None,
        };
        Ok(Held { clock: self.clock, _bulkhead: bulkhead, adaptive, breaker: admitted })
    }
}

pin_project! {
    /// The answer of a [`Guard`].
    pub struct GuardFuture<F, C, E> {
        #[pin]
        state: State<F, C, E>,
    }
}

pin_project! {
    #[project = StateOf]
    enum State<F, C, E> {
        Admitted { #[pin] call: F, held: Held, classify: C },
        Refused { error: Option<GuardError<E>> },
    }
}

impl<F, C, E, R> Future for GuardFuture<F, C, E>
where
    F: Future<Output = Result<R, E>>,
    C: Fn(Result<&R, &E>) -> Verdict,
{
    type Output = Result<R, GuardError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateOf::Admitted { call, held, classify } => {
                let answer = ready!(call.poll(cx));
                held.end(classify(answer.as_ref()));
                Poll::Ready(answer.map_err(GuardError::Inner))
            }
            // A future is not polled again after it was ready.
            StateOf::Refused { error } => match error.take() {
                Some(error) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            },
        }
    }
}
