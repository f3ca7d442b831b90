//! Writes of sessions, several of which may become one transaction.

use crate::{
    records::Key,
    store::{Compare, Op, Revision, Transaction},
};

/// Changes, and what they were computed from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Write {
    compares: Vec<Compare>,
    /// Of what it does not change.
    reads: Vec<Compare>,
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

/// That a key is as that revision put it; 0: that it is not there.
fn is(key: &Key, revision: Revision) -> Compare {
    match revision {
        Revision(0) => Compare::absent(key.bytes()),
        revision => Compare::unchanged(key.bytes(), revision),
    }
}

impl Write {
    pub(super) fn new(ops: Vec<Op>) -> Self {
        Self { ops, ..Self::default() }
    }

    /// Only while a key is as that revision put it; 0: while it is not there.
    pub(super) fn fenced(mut self, key: &Key, revision: Revision) -> Self {
        self.compare(key, revision);
        self
    }

    pub(super) fn compare(&mut self, key: &Key, revision: Revision) {
        self.compares.push(is(key, revision));
    }

    /// The same of a key that it does not change.
    pub(super) fn compare_only(&mut self, key: &Key, revision: Revision) {
        self.reads.push(is(key, revision));
    }

    pub(super) fn push(&mut self, op: Op) {
        self.ops.push(op);
    }

    /// Comparisons or operations, whatever is more: what a transaction has a limit of.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.compares.len() + self.reads.len()).max(self.ops.len())
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
    /// common; what neither changes both may compare.
    #[must_use]
    pub fn fits(&self, other: &Self) -> bool {
        let compares = |it: &Self| it.compares.len() + it.reads.len();
        let common = |some: &[Compare], others: &[Compare]| {
            some.iter().any(|one| others.iter().any(|other| one.key() == other.key()))
        };
        compares(self) + compares(other) <= Transaction::MAX_OPERATIONS
            && self.ops.len() + other.ops.len() <= Transaction::MAX_OPERATIONS
            && self.bytes() + other.bytes() <= Transaction::MAX_BYTES
            && !common(&self.compares, &other.compares)
            && !common(&self.reads, &other.compares)
            && !common(&self.compares, &other.reads)
    }

    /// Both, or neither: for writes that [fit](Self::fits).
    pub fn join(&mut self, other: Self) {
        self.compares.extend(other.compares);
        self.reads.extend(other.reads);
        self.ops.extend(other.ops);
    }

    /// For the store.
    #[must_use]
    pub fn transaction(self) -> Transaction {
        let compares = self.compares.into_iter().chain(self.reads);
        let all = compares.fold(Transaction::new(), Transaction::when);
        self.ops.into_iter().fold(all, Transaction::then)
    }
}
