use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tower::{Layer, Service, ServiceExt, service_fn};

use super::*;
use crate::breaker::{Breaker, Refused, Settings, State};
use crate::limit::{Adaptive, Aimd, Bounds, Bulkhead, Full};
use crate::rate::{Gcra, Limited, Rate};
use crate::retry::{Backoff, Budget, BudgetSettings, Failure, Policy, Reached};
use crate::time::Clock;

fn verdict(answer: Result<&u32, &&'static str>) -> Verdict {
    match answer {
        Ok(_) => Verdict::Success,
        Err(&"bad request") => Verdict::Ignored,
        Err(&"overload") => Verdict::Overload,
        Err(_) => Verdict::Failure,
    }
}

/// Answers a number, and fails when asked to.
fn service(answer: Result<u32, &'static str>) -> Ready<Result<u32, &'static str>> {
    ready(answer)
}

#[tokio::test]
async fn a_circuit_opens_by_what_the_service_answers() {
    let settings = Settings { minimum_calls: 3, ..Settings::default() };
    let breaker = Arc::new(Breaker::new(settings).unwrap());
    let layer = GuardLayer::new(Clock::start(), verdict).breaker(breaker.clone());
    let mut guarded = layer.layer(service_fn(service));
    assert_eq!(guarded.ready().await.unwrap().call(Ok(7)).await, Ok(7));
    for error in ["bad request", "broken", "broken"] {
        let answer = guarded.ready().await.unwrap().call(Err(error)).await;
        assert_eq!(answer, Err(GuardError::Inner(error)));
    }
    let answer = guarded.ready().await.unwrap().call(Ok(7)).await;
    assert!(matches!(answer, Err(GuardError::Refused(Refused::Open(_)))), "{answer:?}");
}

#[tokio::test]
async fn limits_hold_and_are_given_back_also_by_calls_that_are_dropped() {
    let bulkhead = Arc::new(Bulkhead::new(1));
    let adaptive = Arc::new(Adaptive::new(Aimd::default(), Bounds::default()).unwrap());
    let layer = GuardLayer::new(Clock::start(), verdict)
        .bulkhead(bulkhead.clone())
        .adaptive(adaptive.clone());
    let mut guarded =
        layer.layer(service_fn(|()| std::future::pending::<Result<u32, &'static str>>()));
    let hanging = guarded.call(());
    assert_eq!(guarded.call(()).await, Err(GuardError::Full(Full { limit: 1 })));
    assert_eq!((bulkhead.in_flight(), adaptive.in_flight()), (1, 1));
    drop(hanging);
    assert_eq!((bulkhead.in_flight(), adaptive.in_flight()), (0, 0));
}

#[tokio::test]
async fn overload_lowers_an_adaptive_limit_and_other_failures_do_not() {
    let bounds = Bounds { window: Duration::from_nanos(1), ..Bounds::default() };
    let adaptive = Arc::new(Adaptive::new(Aimd::default(), bounds).unwrap());
    let layer = GuardLayer::new(Clock::start(), verdict).adaptive(adaptive.clone());
    let mut guarded = layer.layer(service_fn(service));
    for (error, limit) in [("broken", 20), ("overload", 18)] {
        assert_eq!(guarded.call(Err(error)).await, Err(GuardError::Inner(error)));
        assert_eq!(adaptive.limit(), limit);
    }
}

#[tokio::test]
async fn a_probe_that_is_dropped_is_tried_again() {
    let sleep = Duration::from_millis(1);
    let settings = Settings { minimum_calls: 1, sleep, max_sleep: sleep, ..Settings::default() };
    let breaker = Arc::new(Breaker::new(settings).unwrap());
    let clock = Clock::start();
    let layer = GuardLayer::new(clock, verdict).breaker(breaker.clone());
    let mut failing = layer.layer(service_fn(service));
    assert!(failing.call(Err("broken")).await.is_err());
    let mut hanging =
        layer.layer(service_fn(|()| std::future::pending::<Result<u32, &'static str>>()));
    while breaker.snapshot(clock.now()).state == State::Open {
        tokio::task::yield_now().await;
        drop(hanging.call(()));
    }
    assert_eq!(failing.call(Ok(7)).await, Ok(7));
    assert_eq!(breaker.snapshot(clock.now()).state, State::Closed);
}

#[tokio::test]
async fn a_rate_refuses_what_is_above_it() {
    let rate = Rate { count: 1, period: Duration::from_secs(3600), burst: 1 };
    let rate = Arc::new(Gcra::new(rate).unwrap());
    let mut guarded =
        GuardLayer::new(Clock::start(), verdict).rate(rate).layer(service_fn(service));
    assert_eq!(guarded.call(Ok(7)).await, Ok(7));
    let refused = guarded.call(Ok(7)).await;
    assert!(matches!(refused, Err(GuardError::Limited(Limited::For(_)))), "{refused:?}");
}

fn judge(_: &u32, ended: Try<'_, u32, &'static str>) -> Option<Failure> {
    let failure =
        Failure { reached: Reached::Perhaps, idempotent: true, transient: true, retry_after: None };
    match ended {
        Try::Response(_) => None,
        Try::Error(&"permanent") => Some(Failure { transient: false, ..failure }),
        Try::Error(_) | Try::TimedOut => Some(failure),
    }
}

fn policy() -> Policy {
    let backoff = Backoff { base: Duration::from_millis(1), cap: Duration::from_millis(2) };
    Policy { backoff, per_try_timeout: Some(Duration::from_secs(1)), ..Policy::default() }
}

fn budget(minimum_per_second: u32) -> Arc<Budget> {
    let settings = BudgetSettings { minimum_per_second, percent: 0, ..BudgetSettings::default() };
    Arc::new(Budget::new(settings).unwrap())
}

/// Calls a service that fails so often with an error, and answers the number of its tries.
async fn tries(
    fails: u32,
    error: &'static str,
    budget: Arc<Budget>,
) -> (u32, Result<u32, RetryError<&'static str>>) {
    let tried = Arc::new(AtomicU32::new(0));
    let layer = RetryLayer::new(Clock::start(), policy(), budget, judge, tokio::time::sleep, 1);
    let seen = tried.clone();
    let service = service_fn(move |number: u32| {
        let hangs = error == "hangs";
        let fails = seen.fetch_add(1, Ordering::Relaxed) < fails;
        async move {
            match fails {
                true if hangs => std::future::pending().await,
                true => Err(error),
                false => Ok(number),
            }
        }
    });
    let answer = layer.layer(service).oneshot(7).await;
    (tried.load(Ordering::Relaxed), answer)
}

#[tokio::test(start_paused = true)]
async fn what_failed_by_chance_is_tried_again() {
    assert_eq!(tries(0, "broken", budget(9)).await, (1, Ok(7)));
    assert_eq!(tries(2, "broken", budget(9)).await, (3, Ok(7)));
    assert_eq!(tries(3, "broken", budget(9)).await, (3, Err(RetryError::Inner("broken"))));
    assert_eq!(tries(3, "permanent", budget(9)).await, (1, Err(RetryError::Inner("permanent"))));
    assert_eq!(tries(3, "broken", budget(0)).await, (1, Err(RetryError::Inner("broken"))));
}

#[tokio::test(start_paused = true)]
async fn a_try_that_hangs_is_given_up() {
    assert_eq!(tries(1, "hangs", budget(9)).await, (2, Ok(7)));
    assert_eq!(tries(9, "hangs", budget(9)).await, (3, Err(RetryError::TimedOut)));
}
