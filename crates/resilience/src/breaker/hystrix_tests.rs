//! Hystrix's rules, a test for each.

use super::*;

const MS: u64 = 1_000_000;

struct Circuit {
    breaker: Breaker,
    now: u64,
}

impl Circuit {
    fn new() -> Self {
        let breaker = Breaker::new(Settings::hystrix(Duration::from_secs(1))).unwrap();
        Self { breaker, now: 0 }
    }

    fn at(&mut self, ms: u64) -> Time {
        self.now = ms;
        self.time()
    }

    fn time(&self) -> Time {
        Time::from_ns(self.now * MS)
    }

    fn ask(&self) -> Result<Permit, Refused> {
        self.breaker.admit(self.time())
    }

    fn end(&self, permit: Permit, outcome: Outcome) {
        self.breaker.record(permit, self.time(), outcome);
    }

    fn calls(&mut self, ms: u64, count: u32, outcome: Outcome) {
        self.at(ms);
        (0..count).for_each(|_| self.end(self.ask().unwrap(), outcome));
    }

    fn state(&mut self, ms: u64) -> State {
        let now = self.at(ms);
        self.breaker.snapshot(now).state
    }

    /// Opened by the bucket that ended at 500 ms.
    fn open() -> Self {
        let mut circuit = Self::new();
        circuit.calls(100, 20, Outcome::Failure);
        assert_eq!(circuit.state(500), State::Open);
        circuit
    }

    /// With its probe out, since 5501 ms.
    fn half_open() -> (Self, Permit) {
        let mut circuit = Self::open();
        circuit.at(5501);
        let probe = circuit.ask().unwrap();
        (circuit, probe)
    }
}

#[test]
fn the_health_window_is_10_s_in_buckets_of_500_ms() {
    let mut circuit = Circuit::new();
    circuit.calls(100, 10, Outcome::Failure);
    circuit.calls(9_900, 10, Outcome::Failure);
    assert_eq!(circuit.state(10_000), State::Open);

    let mut circuit = Circuit::new();
    circuit.calls(100, 10, Outcome::Failure);
    circuit.calls(10_100, 10, Outcome::Failure);
    assert_eq!(circuit.state(10_500), State::Closed);
}

#[test]
fn health_is_looked_at_when_a_bucket_ends_only() {
    let mut circuit = Circuit::new();
    circuit.calls(100, 100, Outcome::Failure);
    assert_eq!(circuit.state(499), State::Closed);
    assert!(circuit.ask().is_ok());
    assert_eq!(circuit.state(500), State::Open);
}

#[test]
fn the_total_is_of_successes_and_errors() {
    let mut circuit = Circuit::new();
    circuit.calls(100, 10, Outcome::Failure);
    circuit.calls(100, 10, Outcome::Success);
    assert_eq!(circuit.breaker.snapshot(circuit.time()).counts.calls, 20);
    assert_eq!(circuit.state(500), State::Open);
}

#[test]
fn refused_calls_and_bad_requests_count_in_neither() {
    let mut circuit = Circuit::new();
    circuit.calls(100, 19, Outcome::Failure);
    circuit.calls(100, 100, Outcome::Ignored);
    assert_eq!(circuit.state(500), State::Closed);

    let mut circuit = Circuit::open();
    let before = circuit.breaker.snapshot(circuit.time()).counts;
    circuit.at(600);
    assert!(circuit.ask().is_err());
    assert_eq!(circuit.breaker.snapshot(circuit.time()).counts, before);
}

#[test]
fn the_percentage_is_rounded_down() {
    let mut circuit = Circuit::new();
    // 49.99 % is 49.
    circuit.calls(100, 4_999, Outcome::Failure);
    circuit.calls(100, 5_001, Outcome::Success);
    assert_eq!(circuit.state(500), State::Closed);
}

#[test]
fn it_opens_at_the_volume_and_at_the_percentage_themselves() {
    for (failures, successes, state) in [
        (20, 0, State::Open),
        (19, 0, State::Closed),
        (10, 10, State::Open),
        (10, 11, State::Closed),
    ] {
        let mut circuit = Circuit::new();
        circuit.calls(100, successes, Outcome::Success);
        circuit.calls(100, failures, Outcome::Failure);
        assert_eq!(circuit.state(500), state, "{failures} of {}", failures + successes);
    }
}

#[test]
fn it_remembers_when_it_opened_also_when_nobody_looked() {
    let mut circuit = Circuit::new();
    circuit.calls(100, 20, Outcome::Failure);
    // The bucket ended at 500 ms, the sleep at 5500 ms.
    circuit.at(5500);
    assert_eq!(circuit.ask().unwrap_err(), Refused::Open(Duration::ZERO));
}

