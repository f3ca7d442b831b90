//! Compare, then change: the one way to write.

use bytes::Bytes;

use super::{Error, LeaseId, Range, Ranged, Revision, Span, error::Invalid, model::End};

/// Comparisons, and operations for either outcome.
///
/// Within one list of operations a key is changed once: two puts of a key, or a put of a key that is
/// deleted too, are refused. A range sees what the operations before it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    pub(super) compares: Vec<Compare>,
    pub(super) then: Vec<Op>,
    pub(super) otherwise: Vec<Op>,
}

impl Transaction {
    /// The most comparisons, and operations of either list: etcd's default.
    pub const MAX_OPERATIONS: usize = 128;
    /// The most bytes of keys and values in operations; comparisons may have a quarter of it
    /// besides. Below etcd's default for an encoded request.
    pub const MAX_BYTES: usize = 1 << 20;

    /// Succeeds, and does nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One put, whatever is there.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::new().then(Op::put(key, value))
    }

    /// With one more comparison; it succeeds when all hold.
    #[must_use]
    pub fn when(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// With one more operation for success.
    #[must_use]
    pub fn then(mut self, op: Op) -> Self {
        self.then.push(op);
        self
    }

    /// With one more operation for failure.
    #[must_use]
    pub fn otherwise(mut self, op: Op) -> Self {
        self.otherwise.push(op);
        self
    }

    /// Refuses what no store takes.
    pub(super) fn check(&self) -> Result<(), Error> {
        let lists = [self.compares.len(), self.then.len(), self.otherwise.len()];
        if let Some(&number) = lists.iter().find(|&&number| number > Self::MAX_OPERATIONS) {
            return Err(Invalid::Operations { number, most: Self::MAX_OPERATIONS }.into());
        }
        if self.compares.iter().any(|compare| compare.key.is_empty()) {
            return Err(Invalid::EmptyKey.into());
        }
        check_list(&self.then)?;
        check_list(&self.otherwise)?;
        let ops = self.then.iter().chain(&self.otherwise).map(Op::bytes).sum();
        let compares = self.compares.iter().map(Compare::bytes).sum();
        for (bytes, most_bytes) in [(ops, Self::MAX_BYTES), (compares, Self::MAX_BYTES / 4)] {
            if bytes > most_bytes {
                return Err(Error::TooLarge { bytes, most_bytes });
            }
        }
        Ok(())
    }
}

fn check_list(ops: &[Op]) -> Result<(), Error> {
    let mut puts: Vec<&Bytes> = Vec::new();
    for op in ops {
        match op {
            Op::Put { key, .. } if key.is_empty() => return Err(Invalid::EmptyKey.into()),
            Op::Put { key, .. } => puts.push(key),
            Op::Delete(span) => span.check()?,
            Op::Range(range) => range.span.check()?,
        }
    }
    puts.sort_unstable();
    let twice = puts.windows(2).find_map(|pair| (pair[0] == pair[1]).then(|| pair[0]));
    let deleted = || {
        puts.iter()
            .find(|key| ops.iter().any(|op| matches!(op, Op::Delete(span) if span.contains(key))))
    };
    match twice.or_else(|| deleted().copied()) {
        Some(key) => Err(Invalid::ChangedTwice { key: key.clone() }.into()),
        None => Ok(()),
    }
}

impl Span {
    /// Refuses spans that no key can be in.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.start.is_empty() && self.end == End::Single {
            return Err(Invalid::EmptyKey.into());
        }
        if self.is_empty() {
            return Err(Invalid::EmptySpan { start: self.start.clone() }.into());
        }
        Ok(())
    }
}

/// A comparison with what is kept under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub(super) key: Bytes,
    pub(super) order: Order,
    pub(super) operand: Operand,
}

/// How it has to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// What is kept is the same.
    Equal,
    /// What is kept is another.
    NotEqual,
    /// What is kept is greater.
    Greater,
    /// What is kept is less.
    Less,
}

