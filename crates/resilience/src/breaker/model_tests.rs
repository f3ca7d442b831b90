//! Any calls in any order, against a breaker that keeps every call and has no atomics.

use proptest::prelude::*;

use super::*;
use crate::time::ns;
use crate::window::Span;

const BUCKET: u64 = 50;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Now {
    Closed,
    Open { until: u64 },
    HalfOpen,
}

struct Model {
    settings: Settings,
    state: Now,
    /// Changes of state so far.
    changes: u32,
    /// When a call ended, and whether it failed and was slow.
    calls: Vec<(u64, bool, bool)>,
    /// The bucket end until which health was looked at.
    looked: u64,
    /// Leases of the probes that are out, by their numbers.
    out: Vec<(u32, u64)>,
    given: u32,
    good: u32,
    sleep: u64,
    closed_at: u64,
}

struct Call {
    since: u64,
    changes: u32,
    probe: Option<u32>,
}

impl Model {
    fn exceeded(&self, from: u64, until: u64) -> bool {
        let held = self.calls.iter().filter(|(at, ..)| (from..until).contains(at));
        let calls: Vec<_> = held.collect();
        let failed = calls.iter().filter(|call| call.1).count() * 100;
        let slow = calls.iter().filter(|call| call.2).count() * 100;
        calls.len() >= self.settings.minimum_calls as usize
            && (failed >= calls.len() * usize::from(self.settings.failure_percent)
                || self.settings.slow.is_some_and(|s| slow >= calls.len() * usize::from(s.percent)))
    }

    fn buckets(&self) -> u64 {
        let Span::Time { buckets, .. } = self.settings.window else { unreachable!() };
        u64::from(buckets)
    }

    fn become_state(&mut self, state: Now) {
        self.state = state;
        self.changes += 1;
    }

    fn open(&mut self, at: u64) {
        let first = ns(self.settings.sleep);
        let recovered = self.state == Now::Closed && at.saturating_sub(self.closed_at) > self.sleep;
        self.sleep = if recovered || self.sleep == 0 { first } else { self.sleep * 2 };
        self.sleep = self.sleep.min(ns(self.settings.max_sleep));
        self.become_state(Now::Open { until: at + self.sleep });
    }

    fn look(&mut self, now: u64) {
        while self.settings.evaluate == Evaluate::BucketEnd && self.looked + BUCKET <= now {
            self.looked += BUCKET;
            let from = self.looked.saturating_sub(self.buckets() * BUCKET);
            if self.state == Now::Closed && self.exceeded(from, self.looked) {
                self.open(self.looked);
            }
        }
    }

    fn lapse(&mut self, now: u64) -> bool {
        let first = self.out.iter().map(|(_, lease)| *lease).filter(|lease| now > *lease).min();
        first.inspect(|at| self.open(*at)).is_some()
    }

    fn admit(&mut self, now: u64) -> Option<Call> {
        self.look(now);
        while let Now::HalfOpen | Now::Open { .. } = self.state {
            match self.state {
                Now::Open { until } if now <= until => return None,
                Now::Open { .. } => {
                    self.become_state(Now::HalfOpen);
                    (self.out, self.good) = (Vec::new(), 0);
                }
                _ => {
                    if self.lapse(now) {
                        continue;
                    }
                    if self.out.len() as u32 + self.good == self.settings.probes {
                        return None;
                    }
                    self.given += 1;
                    self.out.push((self.given, now + ns(self.settings.lease)));
                    return Some(Call {
                        since: now,
                        changes: self.changes,
                        probe: Some(self.given),
                    });
                }
            }
        }
        Some(Call { since: now, changes: self.changes, probe: None })
    }

    fn record(&mut self, call: &Call, now: u64, outcome: Outcome) {
        let failed = outcome == Outcome::Failure;
        let slow = self.settings.slow.is_some_and(|slow| now - call.since > ns(slow.after));
        if let Some(probe) = call.probe {
            return self.record_probe(call, probe, now, outcome, slow);
        }
        if outcome == Outcome::Ignored
            || (call.changes != self.changes && !self.settings.late_calls_count)
        {
            return;
        }
        self.look(now);
        self.calls.push((now, failed, slow));
        let from = (now / BUCKET + 1).saturating_sub(self.buckets()) * BUCKET;
        if self.settings.evaluate == Evaluate::EveryCall
            && self.state == Now::Closed
            && self.exceeded(from, u64::MAX)
        {
            self.open(now);
        }
    }