#[test]
fn what_only_a_later_bucket_end_shows_opens_it_then() {
    let mut circuit = Circuit::new();
    circuit.calls(100, 30, Outcome::Success);
    circuit.calls(600, 25, Outcome::Failure);
    // At 10 s 25 of 55 failed; at 10.5 s, without the first bucket, all 25 of 25.
    assert_eq!(circuit.state(10_400), State::Closed);
    circuit.at(15_500);
    assert_eq!(circuit.ask().unwrap_err(), Refused::Open(Duration::ZERO));
}

#[test]
fn an_open_circuit_refuses_until_its_sleep_is_over() {
    let mut circuit = Circuit::open();
    for ms in [501, 3000, 5499, 5500] {
        circuit.at(ms);
        assert!(matches!(circuit.ask(), Err(Refused::Open(_))), "{ms}");
    }
    circuit.at(5501);
    assert!(circuit.ask().unwrap().is_probe());
}

#[test]
fn exactly_one_caller_probes_and_the_others_stay_refused() {
    let (mut circuit, _probe) = Circuit::half_open();
    assert_eq!(circuit.state(5501), State::HalfOpen);
    for _ in 0..10 {
        assert_eq!(circuit.ask().unwrap_err(), Refused::Probing);
    }
}

#[test]
fn a_probe_that_succeeds_closes_it_and_empties_the_window() {
    let (mut circuit, probe) = Circuit::half_open();
    circuit.end(probe, Outcome::Success);
    assert_eq!(circuit.state(5501), State::Closed);
    assert_eq!(circuit.breaker.snapshot(circuit.time()).counts, Counts::default());
    circuit.calls(5501, 19, Outcome::Failure);
    assert_eq!(circuit.state(6000), State::Closed);
}

#[test]
fn a_probe_that_ends_in_any_other_way_opens_it_anew() {
    for outcome in [Outcome::Failure, Outcome::Ignored] {
        let (mut circuit, probe) = Circuit::half_open();
        circuit.at(5900);
        circuit.end(probe, outcome);
        circuit.at(10_900);
        assert_eq!(circuit.ask().unwrap_err(), Refused::Open(Duration::ZERO), "{outcome:?}");
        circuit.at(10_901);
        assert!(circuit.ask().unwrap().is_probe());
    }
}

#[test]
fn the_sleep_does_not_grow() {
    let (mut circuit, mut probe) = Circuit::half_open();
    for round in 1..5 {
        circuit.end(probe, Outcome::Failure);
        circuit.at(5501 + round * 5001);
        probe = circuit.ask().unwrap();
    }
}

#[test]
fn forced_open_beats_all() {
    let mut circuit = Circuit::new();
    circuit.at(100);
    circuit.breaker.force(Some(Forced::Open));
    assert_eq!(circuit.ask().unwrap_err(), Refused::Forced);
    assert!(circuit.breaker.snapshot(circuit.time()).refuses());
}

#[test]
fn forced_closed_beats_the_state() {
    let circuit = Circuit::open();
    circuit.breaker.force(Some(Forced::Closed));
    circuit.end(circuit.ask().unwrap(), Outcome::Failure);
    let snapshot = circuit.breaker.snapshot(circuit.time());
    assert!(!snapshot.refuses());
    assert_eq!(snapshot.state, State::Open);
    circuit.breaker.force(None);
    assert!(circuit.ask().is_err());
}

#[test]
fn a_disabled_breaker_is_one_forced_closed() {
    let mut circuit = Circuit::new();
    circuit.breaker.force(Some(Forced::Closed));
    circuit.calls(100, 100, Outcome::Failure);
    circuit.calls(600, 100, Outcome::Failure);
    assert!(!circuit.breaker.snapshot(circuit.time()).refuses());
}

#[test]
fn half_open_is_told_as_open() {
    let (circuit, _probe) = Circuit::half_open();
    assert!(circuit.breaker.snapshot(circuit.time()).refuses());
}

#[test]
fn a_probe_that_never_reports_fails_when_its_lease_lapses() {
    let (mut circuit, lost) = Circuit::half_open();
    // The lease is time-out + sleep: to 11501 ms; then it sleeps again.
    circuit.at(11_501);
    assert_eq!(circuit.ask().unwrap_err(), Refused::Probing);
    circuit.at(11_502);
    assert_eq!(circuit.ask().unwrap_err(), Refused::Open(Duration::from_millis(4999)));
    circuit.at(16_502);
    assert!(circuit.ask().unwrap().is_probe());
    circuit.end(lost, Outcome::Success);
    assert_eq!(circuit.state(16_502), State::HalfOpen, "it is another probe that counts now");
}
