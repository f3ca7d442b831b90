use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// A bucket that tokens drip into, in 1/interval of a token.
#[derive(Clone)]
struct Bucket {
    tokens_ns: u64,
    at: u64,
}

impl Bucket {
    fn take(&mut self, gauge: Gauge, now: u64, cost: u32) -> bool {
        self.tokens_ns = (self.tokens_ns + now - self.at).min(gauge.burst_ns);
        self.at = now;
        let cost_ns = gauge.interval_ns * u64::from(cost);
        let may = cost_ns <= self.tokens_ns;
        if may {
            self.tokens_ns -= cost_ns;
        }
        may
    }
}

fn rate() -> impl Strategy<Value = Rate> {
    (1..50_u32, 50..5000_u64, 1..20_u32).prop_map(|(count, ns, burst)| Rate {
        count,
        period: Duration::from_nanos(ns),
        burst,
    })
}

proptest! {
    #[test]
    fn it_is_a_token_bucket(
        rate in rate(),
        steps in prop::collection::vec((0..200_u64, 0..4_u32), 1..200),
    ) {
        let gcra = Gcra::new(rate).unwrap();
        let mut bucket = Bucket { tokens_ns: gcra.gauge.burst_ns, at: 0 };
        let mut now = 0;
        for (after, cost) in steps {
            now += after;
            let taken = gcra.take(Time::from_ns(now), cost);
            let before = bucket.clone();
            prop_assert_eq!(taken.is_ok(), bucket.take(gcra.gauge, now, cost));
            match taken {
                Err(Limited::For(wait)) => {
                    // It is allowed after just so long.
                    let then = now + ns(wait);
                    prop_assert!(before.clone().take(gcra.gauge, then, cost));
                    prop_assert!(!before.clone().take(gcra.gauge, then - 1, cost));
                }
                Err(Limited::Always { burst }) => prop_assert!(cost > burst),
                Ok(()) => {}
            }
        }
    }

    #[test]
    fn each_key_has_a_bucket_while_there_is_room(
        rate in rate(),
        steps in prop::collection::vec((0..200_u64, 0..8_u64), 1..300),
    ) {
        // One set, and no more keys than it has places.
        let keyed = Keyed::new(rate, 8).unwrap();
        let gauge = rate.gauge().unwrap();
        let mut buckets = HashMap::new();
        let mut now = 0;
        for (after, key) in steps {
            now += after;
            let full = Bucket { tokens_ns: gauge.burst_ns, at: now };
            let naive = buckets.entry(key).or_insert(full).take(gauge, now, 1);
            prop_assert_eq!(keyed.take(key, Time::from_ns(now), 1).is_ok(), naive);
        }
    }
}

#[test]
fn more_keys_than_room_take_the_place_of_the_most_idle() {
    let rate = Rate { count: 1, period: Duration::from_secs(1), burst: 5 };
    let keyed = Keyed::new(rate, 8).unwrap();
    let now = Time::from_ns(5);
    let drain = |key| std::iter::from_fn(|| keyed.take(key, now, 1).ok()).count();
    assert!((0..7).all(|key| drain(key) == 5));
    assert_eq!(keyed.take(7, now, 1), Ok(()));
    for stranger in 100..1000 {
        assert_eq!(keyed.take(stranger, now, 1), Ok(()));
    }
    assert!((0..7).all(|key| drain(key) == 0), "who is at the limit was not forgotten");
    assert_eq!(drain(7), 5, "who was near its full burst was");
}

#[test]
fn two_threads_do_not_exceed_it() {
    let gcra = Gcra::new(Rate::per_second(1000)).unwrap();
    let take = || (0..2000).filter(|_| gcra.take(Time::from_ns(5), 1).is_ok()).count();
    let taken = std::thread::scope(|scope| {
        let other = scope.spawn(take);
        take() + other.join().unwrap()
    });
    assert_eq!(taken, 1000);
}

#[test]
fn rates_that_cannot_be_are_refused() {
    let named = |rate| Gcra::new(rate).unwrap_err().field;
    assert_eq!(named(Rate::per_second(0)), "count");
    let per_second = Rate::per_second(10);
    assert_eq!(named(Rate { burst: 0, ..per_second }), "burst");
    assert_eq!(named(Rate { period: Duration::from_nanos(9), ..per_second }), "period");
    assert_eq!(Keyed::new(per_second, 7).unwrap_err().field, "keys");
}
