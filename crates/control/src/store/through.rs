//! For tests: a store in front of another, which does itself what it is there for and hands on the
//! rest.

use std::time::Duration;

use super::{
    Answer, Committed, Embedded, Lease, LeaseId, LeaseStatus, Range, Ranged, Revision, Span, Store,
    Transaction, Watch,
};

/// A [`Store`] that behaves like [`Through::inner`] but for the methods that it defines.
#[expect(missing_docs, reason = "each is the store's method of that name")]
pub trait Through: Send + Sync + 'static {
    /// What it hands on to.
    fn inner(&self) -> &Embedded;

    fn range(&self, range: Range) -> Answer<'_, Ranged> {
        self.inner().range(range)
    }
    fn commit(&self, transaction: Transaction) -> Answer<'_, Committed> {
        self.inner().commit(transaction)
    }
    fn keep_alive(&self, lease: LeaseId) -> Answer<'_, Lease> {
        self.inner().keep_alive(lease)
    }
    fn watch(&self, span: Span, from: Option<Revision>) -> Answer<'_, Watch> {
        self.inner().watch(span, from)
    }
}

impl<T: Through> Store for T {
    fn range(&self, range: Range) -> Answer<'_, Ranged> {
        Through::range(self, range)
    }
    fn commit(&self, transaction: Transaction) -> Answer<'_, Committed> {
        Through::commit(self, transaction)
    }
    fn grant(&self, ttl: Duration) -> Answer<'_, Lease> {
        self.inner().grant(ttl)
    }
    fn keep_alive(&self, lease: LeaseId) -> Answer<'_, Lease> {
        Through::keep_alive(self, lease)
    }
    fn revoke(&self, lease: LeaseId) -> Answer<'_, Revision> {
        self.inner().revoke(lease)
    }
    fn time_to_live(&self, lease: LeaseId) -> Answer<'_, LeaseStatus> {
        self.inner().time_to_live(lease)
    }
    fn watch(&self, span: Span, from: Option<Revision>) -> Answer<'_, Watch> {
        Through::watch(self, span, from)
    }
    fn compact(&self, revision: Revision) -> Answer<'_, ()> {
        self.inner().compact(revision)
    }
}
