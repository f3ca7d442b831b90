//! Tries again what failed.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::draw::mix;
use crate::retry::{Budget, Decision, Failure, Policy};
use crate::sync::{AtomicU64, Ordering};
use crate::time::{Clock, Time};

/// How a task waits: a function such as `tokio::time::sleep`.
pub trait Sleep {
    /// Ready when the time is over.
    type Wait: Future<Output = ()>;

    /// Waits for so long.
    fn sleep(&self, time: Duration) -> Self::Wait;
}

impl<S: Fn(Duration) -> W, W: Future<Output = ()>> Sleep for S {
    type Wait = W;

    fn sleep(&self, time: Duration) -> W {
        self(time)
    }
}

/// How one try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try<'a, R, E> {
    /// With a response, which may tell of a failure.
    Response(&'a R),
    /// With an error.
    Error(&'a E),
    /// It took longer than a try may.
    TimedOut,
}

/// Tries again what failed, by a [`Policy`] and within a [`Budget`]. `J` judges each try:
/// `Fn(&Request, Try<Response, Error>) -> Option<Failure>`; none is the end of it, well or not.
#[derive(Clone, Debug)]
pub struct RetryLayer<J, W> {
    rules: Arc<Rules<J, W>>,
}

#[derive(Debug)]
struct Rules<J, W> {
    clock: Clock,
    policy: Policy,
    budget: Arc<Budget>,
    judge: J,
    sleep: W,
    draws: AtomicU64,
}

impl<J, W> RetryLayer<J, W> {
    /// With a way to wait. The seed makes this process's pauses differ from those of others.
    pub fn new(
        clock: Clock,
        policy: Policy,
        budget: Arc<Budget>,
        judge: J,
        sleep: W,
        seed: u64,
    ) -> Self {
        let draws = AtomicU64::new(seed);
        Self { rules: Arc::new(Rules { clock, policy, budget, judge, sleep, draws }) }
    }
}

impl<S, J, W> Layer<S> for RetryLayer<J, W> {
    type Service = Retry<S, J, W>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry { inner, rules: self.rules.clone() }
    }
}

/// The service of a [`RetryLayer`].
#[derive(Debug)]
pub struct Retry<S, J, W> {
    inner: S,
    rules: Arc<Rules<J, W>>,
}

impl<S: Clone, J, W> Clone for Retry<S, J, W> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), rules: self.rules.clone() }
    }
}

/// Why a call failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryError<E> {
    /// The last try failed.
    Inner(E),
    /// The last try took longer than one may.
    TimedOut,
}

impl<E: fmt::Display> fmt::Display for RetryError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inner(error) => error.fmt(f),
            Self::TimedOut => f.write_str("the last try took longer than one may"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for RetryError<E> {}

impl<S, J, W, Request> Service<Request> for Retry<S, J, W>
where
    S: Service<Request> + Clone,
    J: Fn(&Request, Try<'_, S::Response, S::Error>) -> Option<Failure>,
    W: Sleep,
    Request: Clone,
{
    type Response = S::Response;
    type Error = RetryError<S::Error>;
    type Future = RetryFuture<S, J, W, Request>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(RetryError::Inner)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let now = self.rules.clock.now();
        self.rules.budget.deposit(now);
        let call = self.inner.call(request.clone());
        let until = self.rules.policy.until(now, None);
        let state = State::Trying { call, over: self.rules.wait(now, until) };
        // The service that was made ready is this one: further tries make a clone ready.
        let inner = self.inner.clone();
        RetryFuture { inner, rules: self.rules.clone(), request, tried: 1, until, state }
    }
}

impl<J, W: Sleep> Rules<J, W> {
    fn wait(&self, now: Time, until: Option<Time>) -> Option<W::Wait> {
        until.map(|until| self.sleep.sleep(until - now))
    }

    fn draw(&self) -> u64 {
        mix(self.draws.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed))
    }
}

pin_project! {
    /// The answer of a [`Retry`].
    pub struct RetryFuture<S: Service<Request>, J, W: Sleep, Request> {
        inner: S,
        rules: Arc<Rules<J, W>>,
        request: Request,
        tried: u32,
        until: Option<Time>,
        #[pin]
        state: State<S::Future, W::Wait>,
    }
}

pin_project! {
    #[project = StateOf]
    enum State<F, W> {
        Pausing { #[pin] pause: W },
        Readying,
        Trying { #[pin] call: F, #[pin] over: Option<W> },
    }
}

impl<S, J, W, Request> Future for RetryFuture<S, J, W, Request>
where
    S: Service<Request>,
    J: Fn(&Request, Try<'_, S::Response, S::Error>) -> Option<Failure>,
    W: Sleep,
    Request: Clone,
{
    type Output = Result<S::Response, RetryError<S::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            match this.state.as_mut().project() {
                StateOf::Pausing { pause } => {
                    ready!(pause.poll(cx));
                    this.state.set(State::Readying);
                }
                StateOf::Readying => {
                    ready!(this.inner.poll_ready(cx)).map_err(RetryError::Inner)?;
                    let over = this.rules.wait(this.rules.clock.now(), *this.until);
                    let call = this.inner.call(this.request.clone());
                    this.state.set(State::Trying { call, over });
                }
                StateOf::Trying { call, over } => {
                    let answer = match call.poll(cx) {
                        Poll::Ready(answer) => answer.map_err(RetryError::Inner),
                        Poll::Pending => {
                            let Some(over) = over.as_pin_mut() else { return Poll::Pending };
                            ready!(over.poll(cx));
                            Err(RetryError::TimedOut)
                        }
                    };
                    let ended = match &answer {
                        Ok(response) => Try::Response(response),
                        Err(RetryError::Inner(error)) => Try::Error(error),
                        Err(RetryError::TimedOut) => Try::TimedOut,
                    };
                    let rules = this.rules;
                    let Some(failure) = (rules.judge)(this.request, ended) else {
                        return Poll::Ready(answer);
                    };
                    let (now, draw) = (rules.clock.now(), rules.draw());
                    let decision =
                        rules.policy.decide(*this.tried, &failure, None, &rules.budget, now, draw);
                    let Decision::Retry { pause, until } = decision else {
                        return Poll::Ready(answer);
                    };
                    *this.tried += 1;
                    *this.until = until;
                    let pause = rules.sleep.sleep(pause);
                    this.state.set(State::Pausing { pause });
                }
            }
        }
    }
}
