use super::*;

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> Time {
    Time::from_ns(seconds * SECOND)
}

fn settings() -> Settings {
    Settings { minimum_calls: 4, ..Settings::default() }
}

fn fail(breaker: &Breaker, now: Time, count: u32) {
    for _ in 0..count {
        breaker.record(breaker.admit(now).unwrap(), now, Outcome::Failure);
    }
}

fn opened(settings: Settings) -> Breaker {
    let breaker = Breaker::new(settings).unwrap();
    fail(&breaker, at(1), 4);
    assert_eq!(breaker.snapshot(at(1)).state, State::Open);
    breaker
}

#[test]
fn the_call_that_exceeds_opens_it_at_once() {
    let breaker = Breaker::new(settings()).unwrap();
    fail(&breaker, at(1), 3);
    assert_eq!(breaker.snapshot(at(1)).state, State::Closed);
    fail(&breaker, at(1), 1);
    assert_eq!(breaker.admit(at(2)).unwrap_err(), Refused::Open(Duration::from_secs(4)));
}

#[test]
fn a_success_may_be_the_call_that_makes_the_volume() {
    let breaker = Breaker::new(settings()).unwrap();
    fail(&breaker, at(1), 3);
    breaker.record(breaker.admit(at(1)).unwrap(), at(1), Outcome::Success);
    assert_eq!(breaker.snapshot(at(1)).state, State::Open);
}

#[test]
fn slow_calls_open_it_too() {
    let slow = Some(Slow { after: Duration::from_secs(1), percent: 75 });
    let breaker = Breaker::new(Settings { slow, ..settings() }).unwrap();
    for took in [1, 2, 2, 2] {
        assert_eq!(breaker.snapshot(at(9)).state, State::Closed);
        breaker.record(breaker.admit(at(9 - took)).unwrap(), at(9), Outcome::Success);
    }
    assert_eq!(breaker.snapshot(at(9)).state, State::Open);
}

#[test]
fn a_slow_probe_fails() {
    let slow = Some(Slow { after: Duration::from_secs(1), percent: 75 });
    let breaker = opened(Settings { slow, ..settings() });
    let probe = breaker.admit(at(7)).unwrap();
    breaker.record(probe, at(9), Outcome::Success);
    assert_eq!(breaker.snapshot(at(9)).state, State::Open);
}

#[test]
fn all_of_several_probes_have_to_succeed() {
    let breaker = opened(Settings { probes: 3, ..settings() });
    let probes = [(); 3].map(|()| breaker.admit(at(7)).unwrap());
    assert_eq!(breaker.admit(at(7)).unwrap_err(), Refused::Probing);
    let [first, second, third] = probes;
    breaker.record(first, at(7), Outcome::Success);
    assert_eq!(breaker.admit(at(7)).unwrap_err(), Refused::Probing, "no more than three in all");
    breaker.record(second, at(7), Outcome::Success);
    assert_eq!(breaker.snapshot(at(7)).state, State::HalfOpen);
    breaker.record(third, at(7), Outcome::Success);
    assert_eq!(breaker.snapshot(at(7)).state, State::Closed);
}

#[test]
fn a_probe_that_says_nothing_is_tried_again() {
    let breaker = opened(settings());
    breaker.record(breaker.admit(at(7)).unwrap(), at(7), Outcome::Ignored);
    assert_eq!(breaker.snapshot(at(7)).state, State::HalfOpen);
    assert!(breaker.admit(at(7)).unwrap().is_probe());
}

#[test]
fn the_sleep_grows_while_probes_fail() {
    let breaker = opened(Settings { max_sleep: Duration::from_secs(20), ..settings() });
    let mut now = 7;
    for sleep in [10, 20, 20] {
        breaker.record(breaker.admit(at(now)).unwrap(), at(now), Outcome::Failure);
        let refused = breaker.admit(at(now)).unwrap_err();
        assert_eq!(refused, Refused::Open(Duration::from_secs(sleep)));
        now += sleep + 1;
    }
}

#[test]
fn a_circuit_that_flaps_sleeps_longer_and_one_that_recovered_does_not() {
    for (stayed, sleep) in [(5, 10), (6, 5)] {
        let breaker = opened(settings());
        breaker.record(breaker.admit(at(7)).unwrap(), at(7), Outcome::Success);
        fail(&breaker, at(7 + stayed), 4);
        let refused = breaker.admit(at(7 + stayed)).unwrap_err();
        assert_eq!(refused, Refused::Open(Duration::from_secs(sleep)), "after {stayed} s");
    }
}

#[test]
fn what_hung_before_it_opened_does_not_count_after_it_closed() {
    let breaker = Breaker::new(settings()).unwrap();
    let hung: Vec<Permit> = (0..10).map(|_| breaker.admit(at(1)).unwrap()).collect();
    fail(&breaker, at(1), 4);
    breaker.record(breaker.admit(at(7)).unwrap(), at(7), Outcome::Success);
    for permit in hung {
        breaker.record(permit, at(8), Outcome::Failure);
    }
    let snapshot = breaker.snapshot(at(8));
    assert_eq!((snapshot.state, snapshot.counts.calls), (State::Closed, 0));
}

#[test]
fn a_reset_forgets() {
    let breaker = opened(settings());
    breaker.reset(at(2));
    let snapshot = breaker.snapshot(at(2));
    assert_eq!((snapshot.state, snapshot.counts), (State::Closed, Counts::default()));
    fail(&breaker, at(2), 4);
    assert_eq!(breaker.admit(at(2)).unwrap_err(), Refused::Open(Duration::from_secs(5)));
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let named = |settings| Breaker::new(settings).unwrap_err().field;
    assert_eq!(named(Settings { minimum_calls: 0, ..settings() }), "minimum_calls");
    assert_eq!(named(Settings { failure_percent: 101, ..settings() }), "failure_percent");
    assert_eq!(named(Settings { probes: 0, ..settings() }), "probes");
    assert_eq!(named(Settings { max_sleep: Duration::from_secs(1), ..settings() }), "max_sleep");
    let window = crate::window::Span::Calls { bucket: 10, buckets: 10 };
    let by_bucket = Settings { evaluate: Evaluate::BucketEnd, window, ..settings() };
    assert_eq!(named(by_bucket), "window");
}
