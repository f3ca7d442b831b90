//! A second try beside a first one that is late.
//!
//! Of a hundred servers one is slow by chance; who asks another after as long as 95 of a hundred
//! calls take cuts the tail of latency for 5 % more calls (Dean and Barroso, "The Tail at Scale",
//! CACM 2013). Only for calls that may be made twice. When all are slow a second try makes it
//! worse, so hedges have a budget.

use std::time::Duration;

use crate::histogram::Rolling;
use crate::invalid::{Invalid, check};
use crate::retry::{Budget, BudgetSettings};
use crate::sync::{AtomicU64, Ordering};
use crate::time::{Time, ns};

/// Settings of a [`Hedge`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HedgeSettings {
    /// The share of calls that answer before a second one is sent: above 0, below 1.
    pub percentile: f64,
    /// A second call is sent no sooner.
    pub least_delay: Duration,
    /// Hedges for a hundred calls, 1 to 100.
    pub percent: u32,
    /// Until so many calls of the window have been seen none is hedged.
    pub minimum_calls: u64,
    /// How far back latencies are looked at, 1 s to a minute.
    pub window: Duration,
}

/// After the 95th percentile of the last 30 s and 1 ms at least; 5 % of calls; from 100 calls on.
impl Default for HedgeSettings {
    fn default() -> Self {
        Self {
            percentile: 0.95,
            least_delay: Duration::from_millis(1),
            percent: 5,
            minimum_calls: 100,
            window: Duration::from_secs(30),
        }
    }
}

/// When calls of one kind get a second try. Takes 60 KB.
#[derive(Debug)]
pub struct Hedge {
    settings: HedgeSettings,
    latencies: Rolling,
    budget: Budget,
    /// The delay, and until when it holds: percentiles are worth a look only now and then.
    delay_ns: AtomicU64,
    fresh_until_ns: AtomicU64,
}

const BUCKETS: u32 = 6;
const NONE: u64 = u64::MAX;

impl Hedge {
    /// One that has seen nothing yet.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn new(settings: HedgeSettings) -> Result<Self, Invalid> {
        let HedgeSettings { percentile, percent, window, .. } = settings;
        let within = percentile > 0.0 && percentile < 1.0;
        check(within, "percentile", &percentile, "a share above 0 and below 1")?;
        check((1..=100).contains(&percent), "percent", &percent, "1 to 100")?;
        let budget = BudgetSettings { percent, minimum_per_second: 0, window };
        Ok(Self {
            settings,
            budget: Budget::new(budget)?,
            latencies: Rolling::new(window / BUCKETS, BUCKETS)?,
            delay_ns: AtomicU64::new(NONE),
            fresh_until_ns: AtomicU64::new(0),
        })
    }

    /// Counts a call that begins. Answers after how long a second one may be sent, if at all.
    pub fn begin(&self, now: Time) -> Option<Duration> {
        self.budget.deposit(now);
        let fresh_until = self.fresh_until_ns.load(Ordering::Relaxed);
        if now.as_ns() >= fresh_until {
            self.refresh(now, fresh_until);
        }
        let delay_ns = self.delay_ns.load(Ordering::Relaxed);
        (delay_ns != NONE).then(|| Duration::from_nanos(delay_ns))
    }

    /// Asks to send the second call now that the delay is over.
    #[must_use = "a hedge that was refused may not be sent"]
    pub fn take(&self, now: Time) -> bool {
        self.budget.take(now)
    }

    /// Tells how long a call took until its answer, from its first try on.
    pub fn record(&self, now: Time, latency: Duration) {
        self.latencies.record(now, latency);
    }

    #[cold]
    fn refresh(&self, now: Time, seen: u64) {
        // Twice a bucket; sooner while there is none.
        let known = self.delay_ns.load(Ordering::Relaxed) != NONE;
        let half = self.settings.window / (2 * BUCKETS);
        let next = now + if known { half } else { half.min(Duration::from_millis(100)) };
        let (word, relaxed) = (&self.fresh_until_ns, Ordering::Relaxed);
        if word.compare_exchange(seen, next.as_ns(), relaxed, relaxed).is_err() {
            return;
        }
        let found = self.latencies.latency(now, self.settings.percentile);
        let delay = found.filter(|(_, calls)| *calls >= self.settings.minimum_calls);
        let delay_ns = delay.map_or(NONE, |(delay, _)| ns(delay.max(self.settings.least_delay)));
        self.delay_ns.store(delay_ns, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::ORIGIN + Duration::from_millis(ms)
    }

    /// A hundred calls of 1 to 100 ms, all of them known at 1 s.
    fn warm() -> Hedge {
        let hedge = Hedge::new(HedgeSettings::default()).unwrap();
        for ms in 1..=100 {
            assert_eq!(hedge.begin(at(ms)), None, "nothing is known yet");
            hedge.record(at(ms), Duration::from_millis(ms));
        }
        hedge
    }

    #[test]
    fn a_second_call_is_sent_after_the_percentile() {
        let delay = warm().begin(at(1000)).unwrap().as_secs_f64();
        assert!((delay - 0.095).abs() <= 0.095 / 64.0, "{delay}");
    }

    #[test]
    fn it_follows_the_latencies_of_the_last_while() {
        let hedge = warm();
        for ms in 0..200 {
            hedge.record(at(40_000 + ms), Duration::from_millis(10));
        }
        let delay = hedge.begin(at(41_000)).unwrap().as_secs_f64();
        assert!((delay - 0.010).abs() <= 0.010 / 64.0, "{delay}");
        assert_eq!(hedge.begin(at(90_000)), None, "all of it is too long ago");
    }

    #[test]
    fn hedges_are_a_share_of_the_calls() {
        let hedge = warm();
        assert_eq!((0..50).filter(|_| hedge.take(at(1000))).count(), 5);
    }

    #[test]
    fn of_few_calls_no_percentile_is_known() {
        let hedge = Hedge::new(HedgeSettings::default()).unwrap();
        (0..99).for_each(|ms| hedge.record(at(ms), Duration::from_millis(5)));
        assert_eq!(hedge.begin(at(100)), None);
        hedge.record(at(100), Duration::from_millis(5));
        assert!(hedge.begin(at(200)).is_some());
    }

    #[test]
    fn no_delay_is_shorter_than_the_least() {
        let hedge = Hedge::new(HedgeSettings::default()).unwrap();
        (0..200).for_each(|ms| hedge.record(at(ms), Duration::from_micros(20)));
        assert_eq!(hedge.begin(at(300)), Some(Duration::from_millis(1)));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let settings = HedgeSettings { percentile: 1.0, ..HedgeSettings::default() };
        assert_eq!(Hedge::new(settings).unwrap_err().field, "percentile");
    }
}
