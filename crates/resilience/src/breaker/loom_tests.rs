//! Every interleaving of callers whose calls change the state.

use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::window::Span;

fn settings() -> Settings {
    let span = Span::Time { bucket: Duration::from_nanos(100), buckets: 1 };
    let sleep = Duration::from_nanos(10);
    Settings { window: span, minimum_calls: 2, sleep, max_sleep: sleep, ..Settings::default() }
}

fn at(ns: u64) -> Time {
    Time::from_ns(ns)
}

fn fail(breaker: &Breaker, now: u64) {
    if let Ok(permit) = breaker.admit(at(now)) {
        breaker.record(permit, at(now), Outcome::Failure);
    }
}

#[test]
fn failures_of_two_callers_open_it() {
    loom::model(|| {
        let breaker = Arc::new(Breaker::new(settings()).unwrap());
        let other = {
            let breaker = breaker.clone();
            thread::spawn(move || fail(&breaker, 1))
        };
        fail(&breaker, 1);
        other.join().unwrap();
        assert_eq!(breaker.snapshot(at(2)).state, State::Open);
    });
}

#[test]
fn two_callers_open_it_once() {
    loom::model(|| {
        let max_sleep = Duration::from_nanos(40);
        let settings = Settings { minimum_calls: 1, max_sleep, ..settings() };
        let breaker = Arc::new(Breaker::new(settings).unwrap());
        let other = {
            let breaker = breaker.clone();
            thread::spawn(move || fail(&breaker, 1))
        };
        fail(&breaker, 1);
        other.join().unwrap();
        let refused = breaker.admit(at(2)).unwrap_err();
        assert_eq!(refused, Refused::Open(Duration::from_nanos(9)));
    });
}

#[test]
fn one_of_two_callers_probes() {
    loom::model(|| {
        let breaker = Arc::new(Breaker::new(settings()).unwrap());
        fail(&breaker, 1);
        fail(&breaker, 1);
        let other = {
            let breaker = breaker.clone();
            thread::spawn(move || breaker.admit(at(50)).is_ok())
        };
        let mine = breaker.admit(at(50)).is_ok();
        assert!(mine != other.join().unwrap());
    });
}

#[test]
fn a_late_failure_and_a_probe_that_closes_it_leave_it_closed() {
    loom::model(|| {
        let breaker = Arc::new(Breaker::new(settings()).unwrap());
        let late = breaker.admit(at(0)).unwrap();
        fail(&breaker, 1);
        fail(&breaker, 1);
        let probe = breaker.admit(at(50)).unwrap();
        let other = {
            let breaker = breaker.clone();
            thread::spawn(move || breaker.record(late, at(51), Outcome::Failure))
        };
        breaker.record(probe, at(51), Outcome::Success);
        other.join().unwrap();
        assert_eq!(breaker.snapshot(at(52)).state, State::Closed);
    });
}

#[test]
fn what_is_forced_survives_a_change_of_state() {
    loom::model(|| {
        let breaker = Arc::new(Breaker::new(settings()).unwrap());
        fail(&breaker, 1);
        let other = {
            let breaker = breaker.clone();
            thread::spawn(move || fail(&breaker, 1))
        };
        breaker.force(Some(Forced::Closed));
        other.join().unwrap();
        let snapshot = breaker.snapshot(at(2));
        assert_eq!((snapshot.forced, snapshot.state), (Some(Forced::Closed), State::Open));
    });
}
