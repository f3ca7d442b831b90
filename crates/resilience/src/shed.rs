//! Under overload the least important calls are refused first.
//!
//! This is DAGOR, the overload control of WeChat (Zhou and others, SoCC 2018). Overload is seen by
//! how long calls wait before they are begun: that says what a service can do better than its
//! processor's load does. Calls have a priority and, within it, a level by their user, so that a
//! little less or more can be let in, and one user's calls fare alike all along a chain of
//! services. Each window the level up to which calls are let in moves: down by 5 % of what was let
//! in under overload, else up by 1 % of what came.

use std::fmt;
use std::time::Duration;

use crate::draw::mix;
use crate::invalid::{Invalid, check};
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering};
use crate::time::{Time, ns};

/// How much depends on a call; 0 is never shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u8);

/// How many priorities there are.
pub const PRIORITIES: u8 = 8;

impl Priority {
    /// Never shed: health checks, what ends other work.
    pub const CRITICAL: Self = Self(0);
    /// What a person waits for.
    pub const USER: Self = Self(2);
    /// What nobody waits for.
    pub const BATCH: Self = Self(7);

    /// A priority, 0 (never shed) to 7 (shed first).
    ///
    /// # Errors
    /// A greater number.
    pub fn new(priority: u8) -> Result<Self, Invalid> {
        check(priority < PRIORITIES, "priority", &priority, "0 to 7")?;
        Ok(Self(priority))
    }
}

/// Settings of a [`Shedder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShedSettings {
    /// Calls that on average wait longer than this before they are begun are overload.
    pub longest_wait: Duration,
    /// How often the level moves at least.
    pub window: Duration,
    /// After so many calls it moves sooner; at least 1.
    pub calls: u32,
}

/// The paper's: 20 ms; each second or 2000 calls.
impl Default for ShedSettings {
    fn default() -> Self {
        let (longest_wait, window) = (Duration::from_millis(20), Duration::from_secs(1));
        Self { longest_wait, window, calls: 2000 }
    }
}

/// The call was refused for the sake of more important ones. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed;

impl fmt::Display for Shed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the call was refused under overload, for the sake of more important ones")
    }
}

impl std::error::Error for Shed {}

/// Levels within a priority.
const USERS: u32 = 128;
const LEVELS: u32 = PRIORITIES as u32 * USERS;

/// Decides which calls a service lets in.
#[derive(Debug)]
pub struct Shedder {
    settings: ShedSettings,
    /// Calls of lower levels than this are let in.
    level: AtomicU32,
    /// Of this window: calls that came, by level.
    came: Box<[AtomicU32]>,
    calls: AtomicU32,
    admitted: AtomicU32,
    begun: AtomicU32,
    waited_ns: AtomicU64,
    end_ns: AtomicU64,
    /// Held by who ends a window.
    ending: Mutex<()>,
}