/// What is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The value, byte by byte. Never holds for a key that does not exist, whatever the order.
    Value(Bytes),
    /// The number of puts; 0 for a key that does not exist.
    Version(u64),
    /// The revision that made the key; 0 for a key that does not exist.
    Create(Revision),
    /// The revision of its last put; 0 for a key that does not exist.
    Mod(Revision),
}

impl Compare {
    /// What is kept under `key` is in this order to `operand`.
    pub fn new(key: impl Into<Bytes>, order: Order, operand: Operand) -> Self {
        Self { key: key.into(), order, operand }
    }

    /// The key does not exist.
    pub fn absent(key: impl Into<Bytes>) -> Self {
        Self::new(key, Order::Equal, Operand::Create(Revision(0)))
    }

    /// The key was last put at that revision.
    pub fn unchanged(key: impl Into<Bytes>, revision: Revision) -> Self {
        Self::new(key, Order::Equal, Operand::Mod(revision))
    }

    /// The key has this value.
    pub fn value(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::new(key, Order::Equal, Operand::Value(value.into()))
    }

    /// What it looks at.
    #[must_use]
    pub const fn key(&self) -> &Bytes {
        &self.key
    }

    fn bytes(&self) -> usize {
        let value = if let Operand::Value(value) = &self.operand { value.len() } else { 0 };
        self.key.len() + value
    }
}

/// An operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Makes or changes a key.
    Put {
        /// Not empty.
        key: Bytes,
        /// May be empty.
        value: Bytes,
        /// The lease that it goes with; without one it stays, also where it had one.
        lease: Option<LeaseId>,
    },
    /// Deletes what is there.
    Delete(Span),
    /// Answers entries.
    Range(Range),
}

impl Op {
    /// A put without a lease.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: None }
    }

    /// A put under a lease.
    pub fn put_under(lease: LeaseId, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: Some(lease) }
    }

    /// Deletes one key.
    pub fn delete(key: impl Into<Bytes>) -> Self {
        Self::Delete(Span::key(key))
    }

    fn bytes(&self) -> usize {
        let span = |span: &Span| {
            span.start.len() + if let End::Before(end) = &span.end { end.len() } else { 0 }
        };
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete(deleted) => span(deleted),
            Self::Range(range) => span(&range.span),
        }
    }
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Whether all comparisons held.
    pub succeeded: bool,
    /// The store's revision after it. When it changed something, the revision of its changes.
    pub revision: Revision,
    /// One for each operation of the list that was done.
    pub responses: Vec<Response>,
}

/// What an operation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// It was put.
    Put,
    /// So many keys were deleted.
    Deleted(u64),
    /// The entries.
    Range(Ranged),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_store_takes_is_refused() {
        let refused = |transaction: Transaction| transaction.check().unwrap_err().to_string();
        let twice = Transaction::put("a", "1").then(Op::put("a", "2"));
        assert_eq!(refused(twice), "a transaction changes key \"a\" twice: once is allowed");
        let also_deleted = Transaction::put("ab", "1").then(Op::Delete(Span::prefix("a")));
        assert_eq!(
            refused(also_deleted),
            "a transaction changes key \"ab\" twice: once is allowed"
        );
        assert_eq!(refused(Transaction::put("", "1")), "a key is empty");
        let empty = Transaction::new().then(Op::Delete(Span::range("b", "a")));
        assert_eq!(refused(empty), "the span from key \"b\" ends before it starts");
        let many = (0..129).fold(Transaction::new(), |all, n| all.then(Op::put(n.to_string(), "")));
        assert_eq!(refused(many), "a transaction has 129 operations or comparisons: at most 128");
        let large = Transaction::put("a", vec![0; 1 << 20]);
        assert_eq!(refused(large), "a transaction of 1048577 bytes: at most 1048576 are taken");
    }

    #[test]
    fn either_list_may_change_a_key() {
        let either = Transaction::put("a", "1").otherwise(Op::delete("a"));
        either.when(Compare::absent("a")).check().unwrap();
    }
}
