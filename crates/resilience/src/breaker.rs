//! A circuit breaker: when calls fail, or are slow, nobody is called for a while.
//!
//! *Closed* passes calls and counts them. When too many of a [`Window`] failed it *opens* and
//! refuses all. After a sleep that grows with each failed attempt it is *half open*: a few calls
//! may probe, and all of them have to succeed to close it. A probe holds a lease: one that never
//! reports counts as failed when its lease lapses, so a half-open circuit never sticks.
//!
//! The names are those of Nygard's "Release It!"; [`Settings::hystrix`] is Hystrix's algorithm.
//!
//! ```
//! use sinew_resilience::{Clock, breaker::{Breaker, Outcome, Settings}};
//!
//! let (clock, breaker) = (Clock::start(), Breaker::new(Settings::default())?);
//! match breaker.admit(clock.now()) {
//!     Ok(permit) => breaker.record(permit, clock.now(), Outcome::Success),
//!     Err(refused) => println!("{refused}"),
//! }
//! # Ok::<(), sinew_resilience::Invalid>(())
//! ```
//!
//! While it is closed or open no call takes a lock: the state is one word, and the counts are the
//! window's. Changes of state and probes are under a lock, for which no call that is refused waits.

mod half_open;
mod settings;
mod word;

#[cfg(all(test, not(loom)))]
mod hystrix_tests;
#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod model_tests;
#[cfg(all(test, not(loom)))]
mod tests;

use std::fmt;
use std::time::Duration;

use crate::invalid::Invalid;
use crate::sync::{AtomicU64, Mutex, Ordering, Padded, lock};
use crate::time::Time;
use crate::window::{Counts, Window};
use half_open::{Lapse, Probes, Report};
pub use settings::{Evaluate, Settings, Slow};
use word::Word;

/// A circuit breaker, shared by all threads that call the same thing.
#[derive(Debug)]
pub struct Breaker {
    word: Padded<AtomicU64>,
    settings: Settings,
    window: Window,
    change: Mutex<Change>,
}

/// What only a change of state needs.
#[derive(Debug)]
struct Change {
    probes: Probes,
    /// Raised with each change, so that no two states have the same word.
    generation: u64,
    /// The sleep of the time it was last open; none if never.
    sleep: Duration,
    closed_at: Time,
}

/// The right to make one call; what became of it is told with [`Breaker::record`]. A call that is
/// never told of does not count, but a probe's lease lapses and fails it.
#[derive(Debug)]
#[must_use = "a probe that is not recorded counts as failed when its lease lapses"]
pub struct Permit {
    word: Word,
    since: Time,
    probe: Option<u32>,
}

impl Permit {
    /// Whether the call probes a half-open circuit.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Success,
    /// Badly, and the called one is at fault: an error, a time-out, a refusal.
    Failure,
    /// It says nothing of the called one: a bad request, or the caller gave up.
    Ignored,
}

/// What a circuit is, apart from what it is forced to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls probe; others are refused.
    HalfOpen,
}

/// What a person made of a circuit, whatever its state. The state goes on below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forced {
    /// All calls are refused.
    Open,
    /// All calls pass.
    Closed,
}

/// The circuit let no call through. Nothing was sent: another backend may be tried at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is open, for so much longer.
    Open(Duration),
    /// As many calls as may probe it do so now.
    Probing,
    /// It was forced open.
    Forced,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(left) => write!(f, "the circuit is open: try again in {left:?}"),
            Self::Probing => f.write_str("the circuit is half open, and all its probes are out"),
            Self::Forced => f.write_str("the circuit was forced open"),
        }
    }
}

impl std::error::Error for Refused {}

/// A circuit at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its own state.
    pub state: State,
    /// What it is forced to, if anything.
    pub forced: Option<Forced>,
    /// What its window holds.
    pub counts: Counts,
}

impl Snapshot {
    /// Whether ordinary calls are refused: what Hystrix reports as `isCircuitBreakerOpen`.
    #[must_use]
    pub fn refuses(&self) -> bool {
        match self.forced {
            Some(forced) => forced == Forced::Open,
            None => self.state != State::Closed,
        }
    }
}

