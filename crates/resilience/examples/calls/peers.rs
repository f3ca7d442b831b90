//! The same by others. Those that need the time read the clock themselves.

use std::convert::Infallible;
use std::future::{Ready as Answer, ready};
use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use failsafe::CircuitBreaker;
use recloser::Recloser;
use tower::Service;
use tower::limit::{ConcurrencyLimit, RateLimit, rate::Rate};
use tower::load_shed::LoadShed;
use tower::retry::budget::{Budget, TpsBudget};

use super::{Case, ours};

/// A service that answers at once.
#[derive(Clone)]
pub(crate) struct Ready;

impl Service<()> for Ready {
    type Response = ();
    type Error = Infallible;
    type Future = Answer<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

pub(crate) fn call<S: Service<()>>(service: &mut S, calls: u64) {
    (0..calls).for_each(|_| assert!(ours::answered(service).is_ok()));
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = breakers();
    cases.extend(limits());
    cases
}

fn good() -> Result<(), ()> {
    black_box(Ok(()))
}

fn bad() -> Result<(), ()> {
    black_box(Err(()))
}

fn breakers() -> Vec<Case> {
    let reclosers = [false, true].map(|open| {
        let recloser = Recloser::custom().closed_len(100).open_wait(Duration::from_secs(86_400));
        let recloser = Arc::new(recloser.build());
        while open && !matches!(recloser.call(bad), Err(recloser::Error::Rejected)) {}
        recloser
    });
    let safes = [false, true].map(|open| {
        let backoff = failsafe::backoff::constant(Duration::from_secs(86_400));
        // The policy that looks at a window, as ours does.
        let window = Duration::from_secs(10);
        let policy =
            failsafe::failure_policy::success_rate_over_time_window(0.5, 20, window, backoff);
        let safe = Arc::new(failsafe::Config::new().failure_policy(policy).build());
        while open && safe.is_call_permitted() {
            let _ = safe.call(bad);
        }
        safe
    });
    let ([recloser, recloser_open], [safe, safe_open]) = (reclosers, safes);
    vec![
        Case::new("recloser_closed", move || {
            let recloser = recloser.clone();
            move |calls| (0..calls).for_each(|_| assert!(recloser.call(good).is_ok()))
        }),
        Case::new("recloser_open", move || {
            let recloser = recloser_open.clone();
            move |calls| (0..calls).for_each(|_| assert!(recloser.call(good).is_err()))
        }),
        Case::new("failsafe_closed", move || {
            let safe = safe.clone();
            move |calls| (0..calls).for_each(|_| assert!(safe.call(good).is_ok()))
        }),
        Case::new("failsafe_open", move || {
            let safe = safe_open.clone();
            move |calls| (0..calls).for_each(|_| assert!(safe.call(good).is_err()))
        }),
    ]
}

fn limits() -> Vec<Case> {
    let limit = ConcurrencyLimit::new(Ready, 100);
    let shed = LoadShed::new(ConcurrencyLimit::new(Ready, 0));
    let budget = Arc::new(TpsBudget::new(Duration::from_secs(10), 10, 0.2));
    vec![
        Case::new("tower_concurrency_limit", move || {
            let mut service = limit.clone();
            move |calls| call(&mut service, calls)
        }),
        Case::new("tower_load_shed", move || {
            let mut service = shed.clone();
            move |calls| (0..calls).for_each(|_| assert!(ours::answered(&mut service).is_err()))
        }),
        rate_limit(),
        Case::new("tower_budget", move || {
            let budget = budget.clone();
            move |calls| {
                for call in 0..calls {
                    budget.deposit();
                    if call.is_multiple_of(10) {
                        assert!(budget.withdraw());
                    }
                }
            }
        }),
    ]
}

/// It cannot be shared, and has a timer of its own.
fn rate_limit() -> Case {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut service = {
        let _entered = runtime.enter();
        RateLimit::new(Ready, Rate::new(1 << 60, Duration::from_secs(1)))
    };
    Case::alone("tower_rate_limit", move |calls| {
        let _entered = runtime.enter();
        call(&mut service, calls);
    })
}
