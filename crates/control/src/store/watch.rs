//! Changes as they come.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};

use super::{Entry, Error, Revision};

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It was put: made, or changed.
    Put(Entry),
    /// It was deleted, or went with its lease.
    Delete(Bytes),
}

impl Event {
    /// The key.
    #[must_use]
    pub const fn key(&self) -> &Bytes {
        match self {
            Self::Put(entry) => &entry.key,
            Self::Delete(key) => key,
        }
    }
}

/// All changes of one revision that are in the watched span, in no order that matters: a
/// transaction changes a key once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Greater than that of the batch before.
    pub revision: Revision,
    /// Never empty.
    pub events: Vec<Event>,
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub enum Update {
    /// Something changed.
    Batch(Batch),
    /// Everything up to this revision has been told.
    Progress(Revision),
    /// The store is not heard from, and for that time what was told may be stale. The watch resumes
    /// without a gap by itself; the next update says that it has.
    Interrupted(Error),
}

/// What a store tells a watch.
pub(super) trait Feed: Send + 'static {
    /// The next update, when there is one. Nothing comes after an error.
    fn update(&mut self) -> impl Future<Output = Result<Update, Error>> + Send;
}

/// A stream of updates. It ends after an error, and goes on in no other way: a new watch
/// from the revision after the last that was told, or after a list, is what takes its place.
pub struct Watch {
    start: Revision,
    updates: BoxStream<'static, Result<Update, Error>>,
}

impl Watch {
    /// What a feed tells from a revision on.
    pub(super) fn fed(start: Revision, feed: impl Feed) -> Self {
        let updates = stream::unfold(Some(feed), |feed| async {
            let mut feed = feed?;
            match feed.update().await {
                Ok(update) => Some((Ok(update), Some(feed))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Self { start, updates: updates.boxed() }
    }

    /// The first revision that is told of.
    #[must_use]
    pub const fn start(&self) -> Revision {
        self.start
    }
}

impl Stream for Watch {
    type Item = Result<Update, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.updates.poll_next_unpin(context)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("start", &self.start).finish_non_exhaustive()
    }
}
