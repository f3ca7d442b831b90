//! One interface to a revisioned key-value store with the semantics of etcd's v3 API
//! (<https://etcd.io/docs/v3.5/learning/api/>): [`embedded`] on one machine, etcd on many.
//!
//! - Every transaction that changes something advances the store's [`Revision`] by one; all its
//!   changes bear that revision. An empty store is at revision 1.
//! - Reads are linearizable: an answer shows everything that was acknowledged before the question.
//! - A [`Watch`] tells every change of a [`Span`] from a revision on, in order and without gaps, until
//!   it is told that it cannot ([`Error::Compacted`]).
//! - Keys put under a [`Lease`] go when it ends.
//!
//! What is stricter here than in etcd, so that both stores answer alike, is said at
//! [`Store::watch`] and [`Transaction`].

mod clock;
pub mod embedded;
mod error;
pub mod etcd;
mod lease;
pub mod lineage;
mod model;
pub mod schema;
#[cfg(any(test, feature = "testing"))]
mod through;
mod transaction;
pub mod transfer;
mod watch;

use std::time::Duration;

use futures_util::future::BoxFuture;

pub use clock::{Clock, ManualClock, SystemClock};
pub use embedded::Embedded;
pub use error::{Applied, Error, Fault, Retry};
pub use etcd::Etcd;
pub use lease::{Lease, LeaseId, LeaseStatus};
pub use model::{Entry, Range, Ranged, Revision, Span};
#[cfg(any(test, feature = "testing"))]
pub use through::Through;
pub use transaction::{Committed, Compare, Op, Operand, Order, Response, Transaction};
pub use watch::{Batch, Event, Update, Watch};

/// What a method of [`Store`] answers.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// A revisioned key-value store.
///
/// Dropping an answer before it is ready leaves unknown whether the call had an effect.
pub trait Store: Send + Sync + 'static {
    /// Entries of a span in the order of their keys, now or as they were at a revision.
    ///
    /// # Errors
    /// [`Error::Compacted`] when the revision is older than the history that is kept,
    /// [`Error::FutureRevision`] when it has not been yet.
    fn range(&self, range: Range) -> Answer<'_, Ranged>;

    /// Compares, then does one of two lists of operations, all at once or not at all.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::TooLarge`] for what no store takes,
    /// [`Error::LeaseNotFound`] for a put under a lease that is gone, [`Error::NoSpace`] when the
    /// store takes no more data; [`Error::applied`] says whether a failed call may have had effect.
    fn commit(&self, transaction: Transaction) -> Answer<'_, Committed>;

    /// A new lease that ends `ttl` after its last [`Store::keep_alive`]. Stores count whole seconds,
    /// at least one; etcd has a least time of its own. The answer says what was granted.
    fn grant(&self, ttl: Duration) -> Answer<'_, Lease>;

    /// Starts the time of a lease anew.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] when it has ended.
    fn keep_alive(&self, lease: LeaseId) -> Answer<'_, Lease>;

    /// Ends a lease and deletes its keys, in one revision. Answers the store's revision after it.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] when it has ended.
    fn revoke(&self, lease: LeaseId) -> Answer<'_, Revision>;

    /// What is left of a lease, and its keys.
    ///
    /// # Errors
    /// [`Error::LeaseNotFound`] when it has ended.
    fn time_to_live(&self, lease: LeaseId) -> Answer<'_, LeaseStatus>;

    /// Changes of a span: of revision `from` and later ones, or, without one, later than the call.
    ///
    /// A watcher that does not keep up is not cancelled and costs no more memory: it is served from
    /// history, and learns of [`Error::Compacted`] when that is gone.
    ///
    /// # Errors
    /// [`Error::Compacted`], from the call or from the stream, when `from` is not later than the
    /// compacted revision: list anew and watch from the revision after the list's. (etcd before 3.5.18 loses
    /// deletions of the compacted revision itself, so it is never watched.)
    fn watch(&self, span: Span, from: Option<Revision>) -> Answer<'_, Watch>;

    /// Forgets what was superseded before `revision`, which can then no longer be watched from, nor
    /// earlier ones be read.
    ///
    /// # Errors
    /// [`Error::Compacted`] when that was done already, [`Error::FutureRevision`] when the revision
    /// has not been yet.
    fn compact(&self, revision: Revision) -> Answer<'_, ()>;
}