    fn record_probe(&mut self, call: &Call, probe: u32, now: u64, outcome: Outcome, slow: bool) {
        if call.changes != self.changes || self.lapse(now) {
            return;
        }
        self.out.retain(|(number, _)| *number != probe);
        match outcome {
            Outcome::Ignored if !self.settings.ignored_probe_fails => {}
            Outcome::Success if !slow => {
                self.good += 1;
                if self.good == self.settings.probes {
                    self.calls.clear();
                    self.closed_at = now;
                    self.become_state(Now::Closed);
                }
            }
            _ => self.open(now),
        }
    }
}

fn settings() -> impl Strategy<Value = Settings> {
    let evaluate = prop_oneof![Just(Evaluate::EveryCall), Just(Evaluate::BucketEnd)];
    let slow = prop::option::of((1..60_u64, 1..=100_u8));
    (evaluate, slow, 1..6_u32, 1..=100_u8, 1..4_u32, any::<(bool, bool)>(), 1..5_u32).prop_map(
        |(evaluate, slow, minimum_calls, failure_percent, probes, flags, buckets)| Settings {
            window: Span::Time { bucket: Duration::from_nanos(BUCKET), buckets },
            evaluate,
            minimum_calls,
            failure_percent,
            slow: slow.map(|(after, percent)| Slow { after: Duration::from_nanos(after), percent }),
            sleep: Duration::from_nanos(70),
            max_sleep: Duration::from_nanos(500),
            probes,
            lease: Duration::from_nanos(90),
            ignored_probe_fails: flags.0,
            late_calls_count: flags.1,
        },
    )
}

#[derive(Clone, Debug)]
enum Step {
    Ask,
    End { which: prop::sample::Index, outcome: Outcome },
}

fn step() -> impl Strategy<Value = (u64, Step)> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Success),
        4 => Just(Outcome::Failure),
        1 => Just(Outcome::Ignored)
    ];
    let end = (any::<prop::sample::Index>(), outcome);
    let step =
        prop_oneof![Just(Step::Ask), end.prop_map(|(which, outcome)| Step::End { which, outcome })];
    (prop_oneof![8 => 0..20_u64, 1 => 0..400_u64], step)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]
    #[test]
    fn it_is_what_a_naive_breaker_is(
        settings in settings(),
        steps in prop::collection::vec(step(), 0..250),
    ) {
        let breaker = Breaker::new(settings).unwrap();
        let mut model = Model {
            settings, state: Now::Closed, changes: 0, calls: Vec::new(), looked: 0,
            out: Vec::new(), given: 0, good: 0, sleep: 0, closed_at: 0,
        };
        let mut calls: Vec<(Permit, Call)> = Vec::new();
        let mut now = 0;
        for (after, step) in steps {
            now += after;
            let time = Time::from_ns(now);
            match step {
                Step::Ask => match (breaker.admit(time), model.admit(now)) {
                    (Ok(permit), Some(call)) => {
                        prop_assert_eq!(permit.is_probe(), call.probe.is_some());
                        calls.push((permit, call));
                    }
                    (Err(_), None) => {}
                    (ours, naive) => prop_assert!(
                        false, "at {}: {:?}, naively {}", now, ours, naive.is_some()
                    ),
                },
                Step::End { which, outcome } if !calls.is_empty() => {
                    let (permit, call) = calls.swap_remove(which.index(calls.len()));
                    breaker.record(permit, time, outcome);
                    model.record(&call, now, outcome);
                }
                Step::End { .. } => {}
            }
            let snapshot = breaker.snapshot(time);
            model.look(now);
            let state = match model.state {
                Now::Closed => State::Closed,
                Now::Open { .. } => State::Open,
                Now::HalfOpen => State::HalfOpen,
            };
            prop_assert_eq!(snapshot.state, state);
        }
    }
}
