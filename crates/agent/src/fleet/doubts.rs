//! What may be gone and is kept: it goes by a share at a time, the longest in doubt first, and what no
//! reason was named for goes only when it is still missing an interval later.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

/// What a message is applied with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) now: Instant,
    /// At most this share, and at least one, goes in an interval.
    pub(super) percent: u8,
    /// See there.
    pub(super) interval: Duration,
    /// Nothing in doubt goes: how much went just before this agent began is not known.
    pub(super) quiet: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doubts<K> {
    since: BTreeMap<K, Instant>,
    /// What went, as far as it still counts.
    released: VecDeque<(Instant, K)>,
}

impl<K> Default for Doubts<K> {
    fn default() -> Self {
        Self { since: BTreeMap::new(), released: VecDeque::new() }
    }
}

impl<K: Clone + Ord> Doubts<K> {
    pub(super) fn begin(&mut self, now: Instant, key: &K) {
        self.since.entry(key.clone()).or_insert(now);
    }

    pub(super) fn end(&mut self, key: &K) {
        self.since.remove(key);
    }

    pub(super) fn holds(&self, key: &K) -> bool {
        self.since.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.since.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    pub(super) fn has_waited(&self, turn: &Turn, key: &K) -> bool {
        self.since.get(key).is_some_and(|since| *since + turn.interval <= turn.now)
    }

    pub(super) fn sort(&self, keys: &mut [K]) {
        keys.sort_by_key(|key| self.since.get(key).copied());
    }

    /// How many may go now, of those `held`.
    pub(super) fn share(&mut self, turn: &Turn, held: usize) -> usize {
        if turn.quiet {
            return 0;
        }
        while self.released.front().is_some_and(|(at, _)| *at + turn.interval <= turn.now) {
            self.released.pop_front();
        }
        let all = held + self.released.len();
        let share = all * usize::from(turn.percent) / 100;
        share.max(1).saturating_sub(self.released.len())
    }

    pub(super) fn release(&mut self, now: Instant, key: &K) {
        self.since.remove(key);
        self.released.push_back((now, key.clone()));
    }

    /// What went in the interval.
    pub(super) fn released(&self) -> impl Iterator<Item = &K> {
        self.released.iter().map(|(_, key)| key)
    }

    /// Takes what a list of all does not name, and answers what goes: what was missing for an interval
    /// already.
    pub(super) fn take_absent(&mut self, turn: &Turn, held: usize, absent: &BTreeSet<K>) -> Vec<K> {
        self.since.retain(|key, _| absent.contains(key));
        let share = self.share(turn, held);
        let goes = |key: &&K| self.has_waited(turn, key);
        let mut gone: Vec<K> = absent.iter().filter(goes).cloned().collect();
        self.sort(&mut gone);
        gone.truncate(share);
        gone.iter().for_each(|key| self.release(turn.now, key));
        absent.iter().filter(|key| !gone.contains(key)).for_each(|key| self.begin(turn.now, key));
        gone
    }
}