impl Breaker {
    /// A closed circuit.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn new(settings: Settings) -> Result<Self, Invalid> {
        settings.check()?;
        let change = Change {
            probes: Probes::new(settings.probes),
            generation: 0,
            sleep: Duration::ZERO,
            closed_at: Time::ORIGIN,
        };
        Ok(Self {
            word: Padded(AtomicU64::new(Word::closed(0).bits())),
            window: Window::new(settings.window)?,
            change: Mutex::new(change),
            settings,
        })
    }

    /// The settings it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Asks to make a call.
    ///
    /// # Errors
    /// The circuit refuses it.
    #[inline]
    pub fn admit(&self, now: Time) -> Result<Permit, Refused> {
        if self.settings.evaluate == Evaluate::BucketEnd {
            self.end_buckets(now);
        }
        let word = self.word();
        if word.is_closed() && word.forced().is_none() {
            return Ok(Permit { word, since: now, probe: None });
        }
        self.admit_unless_refused(word, now)
    }

    fn admit_unless_refused(&self, word: Word, now: Time) -> Result<Permit, Refused> {
        match word.forced() {
            Some(Forced::Open) => return Err(Refused::Forced),
            Some(Forced::Closed) => return Ok(Permit { word, since: now, probe: None }),
            None => {}
        }
        match word.open_until() {
            Some(until) if now <= until => Err(Refused::Open(until - now)),
            _ => self.probe(now),
        }
    }

    /// Tells how a call ended. One admitted before the last change of state counts only where the
    /// settings say so.
    #[inline]
    #[expect(clippy::needless_pass_by_value, reason = "a permit is for one call")]
    pub fn record(&self, permit: Permit, now: Time, outcome: Outcome) {
        let Permit { word, since, probe } = permit;
        let slow = self.settings.slow.is_some_and(|slow| now - since > slow.after);
        match probe {
            Some(probe) => self.record_probe(word, probe, now, outcome, slow),
            None if outcome == Outcome::Ignored => {}
            None => self.record_call(word, now, outcome == Outcome::Failure, slow),
        }
    }

    #[inline]
    fn record_call(&self, admitted: Word, now: Time, failed: bool, slow: bool) {
        let word = self.word();
        if !word.is_same_state(admitted) && !self.settings.late_calls_count {
            return;
        }
        match self.settings.evaluate {
            Evaluate::EveryCall => {
                let counts = self.window.record(now, failed, slow);
                if word.is_closed() && self.settings.exceeded(counts) {
                    self.trip(word, now);
                }
            }
            Evaluate::BucketEnd => {
                self.end_buckets(now);
                self.window.add(failed, slow);
            }
        }
    }

    #[inline]
    fn end_buckets(&self, now: Time) {
        let seen = self.word();
        if let Some(at) = self.window.advance(now, |counts| self.settings.exceeded(counts)) {
            self.trip(seen, at);
        }
    }

    /// Opens it, unless it is no longer as it was seen.
    #[cold]
    fn trip(&self, seen: Word, at: Time) {
        let mut change = lock(&self.change);
        if seen.is_closed() && self.word().is_same_state(seen) {
            self.open(&mut change, at);
        }
    }

    fn open(&self, change: &mut Change, at: Time) {
        // One that was closed for long has recovered; else the next sleep is longer.
        let recovered = at - change.closed_at > change.sleep && self.word().is_closed();
        let again = !recovered && !change.sleep.is_zero();
        let grown = if again { change.sleep.saturating_mul(2) } else { self.settings.sleep };
        change.sleep = grown.min(self.settings.max_sleep);
        self.become_state(Word::open(at + change.sleep));
    }

    fn close(&self, change: &mut Change, now: Time) {
        self.window.clear();
        change.closed_at = now;
        change.generation += 1;
        self.become_state(Word::closed(change.generation));
    }

    #[cold]
    fn probe(&self, now: Time) -> Result<Permit, Refused> {
        // Who comes while another one takes the probe has not got it; nobody waits for that.
        let Ok(mut change) = self.change.try_lock() else { return Err(Refused::Probing) };
        loop {
            let word = self.word();
            if word.is_closed() {
                return Ok(Permit { word, since: now, probe: None });
            }
            match word.open_until() {
                Some(until) if now <= until => return Err(Refused::Open(until - now)),
                Some(_) => self.half_open(&mut change),
                None => match change.probes.lapsed(now) {
                    Some(Lapse { at }) => self.open(&mut change, at),
                    None => return self.take_probe(&mut change, now),
                },
            }
        }
    }

    fn half_open(&self, change: &mut Change) {
        change.probes.begin();
        change.generation += 1;
        self.become_state(Word::half_open(change.generation));
    }

    fn take_probe(&self, change: &mut Change, now: Time) -> Result<Permit, Refused> {
        let probe = change.probes.take(now + self.settings.lease).ok_or(Refused::Probing)?;
        Ok(Permit { word: self.word(), since: now, probe: Some(probe) })
    }

    #[cold]
    fn record_probe(&self, admitted: Word, probe: u32, now: Time, outcome: Outcome, slow: bool) {
        let mut change = lock(&self.change);
        if !self.word().is_same_state(admitted) {
            return;
        }
        if let Some(Lapse { at }) = change.probes.lapsed(now) {
            return self.open(&mut change, at);
        }
        match outcome {
            Outcome::Ignored if !self.settings.ignored_probe_fails => {
                change.probes.give_back(probe);
            }
            Outcome::Success if !slow => {
                if change.probes.succeed(probe) == Report::All {
                    self.close(&mut change, now);
                }
            }
            _ => self.open(&mut change, now),
        }
    }

    /// Forces it open or closed; `None` lets it go its own way again, from the state it is in.
    pub fn force(&self, forced: Option<Forced>) {
        let _change = lock(&self.change);
        self.word.store(self.word().with_forced(forced).bits(), Ordering::Release);
    }

    /// Closes it and forgets what it counted: for a person who knows that the cause is gone.
    pub fn reset(&self, now: Time) {
        let mut change = lock(&self.change);
        change.sleep = Duration::ZERO;
        self.close(&mut change, now);
    }

    /// What it is at this moment. An open circuit stays open until somebody asks to probe it.
    pub fn snapshot(&self, now: Time) -> Snapshot {
        if self.settings.evaluate == Evaluate::BucketEnd {
            self.end_buckets(now);
        }
        let word = self.word();
        Snapshot { state: word.state(), forced: word.forced(), counts: self.window.counts(now) }
    }

    fn word(&self) -> Word {
        Word::from_bits(self.word.load(Ordering::Acquire))
    }

    /// Called with the lock held, as [`Breaker::force`] is: both write the whole word.
    fn become_state(&self, state: Word) {
        let forced = self.word().forced();
        self.word.store(state.with_forced(forced).bits(), Ordering::Release);
    }
}
