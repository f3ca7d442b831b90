//! What a backend has to do, and how soon it does it.

use std::time::Duration;

use crate::invalid::{Invalid, check};
use crate::sync::{AtomicU32, AtomicU64, Ordering, Padded};
use crate::time::{Time, ns};

/// Calls under way at one backend, and its latency by Finagle's peak-EWMA: a slower call counts at
/// once, faster ones little by little, and so does time without calls. Its cost is latency ×
/// (calls under way + 1).
///
/// The weight of the past is 1 / (1 + t / decay), which of many calls in a row is e^(-t / decay).
#[derive(Debug)]
pub struct Load(Padded<Inner>);

#[derive(Debug)]
struct Inner {
    decay_ns: f64,
    in_flight: AtomicU32,
    /// The bits of an `f64`; 0: not known.
    latency_ns: AtomicU64,
    at_ns: AtomicU64,
}

/// The cost of one that has calls and never answered: above all that have.
const UNANSWERED: f64 = 1e30;

impl Load {
    /// One without calls. `decay` is the time in which a latency loses half of its weight or more
    /// (10 s is usual).
    ///
    /// # Errors
    /// A decay of no time.
    pub fn new(decay: Duration) -> Result<Self, Invalid> {
        check(!decay.is_zero(), "decay", &decay, "a time above 0")?;
        Ok(Self(Padded(Inner {
            decay_ns: ns(decay) as f64,
            in_flight: AtomicU32::new(0),
            latency_ns: AtomicU64::new(0),
            at_ns: AtomicU64::new(0),
        })))
    }

    /// A call begins. It has to end with [`Load::end`] or [`Load::cancel`].
    #[inline]
    pub fn begin(&self) {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A call ends with an answer after so long.
    #[inline]
    pub fn end(&self, now: Time, latency: Duration) {
        self.cancel();
        let latency = ns(latency) as f64;
        let weight = self.weight(now);
        let word = &self.0.latency_ns;
        let mut seen = word.load(Ordering::Relaxed);
        loop {
            let old = f64::from_bits(seen);
            let next = if latency >= old { latency } else { latency + (old - latency) * weight };
            let bits = next.to_bits();
            match word.compare_exchange_weak(seen, bits, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        self.0.at_ns.fetch_max(now.as_ns(), Ordering::Relaxed);
    }

    /// A call ends in a way that says nothing of its latency.
    #[inline]
    pub fn cancel(&self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Calls under way.
    #[inline]
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// The latency that a call would meet, as far as it is known.
    #[inline]
    #[must_use]
    pub fn latency(&self, now: Time) -> Duration {
        Duration::from_nanos(self.latency_ns(now) as u64)
    }

    /// What a call there would cost, for [`p2c`](super::p2c()) and [`least`](super::least()). One
    /// that nobody has called yet costs nothing; one that never answered costs most.
    #[inline]
    #[must_use]
    pub fn cost(&self, now: Time) -> f64 {
        let (latency, in_flight) = (self.latency_ns(now), f64::from(self.in_flight()));
        if latency == 0.0 && in_flight > 0.0 {
            return UNANSWERED + in_flight;
        }
        latency * (in_flight + 1.0)
    }

    #[inline]
    fn latency_ns(&self, now: Time) -> f64 {
        f64::from_bits(self.0.latency_ns.load(Ordering::Relaxed)) * self.weight(now)
    }

    #[inline]
    fn weight(&self, now: Time) -> f64 {
        let since = now.as_ns().saturating_sub(self.0.at_ns.load(Ordering::Relaxed));
        self.0.decay_ns / (self.0.decay_ns + since as f64)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load() -> Load {
        Load::new(Duration::from_secs(10)).unwrap()
    }

    fn at(ms: u64) -> Time {
        Time::ORIGIN + Duration::from_millis(ms)
    }

    fn call(load: &Load, now: u64, latency_ms: u64) {
        load.begin();
        load.end(at(now), Duration::from_millis(latency_ms));
    }

    #[test]
    fn a_slow_call_counts_at_once_and_a_fast_one_little_by_little() {
        let load = load();
        call(&load, 0, 10);
        call(&load, 0, 100);
        assert_eq!(load.latency(at(0)), Duration::from_millis(100));
        call(&load, 1000, 10);
        let latency = load.latency(at(1000)).as_millis();
        assert!((85..95).contains(&latency), "{latency}");
    }

    #[test]
    fn many_small_steps_decay_as_an_exponential_does() {
        let load = load();
        call(&load, 0, 1000);
        (1..=10_000).for_each(|now| call(&load, now, 0));
        let latency = load.latency(at(10_000)).as_secs_f64();
        assert!((latency - (-1.0_f64).exp()).abs() < 0.001, "{latency}");
    }

    #[test]
    fn one_that_is_left_alone_is_tried_again() {
        let (slow, fast) = (load(), load());
        call(&slow, 0, 100);
        call(&fast, 0, 10);
        assert!(slow.cost(at(1000)) > fast.cost(at(1000)));
        (0..1000).for_each(|s| call(&fast, s * 100, 10));
        assert!(slow.cost(at(100_000)) < fast.cost(at(100_000)));
    }

    #[test]
    fn one_that_never_answered_costs_more_than_one_that_was_never_called() {
        let (hung, new, slow) = (load(), load(), load());
        hung.begin();
        call(&slow, 0, 60_000);
        assert_eq!(new.cost(at(5)), 0.0);
        assert!(hung.cost(at(5)) > slow.cost(at(5)));
    }

    proptest! {
        #[test]
        fn it_is_what_the_formula_says(calls in prop::collection::vec((0..5000_u64, 0..2000_u64), 1..50)) {
            let load = load();
            let (mut now, mut since, mut naive) = (0, 0, 0.0_f64);
            for (after, latency) in calls {
                now += after;
                call(&load, now, latency);
                let latency = latency as f64 / 1000.0;
                let past = 10.0 / (10.0 + (now - since) as f64 / 1000.0);
                naive = latency.max(naive * past + latency * (1.0 - past));
                since = now;
                let found = load.latency(at(now)).as_secs_f64();
                prop_assert!((found - naive).abs() <= 1e-6, "{} is {}", found, naive);
            }
        }
    }
}
