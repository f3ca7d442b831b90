//! A limit that follows what the called one has room for.
//!
//! Calls are looked at in windows; at the end of each an [`Algorithm`] says what the limit is to
//! be. Two things make such limits drift in other implementations, and here do not:
//! - *a caller that does not use the limit* teaches nothing about it: a limit grows only in windows
//!   in which at least half of it was used;
//! - *overload that lasts* makes latencies without a queue look like those with one, once the
//!   averages have followed. The latency without a queue never follows upwards; when
//!   it has not been seen for a while the limit is lowered for a moment and it is measured anew, as
//!   BBR does (Cardwell and others, ACM Queue 2016) and Envoy's adaptive concurrency.

mod aimd;
mod baseline;
mod gradient;
#[cfg(all(test, not(loom)))]
mod tests;
mod vegas;

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use super::{Full, enter, leave};
use crate::invalid::{Invalid, check};
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, Padded};
use crate::time::{Time, ns};
pub use aimd::Aimd;
pub use gradient::Gradient;
pub use vegas::Vegas;

/// What a window of calls showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The shortest latency; zero without an answered call.
    pub least: Duration,
    /// The mean latency; zero without an answered call.
    pub mean: Duration,
    /// Calls that were answered.
    pub answered: u32,
    /// Calls that were dropped: refused for overload, or timed out.
    pub dropped: u32,
    /// The most calls that were under way at a time.
    pub most_in_flight: u32,
    /// How long the window was.
    pub length: Duration,
}

impl Sample {
    /// Whether at least half of a limit was used, so that the window says something about it.
    #[must_use]
    pub fn uses(&self, limit: f64) -> bool {
        f64::from(self.most_in_flight) * 2.0 >= limit
    }
}

/// How a limit follows the windows.
pub trait Algorithm: fmt::Debug + Send {
    /// The limit for the next window, given this one's. It is kept within the bounds.
    fn next(&mut self, limit: f64, sample: &Sample) -> f64;
}

/// Where a limit begins and what it never leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// At least 1.
    pub least: u32,
    /// Where it begins.
    pub initial: u32,
    /// Up to a million.
    pub most: u32,
    /// The least length of a window; it also lasts until ten calls have ended, or one was dropped.
    pub window: Duration,
}

/// 20, within 4 and 1000, by windows of 100 ms.
impl Default for Bounds {
    fn default() -> Self {
        Self { least: 4, initial: 20, most: 1000, window: Duration::from_millis(100) }
    }
}

const LEAST_CALLS: u32 = 10;

/// No latency is less, so that quotients of latencies are numbers.
const LEAST_S: f64 = 1e-9;

/// A limit with its algorithm, shared by all threads that call the same thing.
#[derive(Debug)]
pub struct Adaptive {
    in_flight: Padded<AtomicU32>,
    limit: AtomicU32,
    seen: Padded<Seen>,
    bounds: Bounds,
    /// Held by who ends a window.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    algorithm: Box<dyn Algorithm>,
    limit: f64,
    begin: Time,
}

/// What the current window saw so far.
#[derive(Debug)]
struct Seen {
    end_ns: AtomicU64,
    least_ns: AtomicU64,
    sum_ns: AtomicU64,
    answered: AtomicU32,
    dropped: AtomicU32,
    most_in_flight: AtomicU32,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an answer; its latency counts.
    Answered,
    /// Refused for overload by the called one, or timed out.
    Dropped,
    /// In a way that says nothing of load: cancelled, or failed at once.
    Ignored,
}

/// A place among the calls under way, given back when it is dropped; [`Permit::end`] also tells how
/// the call ended. `L` is `&Adaptive` or `Arc<Adaptive>`.
#[derive(Debug)]
#[must_use = "the place is given back when it is dropped"]
pub struct Permit<L: Deref<Target = Adaptive>> {
    limiter: L,
    since: Time,
}

impl<L: Deref<Target = Adaptive>> Permit<L> {
    /// Gives the place back and tells how the call ended.
    #[inline]
    pub fn end(self, now: Time, ended: Ended) {
        self.limiter.see(now, self.since, ended);
    }
}

impl<L: Deref<Target = Adaptive>> Drop for Permit<L> {
    #[inline]
    fn drop(&mut self) {
        leave(&self.limiter.in_flight);
    }
}

