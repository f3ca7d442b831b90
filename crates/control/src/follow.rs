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

/// Entries of one answer of a list: as many at first, as many at most, and as many in between as have
/// about so many bytes, by those before.
const FIRST_PAGE: u64 = 64;
const LARGEST_PAGE: u64 = 4096;
const PAGE_BYTES: usize = 2 << 20;
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
    // Pages become larger and smaller by degrees, and entries of the history are large, and many.
    let base = ROOT.trim_end_matches('/');
    let history = format!("{ROOT}history/");
    // What comes after a slash.
    let behind = format!("{ROOT}history0");
    let spans = [
        Span::range(ROOT, history.clone()),
        Span::range(history, behind.clone()),
        Span::range(behind, format!("{base}0")),
    ];
    let (mut revision, mut entries) = (None, Vec::new());
    for span in spans {
        list_span(store, span, &mut revision, &mut entries).await?;
    }
    Ok((revision.unwrap_or_default(), entries))
}

/// Adds the entries of a span, of the revision that is known, or of the newest.
async fn list_span(
    store: &dyn Store,
    mut span: Span,
    revision: &mut Option<Revision>,
    entries: &mut Vec<Entry>,
) -> Result<(), Error> {
    let mut limit = FIRST_PAGE;
    loop {
        let range = Range::of(span.clone()).limit(limit);
        let range = revision.map_or(range.clone(), |revision| range.at(revision));
        let mut page = match store.range(range).await {
            // One that is slow may be in time with less.
            Err(error @ (Error::Timeout { .. } | Error::Unavailable { .. }))
                if limit > 1 && revision.is_some() =>
            {
                limit = (limit / 16).max(1);
                tracing::debug!(%error, limit, "the store is asked for less at a time");
                continue;
            }
            page => page?,
        };
        // Answers of an older revision tell the newest.
        revision.get_or_insert(page.revision);
        let Some(last) = page.entries.last().filter(|_| page.more) else {
            entries.append(&mut page.entries);
            return Ok(());
        };
        span = span.after(&last.key);
        limit = next_limit(limit, page.entries.iter().map(|it| it.value.len()).sum());
        entries.append(&mut page.entries);
    }
}

/// How many entries are asked for next, when the last so many had these bytes.
fn next_limit(limit: u64, bytes: usize) -> u64 {
    let fit = (PAGE_BYTES as u64).saturating_mul(limit) / (bytes as u64).max(1);
    fit.min(limit * 2).clamp(1, LARGEST_PAGE)
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
        atomic::{AtomicU32, AtomicU64, Ordering},
    };

    use sinew_model::{ServiceName, fleet::Generation};
    use tokio::sync::watch;

    use super::*;
    use crate::{
        records::{Key, StoredService, write},
        store::{
            Answer, Embedded, ManualClock, Op, Ranged, Through, Transaction, Watch,
            embedded::Options,
        },
    };

    /// A store whose history is gone, twice, before it can be watched.
    struct Forgetful(Embedded, AtomicU32);

    impl Through for Forgetful {
        fn inner(&self) -> &Embedded {
            &self.0
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
    }

    async fn put(store: &dyn Store, service: &str) -> Revision {
        let key = Key::Service(service.parse().unwrap()).bytes();
        let put = Op::put(key, write(&StoredService::default()));
        store.commit(Transaction::new().then(put)).await.unwrap().revision
    }

    /// A store that is too slow for answers of more than so many bytes.
    struct Slow(Embedded, AtomicU64, u64);

    impl Through for Slow {
        fn inner(&self) -> &Embedded {
            &self.0
        }
        fn range(&self, range: Range) -> Answer<'_, Ranged> {
            Box::pin(async move {
                let ranged = self.0.range(range).await?;
                let bytes: u64 = ranged.entries.iter().map(|it| it.value.len() as u64).sum();
                if bytes > self.2 {
                    let applied = crate::store::Applied::No;
                    return Err(Error::Unavailable { why: "too slow".to_owned(), applied });
                }
                // It changes from answer to answer.
                let number = self.1.fetch_add(1, Ordering::Relaxed);
                put(&self.0, &format!("later-{number}")).await;
                Ok(ranged)
            })
        }
    }

    #[tokio::test]
    async fn a_list_of_large_entries_comes_in_answers_that_fit() {
        let clock = Arc::new(ManualClock::default());
        let store = Embedded::in_memory(Options::default(), clock).await.unwrap();
        // Many small ones before and behind the large ones.
        for n in 0..300 {
            put(&store, &format!("s{n}")).await;
            let key = Key::Session(format!("n{n}").parse().unwrap()).bytes();
            store.commit(Transaction::put(key, "{}")).await.unwrap();
        }
        for n in 0..100 {
            let value = vec![b' '; 256 << 10];
            store.commit(Transaction::put(Key::History(n).bytes(), value)).await.unwrap();
        }
        for most in [20 << 20, 320 << 10] {
            let store = Slow(store.clone(), AtomicU64::new(0), most);
            let before = store.0.range(Range::of(Span::prefix(ROOT))).await.unwrap();
            let (revision, entries) = list(&store).await.unwrap();
            let there = (before.revision, before.entries.len());
            assert_eq!((revision, entries.len()), there, "at most {most} bytes");
            assert!(store.1.load(Ordering::Relaxed) > 3);
            let keys: Vec<_> = entries.iter().map(|entry| entry.key.clone()).collect();
            assert!(keys.is_sorted(), "each once");
        }
    }

    #[test]
    fn pages_have_about_as_many_bytes() {
        let steps = [(64, 640, 128), (4096, 40_960, 4096), (64, 64 << 20, 2), (1, 1 << 30, 1)];
        for (limit, bytes, next) in steps {
            assert_eq!(next_limit(limit, bytes), next, "{limit} entries of {bytes} bytes");
        }
    }

    #[tokio::test]
    async fn what_the_watch_missed_is_listed() {
        let clock = Arc::new(ManualClock::default());
        let store = Embedded::in_memory(Options::default(), clock).await.unwrap();
        // More than one answer of a list.
        for n in 0..1000 {
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