impl Shedder {
    /// One that lets all in.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn new(settings: ShedSettings) -> Result<Self, Invalid> {
        let ShedSettings { longest_wait, window, calls } = settings;
        check(!longest_wait.is_zero(), "longest_wait", &longest_wait, "a time above 0")?;
        check(!window.is_zero(), "window", &window, "a time above 0")?;
        check(calls > 0, "calls", &calls, "at least 1")?;
        Ok(Self {
            settings,
            level: AtomicU32::new(LEVELS),
            came: (0..LEVELS).map(|_| AtomicU32::new(0)).collect(),
            calls: AtomicU32::new(0),
            admitted: AtomicU32::new(0),
            begun: AtomicU32::new(0),
            waited_ns: AtomicU64::new(0),
            end_ns: AtomicU64::new(0),
            ending: Mutex::new(()),
        })
    }

    /// Asks to let a call in. `user` is a hash of who wants it.
    ///
    /// # Errors
    /// It is refused.
    pub fn admit(&self, now: Time, priority: Priority, user: u64) -> Result<(), Shed> {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        if now.as_ns() >= self.end_ns.load(Ordering::Relaxed) || calls >= self.settings.calls {
            self.end_window(now);
        }
        let level = u32::from(priority.0) * USERS + (mix(user) % u64::from(USERS)) as u32;
        self.came[level as usize].fetch_add(1, Ordering::Relaxed);
        if level >= self.level.load(Ordering::Relaxed) {
            return Err(Shed);
        }
        self.admitted.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Tells how long a call that was let in has waited before it was begun.
    pub fn begun(&self, waited: Duration) {
        self.waited_ns.fetch_add(ns(waited), Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Up to which of its 1024 levels it lets calls in: 128 for each priority.
    #[must_use]
    pub fn level(&self) -> u32 {
        self.level.load(Ordering::Relaxed)
    }

    #[cold]
    fn end_window(&self, now: Time) {
        let Ok(_ending) = self.ending.try_lock() else { return };
        let early = self.calls.load(Ordering::Relaxed) < self.settings.calls;
        if early && now.as_ns() < self.end_ns.load(Ordering::Relaxed) {
            return;
        }
        self.end_ns.store((now + self.settings.window).as_ns(), Ordering::Relaxed);
        self.calls.store(0, Ordering::Relaxed);
        let began = u64::from(self.begun.swap(0, Ordering::Relaxed));
        let waited = self.waited_ns.swap(0, Ordering::Relaxed).checked_div(began).unwrap_or(0);
        let admitted = u64::from(self.admitted.swap(0, Ordering::Relaxed));
        let came: Vec<u64> =
            self.came.iter().map(|came| u64::from(came.swap(0, Ordering::Relaxed))).collect();
        let overload = waited > ns(self.settings.longest_wait);
        let level = next_level(self.level(), overload, admitted, &came);
        self.level.store(level, Ordering::Relaxed);
    }
}

/// The level at which the calls of the last window would have been as many as are wanted.
fn next_level(mut level: u32, overload: bool, admitted: u64, came: &[u64]) -> u32 {
    let all: u64 = came.iter().sum();
    let mut below: u64 = came[..level as usize].iter().sum();
    if overload {
        let wanted = admitted * 95 / 100;
        while level > USERS && below > wanted {
            level -= 1;
            below -= came[level as usize];
        }
    } else {
        let wanted = admitted + all.div_ceil(100);
        while level < LEVELS && (below < wanted || came[level as usize] == 0) {
            below += came[level as usize];
            level += 1;
        }
    }
    level
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::draw::Draws;

    /// What came of a second with so many calls of each priority, of which the service can do some.
    fn second(
        shedder: &Shedder,
        s: u64,
        offered: &[(u8, u32)],
        capacity: u32,
        draws: &mut Draws,
    ) -> [u32; 8] {
        let mut let_in = [0; 8];
        let all: u32 = offered.iter().map(|(_, count)| count).sum();
        for call in 0..all {
            let now =
                Time::from_ns(s * 1_000_000_000 + u64::from(call) * 1_000_000_000 / u64::from(all));
            // Priorities in turn, in proportion.
            let mut at = call % all;
            let (priority, _) = offered
                .iter()
                .find(|(_, count)| {
                    let found = at < *count;
                    at = at.saturating_sub(*count);
                    found
                })
                .unwrap();
            if shedder.admit(now, Priority::new(*priority).unwrap(), draws.draw()).is_ok() {
                let_in[usize::from(*priority)] += 1;
                let under_way: u32 = let_in.iter().sum();
                let waited = if under_way > capacity { 50 } else { 1 };
                shedder.begun(Duration::from_millis(waited));
            }
        }
        let_in
    }

    #[test]
    fn under_overload_the_least_important_go_first_and_when_it_ends_all_come_back() {
        let shedder =
            Shedder::new(ShedSettings { calls: 1_000_000, ..ShedSettings::default() }).unwrap();
        let mut draws = Draws::new(5);
        let offered = [(1, 300), (4, 300), (7, 400)];
        let mut last = [0; 8];
        // Wait rises as soon as more than 500 are let in.
        for s in 0..100 {
            last = second(&shedder, s, &offered, 300, &mut draws);
        }
        assert_eq!(last[1], 300, "{last:?}");
        assert_eq!(last[7], 0, "{last:?}");
        assert!(last[4] < 300, "{last:?}");
        for s in 100..300 {
            last = second(&shedder, s, &offered, 10_000, &mut draws);
        }
        assert_eq!((last[1], last[4], last[7]), (300, 300, 400));
    }

    #[test]
    fn what_is_critical_is_never_shed() {
        let shedder = Shedder::new(ShedSettings { calls: 10, ..ShedSettings::default() }).unwrap();
        for call in 0..10_000 {
            assert_eq!(shedder.admit(Time::from_ns(call), Priority::CRITICAL, call), Ok(()));
            shedder.begun(Duration::from_secs(1));
        }
        assert_eq!(shedder.level(), USERS);
        assert!(Priority::new(8).is_err());
    }

    #[test]
    fn calls_of_the_level_and_above_are_refused() {
        let shedder = Shedder::new(ShedSettings::default()).unwrap();
        shedder.level.store(2 * USERS, Ordering::Relaxed);
        shedder.end_ns.store(u64::MAX, Ordering::Relaxed);
        let ask = |priority, user| shedder.admit(Time::ORIGIN, Priority(priority), user);
        assert!((0..500).all(|user| ask(1, user) == Ok(()) && ask(2, user) == Err(Shed)));
    }

    #[test]
    fn a_user_fares_alike_everywhere() {
        let shedders = [(); 2].map(|()| Shedder::new(ShedSettings::default()).unwrap());
        for shedder in &shedders {
            shedder.level.store(2 * USERS + 64, Ordering::Relaxed);
            shedder.end_ns.store(u64::MAX, Ordering::Relaxed);
        }
        let ask = |user| shedders.each_ref().map(|s| s.admit(Time::ORIGIN, Priority::USER, user));
        assert!((0..500).all(|user| {
            let [a, b] = ask(user);
            a == b
        }));
    }

    proptest! {
        #[test]
        fn the_level_moves_by_a_share_of_the_calls(
            level in USERS..=LEVELS, overload: bool, came in prop::collection::vec(0..20_u64, LEVELS as usize),
        ) {
            let sum = |level: u32| came[..level as usize].iter().sum::<u64>();
            let admitted = sum(level);
            let next = next_level(level, overload, admitted, &came);
            // Naively: try all levels.
            let naive = if overload {
                let fits = |at: &u32| sum(*at) <= admitted * 95 / 100;
                (USERS..=level).rev().find(fits).unwrap_or(USERS)
            } else {
                let wanted = admitted + sum(LEVELS).div_ceil(100);
                let fits = |at: &u32| sum(*at) >= wanted && came.get(*at as usize) != Some(&0);
                (level..=LEVELS).find(fits).unwrap_or(LEVELS)
            };
            prop_assert_eq!(next, naive);
        }
    }
}
