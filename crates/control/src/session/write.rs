//! Writes of sessions, several of which may become one transaction.

use crate::{
    records::Key,
    store::{Compare, Op, Revision, Transaction},
};

/// Changes, and what they were computed from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Write {
    compares: Vec<Compare>,
    ops: Vec<Op>,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done in that revision.
    Done(Revision),
    /// What it was computed from is no longer so, at that revision; nothing was done.
    Conflict(Revision),
    /// The store failed; it may have been done.
    Failed,
}

impl Write {
    pub(super) fn new(ops: Vec<Op>) -> Self {
        Self { compares: Vec::new(), ops }
    }

    /// Only while a key is as that revision put it; 0: while it is not there.
    pub(super) fn fenced(mut self, key: &Key, revision: Revision) -> Self {
        self.compare(key, revision);
        self
    }

    pub(super) fn compare(&mut self, key: &Key, revision: Revision) {
        self.compares.push(match revision {
            Revision(0) => Compare::absent(key.bytes()),
            revision => Compare::unchanged(key.bytes(), revision),
        });
    }

    pub(super) fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// Comparisons or operations, whatever is more: what a transaction has a limit of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.compares.len().max(self.ops.len())
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// About the bytes of its values.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let bytes = |op: &Op| match op {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete(_) | Op::Range(_) => 128,
        };
        self.ops.iter().map(bytes).sum()
    }

    /// Whether both fit into one transaction. Whatever a write changes it compares first, or is
    /// fenced off by what it compares, so writes that compare nothing in common change nothing in
    /// common.
    #[must_use]
    pub fn fits(&self, other: &Self) -> bool {
        let compares = self.compares.len() + other.compares.len();
        let ops = self.ops.len() + other.ops.len();
        let common = |it: &Compare| self.compares.iter().any(|own| own.key() == it.key());
        compares.max(ops) <= Transaction::MAX_OPERATIONS
            && self.bytes() + other.bytes() <= Transaction::MAX_BYTES
            && !other.compares.iter().any(common)
    }

    /// Both, or neither: for writes that [fit](Self::fits).
    pub fn join(&mut self, other: Self) {
        self.compares.extend(other.compares);
        self.ops.extend(other.ops);
    }

    /// For the store.
    #[must_use]
    pub fn transaction(self) -> Transaction {
        let all = self.compares.into_iter().fold(Transaction::new(), Transaction::when);
        self.ops.into_iter().fold(all, Transaction::then)
    }
}
