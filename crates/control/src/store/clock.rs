//! Time passed in, so that a simulated day takes no time.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::sync::oneshot;

/// Time since an origin of the clock's own; never goes back.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Duration;

    /// Ready at `time`, or at once when it has been.
    fn sleep_until(&self, time: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep_until(&self, time: Duration) -> BoxFuture<'static, ()> {
        match self.0.checked_add(time) {
            Some(instant) => tokio::time::sleep_until(instant.into()).boxed(),
            None => std::future::pending().boxed(),
        }
    }
}

/// A clock that stands still until it is moved: for tests and simulations.
#[derive(Debug, Default)]
pub struct ManualClock(Mutex<Manual>);

#[derive(Debug, Default)]
struct Manual {
    now: Duration,
    sleepers: BTreeMap<Duration, Vec<oneshot::Sender<()>>>,
}

impl ManualClock {
    /// Moves the clock, and wakes who slept until then.
    pub fn advance(&self, by: Duration) {
        let mut manual = self.lock();
        manual.now += by;
        let later = manual.now + Duration::from_nanos(1);
        let later = manual.sleepers.split_off(&later);
        let woken = std::mem::replace(&mut manual.sleepers, later);
        drop(manual);
        for sleeper in woken.into_values().flatten() {
            // Who sleeps no more is not waited for.
            let _gone = sleeper.send(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Manual> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.lock().now
    }

    fn sleep_until(&self, time: Duration) -> BoxFuture<'static, ()> {
        let mut manual = self.lock();
        if time <= manual.now {
            return std::future::ready(()).boxed();
        }
        let (wake, woken) = oneshot::channel();
        manual.sleepers.entry(time).or_default().push(wake);
        woken.map(drop).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sleepers_wake_at_their_time_and_not_before() {
        let clock = ManualClock::default();
        let mut sleep = clock.sleep_until(Duration::from_secs(5));
        clock.advance(Duration::from_secs(4));
        assert!((&mut sleep).now_or_never().is_none());
        clock.advance(Duration::from_secs(1));
        sleep.await;
        clock.sleep_until(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), Duration::from_secs(5));
    }
}
