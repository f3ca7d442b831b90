//! Stores that take no time, and one that fails when it is told to.
#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::FutureExt as _;
use sinew_control::store::{
    Answer, Applied, Committed, Embedded, Error, ManualClock, Range, Span, Store, Through,
    Transaction, embedded::Options,
};

pub(crate) async fn memory() -> Embedded {
    Embedded::in_memory(Options::default(), Arc::new(ManualClock::default())).await.unwrap()
}

/// `key=value` of all that is there.
pub(crate) async fn contents(store: &dyn Store) -> Vec<String> {
    let entries = store.range(Range::of(Span::all())).await.unwrap().entries;
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    entries.iter().map(|entry| format!("{}={}", text(&entry.key), text(&entry.value))).collect()
}

/// A store of which a call to `commit` fails: after it was done, as when its answer is lost.
pub(crate) struct Failing {
    pub(crate) inner: Embedded,
    commits: AtomicUsize,
    fails: usize,
}

impl Failing {
    pub(crate) fn at(inner: &Embedded, fails: usize) -> Self {
        Self { inner: inner.clone(), commits: AtomicUsize::new(0), fails }
    }
}

impl Through for Failing {
    fn inner(&self) -> &Embedded {
        &self.inner
    }
    fn commit(&self, transaction: Transaction) -> Answer<'_, Committed> {
        async move {
            let committed = self.inner.commit(transaction).await?;
            if self.commits.fetch_add(1, Ordering::Relaxed) == self.fails {
                let why = "the test wants it".to_owned();
                return Err(Error::Unavailable { why, applied: Applied::Unknown });
            }
            Ok(committed)
        }
        .boxed()
    }
}
