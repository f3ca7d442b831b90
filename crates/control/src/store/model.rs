//! What is kept, and which part of it is meant.

use std::{fmt, ops::Bound};

use bytes::Bytes;

use super::LeaseId;

/// A point in the history of a store: the number of its changes. 1 is the empty store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Not empty.
    pub key: Bytes,
    /// May be empty.
    pub value: Bytes,
    /// The revision that made the key, since it was last deleted.
    pub create_revision: Revision,
    /// The revision of the last put.
    pub mod_revision: Revision,
    /// The number of puts since the key was made: 1 for a new key.
    pub version: u64,
    /// The lease that it goes with.
    pub lease: Option<LeaseId>,
}

/// Keys from one on, up to an end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    pub(super) start: Bytes,
    pub(super) end: End,
}

/// Where a span ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// After the first key.
    Single,
    /// Before that key.
    Before(Bytes),
    /// After the last key there is.
    Open,
}

impl Span {
    /// One key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self { start: key.into(), end: End::Single }
    }

    /// Every key that begins with `prefix`; with an empty one, every key.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let end = after_prefix(&start).map_or(End::Open, End::Before);
        Self { start, end }
    }

    /// Keys from `start` on that are before `end`.
    pub fn range(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { start: start.into(), end: End::Before(end.into()) }
    }

    /// Keys from `start` on.
    pub fn from(start: impl Into<Bytes>) -> Self {
        Self { start: start.into(), end: End::Open }
    }

    /// Every key.
    #[must_use]
    pub fn all() -> Self {
        Self::from(Bytes::new())
    }

    /// Whether the key is one of these.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            End::Single => key == self.start,
            End::Before(end) => key >= self.start.as_ref() && key < end.as_ref(),
            End::Open => key >= self.start.as_ref(),
        }
    }

    /// The rest of the span after a key of it.
    #[must_use]
    pub fn after(&self, key: &[u8]) -> Self {
        let start = [key, b"\0"].concat().into();
        let end = match &self.end {
            // Nothing is left: a span that ends where it starts.
            End::Single => End::Before(Bytes::copy_from_slice(key)),
            other => other.clone(),
        };
        Self { start, end }
    }

    /// Whether no key can be in it.
    pub(super) fn is_empty(&self) -> bool {
        matches!(&self.end, End::Before(end) if *end <= self.start)
    }

    /// For ordered collections; of no use when [`Span::is_empty`].
    pub(super) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let start = self.start.as_ref();
        let end = match &self.end {
            End::Single => Bound::Included(start),
            End::Before(end) => Bound::Excluded(end.as_ref()),
            End::Open => Bound::Unbounded,
        };
        (Bound::Included(start), end)
    }
}

/// The first key after all that begin with `prefix`; none when there is no such key.
fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&byte| byte < u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(end.into())
}

/// A question for entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Which keys.
    pub span: Span,
    /// As they were at that revision; now without one, or with 0.
    pub revision: Option<Revision>,
    /// At most so many entries; 0: all.
    pub limit: u64,
}

impl Range {
    /// All entries of the span, now.
    #[must_use]
    pub const fn of(span: Span) -> Self {
        Self { span, revision: None, limit: 0 }
    }

    /// The same at a revision.
    #[must_use]
    pub fn at(self, revision: Revision) -> Self {
        Self { revision: Some(revision), ..self }
    }

    /// The same with a limit.
    #[must_use]
    pub fn limit(self, limit: u64) -> Self {
        Self { limit, ..self }
    }
}

/// The answer to a [`Range`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranged {
    /// The store's revision when it answered, also where an older one was asked for. Within a
    /// transaction: that of the transaction.
    pub revision: Revision,
    /// In the order of their keys.
    pub entries: Vec<Entry>,
    /// Whether there are more than the limit let through.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_after_the_last_key_that_begins_with_it() {
        assert_eq!(Span::prefix("a"), Span::range("a", "b"));
        assert_eq!(Span::prefix(&b"a\xff"[..]), Span::range(&b"a\xff"[..], "b"));
        assert_eq!(Span::prefix(&b"\xff"[..]), Span::from(&b"\xff"[..]));
        assert_eq!(Span::prefix(""), Span::all());
        for key in ["a", "a\0", "az"] {
            assert!(Span::prefix("a").contains(key.as_bytes()), "{key}");
        }
        assert!(!Span::prefix("a").contains(b"b") && !Span::key("a").contains(b"a\0"));
    }

    #[test]
    fn what_is_after_a_key_lacks_that_key_alone() {
        let rest = Span::prefix("a").after(b"ab");
        assert!(!rest.contains(b"ab") && rest.contains(b"ab\0") && rest.contains(b"ac"));
        assert!(!rest.contains(b"b") && !rest.is_empty());
        assert!(Span::key("a").after(b"a").is_empty());
    }
}
