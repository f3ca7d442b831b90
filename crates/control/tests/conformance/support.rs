//! Stores to test, and short ways to ask them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt as _;
use sinew_control::store::{
    Batch, Committed, Embedded, Entry, Etcd, ManualClock, Op, Range, Revision, Span, Store,
    Transaction, Update, Watch, embedded::Options,
};

use crate::etcd::Cluster;

/// A store with the clock that its leases go by.
pub(crate) struct Tested {
    pub(crate) store: Arc<dyn Store>,
    clock: Option<Arc<ManualClock>>,
    /// What serves it.
    _cluster: Option<Cluster>,
}

pub(crate) async fn embedded() -> Tested {
    let clock = Arc::new(ManualClock::default());
    let options = Options::default();
    let store = Embedded::in_memory(options, Arc::clone(&clock) as _).await.unwrap();
    Tested { store: Arc::new(store), clock: Some(clock), _cluster: None }
}

/// A store in a real etcd, new and of its own.
pub(crate) async fn etcd(cluster: Cluster) -> Tested {
    let store = Etcd::connect(cluster.options()).await.unwrap();
    Tested { store: Arc::new(store), clock: None, _cluster: Some(cluster) }
}

impl Tested {
    /// Lets time pass for the store's leases: at once where it can be.
    pub(crate) async fn pass(&self, time: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(time),
            None => tokio::time::sleep(time).await,
        }
    }

    pub(crate) async fn put(&self, key: &str, value: &str) -> Revision {
        self.commit(Transaction::put(key.to_owned(), value.to_owned())).await.revision
    }

    pub(crate) async fn delete(&self, key: &str) -> Revision {
        self.commit(Transaction::new().then(Op::delete(key.to_owned()))).await.revision
    }

    pub(crate) async fn commit(&self, transaction: Transaction) -> Committed {
        self.store.commit(transaction).await.unwrap()
    }

    pub(crate) async fn entries(&self, range: Range) -> Vec<Entry> {
        self.store.range(range).await.unwrap().entries
    }

    pub(crate) async fn get(&self, key: &str) -> Option<Entry> {
        self.entries(Range::of(Span::key(key.to_owned()))).await.pop()
    }

    pub(crate) async fn revision(&self) -> Revision {
        self.store.range(Range::of(Span::key("nothing"))).await.unwrap().revision
    }

    pub(crate) async fn watch(&self, span: Span, from: Option<Revision>) -> Watch {
        self.store.watch(span, from).await.unwrap()
    }
}

/// The next changes, whatever else a watch tells.
pub(crate) async fn next(watch: &mut Watch) -> Batch {
    loop {
        if let Update::Batch(batch) = watch.next().await.unwrap().unwrap() {
            return batch;
        }
    }
}

/// `key=value` of each.
pub(crate) fn pairs(entries: &[Entry]) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    entries.iter().map(|entry| format!("{}={}", text(&entry.key), text(&entry.value))).collect()
}
