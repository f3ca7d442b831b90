//! Keeps a registry as the store is: lists it, follows its changes, and lists it anew when the watch
//! has lost its place. While the store is away the registry stays as it was.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;

use crate::{
    registry::{Registry, SubscriberId},
    store::{Entry, Error, Range, Retry, Revision, Span, Store, Update, schema::ROOT},
};

/// Entries of one answer of a list.
const PAGE: u64 = 1000;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Follows a store until it fails in a way that no retry helps, which it answers. `heard` is told
/// who has something to take, after each step; `pause` waits between attempts.
pub async fn follow<P: Future<Output = ()>>(
    store: &dyn Store,
    registry: &Mutex<Registry>,
    mut heard: impl FnMut(Revision, Vec<SubscriberId>),
    pause: impl Fn(Duration) -> P,
) -> Error {
    let mut wait = FIRST_PAUSE;
    loop {
        let mut heard = |woken: Vec<SubscriberId>, registry: &Registry| {
            wait = FIRST_PAUSE;
            heard(registry.revision(), woken);
        };
        let error = list_and_watch(store, registry, &mut heard).await;
        tracing::warn!(%error, "the store is not followed: what was known stays");
        // After a rewind the registry has what another history led to.
        if error.retry() == Retry::No || matches!(error, Error::Rewound { .. }) {
            return error;
        }
        pause(wait).await;
        wait = (wait * 2).min(LONGEST_PAUSE);
    }
}

async fn list_and_watch(
    store: &dyn Store,
    registry: &Mutex<Registry>,
    heard: &mut impl FnMut(Vec<SubscriberId>, &Registry),
) -> Error {
    let (revision, entries) = match list(store).await {
        Ok(listed) => listed,
        Err(error) => return error,
    };
    take(registry, heard, |registry| registry.list(revision, entries));
    let mut watch = match store.watch(Span::prefix(ROOT), Some(revision.next())).await {
        Ok(watch) => watch,
        Err(error) => return error,
    };
    loop {
        match watch.next().await {
            Some(Ok(Update::Batch(batch))) => {
                take(registry, heard, |registry| registry.apply(batch));
            }
            Some(Ok(Update::Progress(revision))) => take(registry, heard, |registry| {
                registry.progress(revision);
                Vec::new()
            }),
            Some(Ok(Update::Interrupted(error))) => {
                tracing::warn!(%error, "the store is not heard from: what was known stays");
            }
            Some(Err(error)) => return error,
            None => return ended(),
        }
    }
}

/// All entries of one revision, in as many answers as it takes.
async fn list(store: &dyn Store) -> Result<(Revision, Vec<Entry>), Error> {
    let span = Span::prefix(ROOT);
    let mut page = store.range(Range::of(span.clone()).limit(PAGE)).await?;
    let (revision, mut entries) = (page.revision, page.entries);
    while page.more {
        let Some(last) = entries.last() else { break };
        let rest = Range::of(span.after(&last.key)).at(revision).limit(PAGE);
        page = store.range(rest).await?;
        entries.append(&mut page.entries);
    }
    Ok((revision, entries))
}

fn take(
    registry: &Mutex<Registry>,
    heard: &mut impl FnMut(Vec<SubscriberId>, &Registry),
    change: impl FnOnce(&mut Registry) -> Vec<SubscriberId>,
) {
    let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
    let woken = change(&mut registry);
    heard(woken, &registry);
}

fn ended() -> Error {
    let applied = crate::store::Applied::No;
    Error::Unavailable { why: "the watch has ended".to_owned(), applied }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use sinew_model::{ServiceName, fleet::Generation};
    use tokio::sync::watch;

    use super::*;
    use crate::{
        records::{Key, StoredService, write},
        store::{
            Answer, Committed, Embedded, Lease, LeaseId, LeaseStatus, ManualClock, Op, Ranged,
            Transaction, Watch, embedded::Options,
        },
    };

    /// A store whose history is gone, twice, before it can be watched.
    struct Forgetful(Embedded, AtomicU32);

    impl Store for Forgetful {
        fn range(&self, range: Range) -> Answer<'_, Ranged> {
            self.0.range(range)
        }
        fn commit(&self, transaction: Transaction) -> Answer<'_, Committed> {
            self.0.commit(transaction)
        }
        fn grant(&self, ttl: Duration) -> Answer<'_, Lease> {
            self.0.grant(ttl)
        }
        fn keep_alive(&self, lease: LeaseId) -> Answer<'_, Lease> {
            self.0.keep_alive(lease)
        }
        fn revoke(&self, lease: LeaseId) -> Answer<'_, Revision> {
            self.0.revoke(lease)
        }
        fn time_to_live(&self, lease: LeaseId) -> Answer<'_, LeaseStatus> {
            self.0.time_to_live(lease)
        }
        fn watch(&self, span: Span, from: Option<Revision>) -> Answer<'_, Watch> {
            Box::pin(async move {
                let time = self.1.fetch_add(1, Ordering::Relaxed);
                if time < 2 {
                    put(&self.0, &format!("missed-{time}")).await;
                    let revision = put(&self.0, "last").await;
                    self.0.compact(revision).await?;
                }
                self.0.watch(span, from).await
            })
        }
        fn compact(&self, revision: Revision) -> Answer<'_, ()> {
            self.0.compact(revision)
        }
    }

    async fn put(store: &dyn Store, service: &str) -> Revision {
        let key = Key::Service(service.parse().unwrap()).bytes();
        let put = Op::put(key, write(&StoredService::default()));
        store.commit(Transaction::new().then(put)).await.unwrap().revision
    }

    #[tokio::test]
    async fn what_the_watch_missed_is_listed() {
        let clock = Arc::new(ManualClock::default());
        let store = Embedded::in_memory(Options::default(), clock).await.unwrap();
        // More than one answer of a list.
        for n in 0..=PAGE {
            put(&store, &format!("s{n}")).await;
        }
        let store = Arc::new(Forgetful(store, AtomicU32::new(0)));
        let registry = Arc::new(Mutex::new(Registry::default()));
        let (told, mut heard) = watch::channel(Revision(0));
        let task = tokio::spawn({
            let (store, registry) = (Arc::clone(&store), Arc::clone(&registry));
            async move {
                let heard = |revision, _| {
                    told.send_replace(revision);
                };
                follow(&*store, &registry, heard, |_| std::future::ready(())).await
            }
        });
        while store.1.load(Ordering::Relaxed) < 3 {
            heard.changed().await.unwrap();
        }
        let last = put(&*store, "after").await;
        heard.wait_for(|revision| *revision >= last).await.unwrap();
        let registry = registry.lock().unwrap();
        // The first and the last of their order.
        let all = ["s0", "s999", "missed-0", "missed-1", "last", "after"];
        for service in all.map(|name| name.parse::<ServiceName>().unwrap()) {
            // Known: an unknown one is told as of generation 1.
            let update = registry.update(&service, Generation(0));
            let known = matches!(&update, Some(crate::registry::Update::Snapshot(it)) if it.generation > Generation(1));
            assert!(known, "{service}: {update:?}");
        }
        task.abort();
    }
}
