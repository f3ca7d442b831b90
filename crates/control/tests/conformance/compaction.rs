//! Compaction.

use futures_util::StreamExt as _;
use sinew_control::store::{Error, Range, Retry, Revision, Span};

use crate::support::{Tested, next, pairs};

pub(crate) async fn the_past_is_gone(store: Tested) {
    let first = store.put("a", "1").await;
    let second = store.put("a", "2").await;
    store.put("b", "1").await;
    store.store.compact(second).await.unwrap();
    let gone = store.store.range(Range::of(Span::all()).at(first)).await.unwrap_err();
    assert!(matches!(gone, Error::Compacted { .. }), "{gone:?}");
    assert_eq!(gone.retry(), Retry::Anew);
    assert_eq!(pairs(&store.entries(Range::of(Span::all()).at(second)).await), ["a=2"]);
}

pub(crate) async fn watchers_of_the_past_are_told(store: Tested) {
    store.put("a", "1").await;
    let mut present = store.watch(Span::all(), None).await;
    let second = store.delete("a").await;
    let third = store.put("a", "3").await;
    store.store.compact(second).await.unwrap();
    for from in [Revision(2), second] {
        let error = match store.store.watch(Span::all(), Some(from)).await {
            Ok(mut watch) => watch.next().await.unwrap().unwrap_err(),
            Err(error) => error,
        };
        let told =
            matches!(error, Error::Compacted { compacted_revision: Some(at) } if at == second);
        assert!(told, "from {from}: {error:?}");
    }
    let mut watch = store.watch(Span::all(), Some(third)).await;
    assert_eq!(next(&mut watch).await.revision, third);
    assert_eq!(next(&mut present).await.revision, second);
    assert_eq!(next(&mut present).await.revision, third);
}

pub(crate) async fn what_is_kept_stays_readable(store: Tested) {
    for n in 0..50 {
        store.put(&format!("a/{}", n % 5), &n.to_string()).await;
    }
    let deleted = store.delete("a/0").await;
    let after = store.put("a/1", "new").await;
    store.store.compact(deleted).await.unwrap();
    let then = ["a/1=46", "a/2=47", "a/3=48", "a/4=49"];
    assert_eq!(pairs(&store.entries(Range::of(Span::all()).at(deleted)).await), then);
    let entry = store.get("a/2").await.unwrap();
    assert_eq!((entry.version, entry.create_revision), (10, Revision(4)));
    assert_eq!(store.get("a/1").await.unwrap().mod_revision, after);
    store.store.compact(after).await.unwrap();
    let now = ["a/1=new", "a/2=47", "a/3=48", "a/4=49"];
    assert_eq!(pairs(&store.entries(Range::of(Span::all()).at(after)).await), now);
    assert_eq!(store.put("a/0", "").await, after.next());
}

pub(crate) async fn it_cannot_be_done_twice(store: Tested) {
    let revision = store.put("a", "1").await;
    let ahead = store.store.compact(revision.next()).await;
    assert!(matches!(ahead, Err(Error::FutureRevision { asked }) if asked == revision.next()));
    store.store.compact(revision).await.unwrap();
    let again = store.store.compact(revision).await;
    assert!(matches!(again, Err(Error::Compacted { .. })), "{again:?}");
}