impl Adaptive {
    /// A limit that begins as the bounds say.
    ///
    /// # Errors
    /// Bounds that contradict each other.
    pub fn new(algorithm: impl Algorithm + 'static, bounds: Bounds) -> Result<Self, Invalid> {
        let Bounds { least, initial, most, window } = bounds;
        check(least >= 1, "least", &least, "at least 1")?;
        check((least..=most).contains(&initial), "initial", &initial, "`least` to `most`")?;
        check(most <= 1_000_000, "most", &most, "up to 1000000")?;
        check(!window.is_zero(), "window", &window, "a time above 0")?;
        let limit = f64::from(initial);
        let state = State { algorithm: Box::new(algorithm), limit, begin: Time::ORIGIN };
        let seen = Seen {
            end_ns: AtomicU64::new(ns(window)),
            least_ns: AtomicU64::new(u64::MAX),
            sum_ns: AtomicU64::new(0),
            answered: AtomicU32::new(0),
            dropped: AtomicU32::new(0),
            most_in_flight: AtomicU32::new(0),
        };
        Ok(Self {
            in_flight: Padded(AtomicU32::new(0)),
            limit: AtomicU32::new(initial),
            seen: Padded(seen),
            bounds,
            state: Mutex::new(state),
        })
    }

    /// Takes a place.
    ///
    /// # Errors
    /// All are taken.
    #[inline]
    pub fn acquire<L: Deref<Target = Self>>(this: L, now: Time) -> Result<Permit<L>, Full> {
        let in_flight = enter(&this.in_flight, this.limit())?;
        if in_flight > this.seen.most_in_flight.load(Ordering::Relaxed) {
            this.seen.most_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        }
        Ok(Permit { limiter: this, since: now })
    }

    /// How many calls may be under way now.
    #[inline]
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// How many calls are under way.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    #[inline]
    fn see(&self, now: Time, since: Time, ended: Ended) {
        match ended {
            Ended::Ignored => return,
            Ended::Dropped => {
                self.seen.dropped.fetch_add(1, Ordering::Relaxed);
            }
            Ended::Answered => self.seen.answered(ns(now - since)),
        }
        if now.as_ns() >= self.seen.end_ns.load(Ordering::Relaxed) {
            self.end_window(now);
        }
    }

    /// Others that end calls meanwhile are counted in this window or the next.
    #[cold]
    fn end_window(&self, now: Time) {
        let Ok(mut state) = self.state.try_lock() else { return };
        let over = now.as_ns() >= self.seen.end_ns.load(Ordering::Relaxed);
        if !over || !self.seen.says_enough() {
            return;
        }
        let sample = self.seen.take(now - state.begin, self.in_flight());
        let limit = state.limit;
        let next = state.algorithm.next(limit, &sample);
        let (least, most) = (f64::from(self.bounds.least), f64::from(self.bounds.most));
        state.limit = next.clamp(least, most);
        state.begin = now;
        self.limit.store(state.limit as u32, Ordering::Relaxed);
        self.seen.end_ns.store((now + self.bounds.window).as_ns(), Ordering::Relaxed);
    }
}

impl Seen {
    #[inline]
    fn answered(&self, latency_ns: u64) {
        if latency_ns < self.least_ns.load(Ordering::Relaxed) {
            self.least_ns.fetch_min(latency_ns, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(latency_ns, Ordering::Relaxed);
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    fn says_enough(&self) -> bool {
        self.dropped.load(Ordering::Relaxed) > 0
            || self.answered.load(Ordering::Relaxed) >= LEAST_CALLS
    }

    fn take(&self, length: Duration, in_flight: u32) -> Sample {
        let answered = self.answered.swap(0, Ordering::Relaxed);
        let sum_ns = self.sum_ns.swap(0, Ordering::Relaxed);
        let least_ns = self.least_ns.swap(u64::MAX, Ordering::Relaxed);
        Sample {
            least: Duration::from_nanos(if least_ns == u64::MAX { 0 } else { least_ns }),
            mean: Duration::from_nanos(sum_ns.checked_div(u64::from(answered)).unwrap_or(0)),
            answered,
            dropped: self.dropped.swap(0, Ordering::Relaxed),
            most_in_flight: self.most_in_flight.swap(in_flight, Ordering::Relaxed),
            length,
        }
    }
}
