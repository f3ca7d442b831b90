//! Watches.

use futures_util::{FutureExt as _, StreamExt as _};
use sinew_control::store::{Event, Op, Revision, Span, Transaction, Update};

use crate::support::{Tested, next, pairs};

pub(crate) async fn changes_come_in_order(store: Tested) {
    store.put("a", "before").await;
    let mut watch = store.watch(Span::prefix("a"), None).await;
    let first = store.put("a", "1").await;
    let second = store.put("a", "2").await;
    let third = store.delete("a").await;
    assert!(watch.start() <= first);
    for (revision, version) in [(first, 2), (second, 3)] {
        let batch = next(&mut watch).await;
        assert_eq!(batch.revision, revision);
        let [Event::Put(entry)] = &batch.events[..] else { panic!("{batch:?}") };
        assert_eq!((entry.version, entry.mod_revision), (version, revision));
        assert_eq!(entry.create_revision, Revision(2));
    }
    let batch = next(&mut watch).await;
    assert_eq!((batch.revision, batch.events), (third, vec![Event::Delete("a".into())]));
}

pub(crate) async fn the_past_comes_first(store: Tested) {
    let first = store.put("a", "1").await;
    for n in 0..600 {
        store.put("b", &n.to_string()).await;
    }
    let mut watch = store.watch(Span::key("b"), Some(first)).await;
    for n in 0..600 {
        let batch = next(&mut watch).await;
        let [Event::Put(entry)] = &batch.events[..] else { panic!("{batch:?}") };
        assert_eq!((batch.revision.0, entry.value.as_ref()), (3 + n, n.to_string().as_bytes()));
    }
    let last = store.put("b", "last").await;
    assert_eq!(next(&mut watch).await.revision, last);
    let inclusive = next(&mut store.watch(Span::all(), Some(last)).await).await;
    assert_eq!(inclusive.revision, last);
}

pub(crate) async fn one_revision_is_one_batch(store: Tested) {
    let mut watch = store.watch(Span::prefix("a/"), None).await;
    let many = |value: &'static str| {
        (0..100).fold(Transaction::put("other", ""), |all, n| {
            all.then(Op::put(format!("a/{n:02}"), value))
        })
    };
    for value in ["1", "2"] {
        let revision = store.commit(many(value)).await.revision;
        let batch = next(&mut watch).await;
        assert_eq!((batch.revision, batch.events.len()), (revision, 100));
    }
    let all = store.commit(Transaction::new().then(Op::Delete(Span::prefix("a/")))).await;
    let batch = next(&mut watch).await;
    assert_eq!((batch.revision, batch.events.len()), (all.revision, 100));
}

pub(crate) async fn other_keys_are_not_told(store: Tested) {
    let mut single = store.watch(Span::key("a"), None).await;
    let mut prefix = store.watch(Span::prefix("a/"), None).await;
    let mut range = store.watch(Span::range("a0", "c"), None).await;
    for key in ["0", "a", "a/b", "a0", "b", "c"] {
        store.put(key, "").await;
    }
    store.delete("a").await;
    store.put("a/b", "").await;
    store.delete("b").await;
    let mut told = Vec::new();
    for (watch, number) in [(&mut single, 2), (&mut prefix, 2), (&mut range, 3)] {
        for _ in 0..number {
            told.push(next(watch).await.events[0].key().clone());
        }
    }
    assert_eq!(told, ["a", "a", "a/b", "a/b", "a0", "b", "b"]);
}

pub(crate) async fn the_future_is_waited_for(store: Tested) {
    let now = store.put("a", "1").await;
    let mut watch = store.watch(Span::all(), Some(Revision(now.0 + 2))).await;
    assert_eq!(watch.start(), Revision(now.0 + 2));
    store.put("a", "2").await;
    let told = store.put("a", "3").await;
    assert_eq!(next(&mut watch).await.revision, told);
}

pub(crate) async fn a_slow_watcher_misses_nothing(store: Tested) {
    let mut watch = store.watch(Span::prefix("a"), None).await;
    let first = store.put("a", "0").await;
    // More than any buffer holds, and nobody reads.
    let value = "v".repeat(16 << 10);
    for _ in 0..1_000 {
        store.put("a", &value).await;
    }
    for n in 0..=1_000 {
        assert_eq!(next(&mut watch).await.revision.0, first.0 + n);
    }
    let progress = watch.next().now_or_never();
    assert!(
        matches!(progress, None | Some(Some(Ok(Update::Progress(_))))),
        "nothing else changed: {progress:?}"
    );
    assert_eq!(pairs(&store.get("a").await.into_iter().collect::<Vec<_>>()).len(), 1);
}
