//! What is told as a whole when a session begins, and by what changes from then on.

use std::collections::BTreeSet;

use sinew_model::fleet::Generation;

use super::doubts::{Doubts, Turn};

/// What came of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was applied.
    Applied {
        /// Whether anything is not as it was.
        changed: bool,
        /// So many more are missing from a list of all without a word, and stay.
        doubted: usize,
    },
    /// It tells of an earlier time than what is known, which stays.
    Older {
        /// Of the message.
        told: Generation,
        /// Known here.
        known: Generation,
        /// Whether that is so since now.
        begins: bool,
    },
    /// It is about a change of something that is not known: all is to be told again.
    Gap,
}

/// How what is told is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List<K> {
    /// Control is behind what is known here: its numbers may stand for something else.
    behind: bool,
    doubts: Doubts<K>,
}

impl<K> Default for List<K> {
    fn default() -> Self {
        Self { behind: false, doubts: Doubts::default() }
    }
}

impl<K: Clone + Ord> List<K> {
    /// Whether a message is not to be applied where `known` is reached.
    pub(super) fn refuses(
        &mut self,
        known: Generation,
        from: Option<Generation>,
        to: Generation,
    ) -> Option<Taken> {
        let older = if from.is_some() { to <= known } else { to < known };
        if older {
            let begins = !std::mem::replace(&mut self.behind, true);
            return Some(Taken::Older { told: to, known, begins });
        }
        if from.is_some_and(|from| from != known || self.behind) {
            return Some(Taken::Gap);
        }
        self.behind = false;
        None
    }

    /// What of `held` a list of all does not name and goes, and how many more are in doubt.
    pub(super) fn absent<'a>(
        &mut self,
        turn: &Turn,
        held: impl Iterator<Item = &'a K>,
        told: impl Fn(&K) -> bool,
    ) -> (Vec<K>, usize)
    where
        K: 'a,
    {
        let held: Vec<&K> = held.collect();
        let absent: BTreeSet<K> = held.iter().filter(|key| !told(key)).copied().cloned().collect();
        let fresh: Vec<&K> = absent.iter().filter(|key| !self.doubts.holds(key)).collect();
        let gone = self.doubts.take_absent(turn, held.len(), &absent);
        let doubted = fresh.into_iter().filter(|key| self.doubts.holds(key)).count();
        (gone, doubted)
    }

    pub(super) fn settled(&mut self, key: &K) {
        self.doubts.end(key);
    }

    /// How many may be gone.
    pub(super) fn doubts(&self) -> usize {
        self.doubts.len()
    }
}
