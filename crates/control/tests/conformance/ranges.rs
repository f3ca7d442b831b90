//! Reading.

use bytes::Bytes;
use sinew_control::store::{Entry, Error, Range, Revision, Span};

use crate::support::{Tested, pairs};

pub(crate) async fn an_empty_store_is_at_revision_one(store: Tested) {
    let ranged = store.store.range(Range::of(Span::all())).await.unwrap();
    assert_eq!((ranged.revision, ranged.entries.len(), ranged.more), (Revision(1), 0, false));
    assert_eq!(store.put("a", "1").await, Revision(2));
}

pub(crate) async fn entries_tell_their_history(store: Tested) {
    store.put("other", "").await;
    let made = store.put("a", "1").await;
    let changed = store.put("a", "2").await;
    let expected = |create_revision, mod_revision, version, value: &'static str| Entry {
        key: Bytes::from_static(b"a"),
        value: Bytes::from_static(value.as_bytes()),
        create_revision,
        mod_revision,
        version,
        lease: None,
    };
    assert_eq!(store.get("a").await, Some(expected(made, changed, 2, "2")));
    store.delete("a").await;
    assert_eq!(store.get("a").await, None);
    let anew = store.put("a", "").await;
    assert_eq!(store.get("a").await, Some(expected(anew, anew, 1, "")));
}

pub(crate) async fn spans_are_ordered(store: Tested) {
    for key in ["b", "a/2", "a/1", "a", "a0"] {
        store.put(key, "").await;
    }
    let of = async |span| pairs(&store.entries(Range::of(span)).await);
    assert_eq!(of(Span::all()).await, ["a=", "a/1=", "a/2=", "a0=", "b="]);
    assert_eq!(of(Span::prefix("a/")).await, ["a/1=", "a/2="]);
    assert_eq!(of(Span::prefix("")).await.len(), 5);
    assert_eq!(of(Span::key("a")).await, ["a="]);
    assert_eq!(of(Span::range("a/2", "b")).await, ["a/2=", "a0="]);
    assert_eq!(of(Span::range("", "a/1")).await, ["a="]);
    assert_eq!(of(Span::from("a0")).await, ["a0=", "b="]);
    let bad = store.store.range(Range::of(Span::range("b", "a"))).await;
    assert!(matches!(bad, Err(Error::Invalid(_))), "{bad:?}");
}

pub(crate) async fn limits_say_that_there_is_more(store: Tested) {
    for key in ["a/1", "a/2", "a/3"] {
        store.put(key, "").await;
    }
    let revision = store.put("a/3", "").await;
    let of = async |range: Range| {
        let ranged = store.store.range(range).await.unwrap();
        (ranged.entries.len(), ranged.more)
    };
    for at in [None, Some(Revision(4))] {
        let range = Range { revision: at, ..Range::of(Span::prefix("a/")) };
        assert_eq!(of(range.clone().limit(2)).await, (2, true));
        assert_eq!(of(range.clone().limit(3)).await, (3, false));
        assert_eq!(of(range).await, (3, false));
    }
    let rest = Range::of(Span::prefix("a/").after(b"a/1")).at(revision);
    assert_eq!(pairs(&store.entries(rest).await), ["a/2=", "a/3="]);
}

pub(crate) async fn the_past_can_be_read(store: Tested) {
    let first = store.put("a", "1").await;
    store.put("b", "1").await;
    let second = store.put("a", "2").await;
    let deleted = store.delete("a").await;
    store.put("c", "1").await;
    let at = async |revision| pairs(&store.entries(Range::of(Span::all()).at(revision)).await);
    assert_eq!(at(Revision(1)).await, [""; 0]);
    assert_eq!(at(first).await, ["a=1"]);
    assert_eq!(at(second).await, ["a=2", "b=1"]);
    assert_eq!(at(deleted).await, ["b=1"]);
    assert_eq!(at(Revision(0)).await, ["b=1", "c=1"]);
    let then = store.store.range(Range::of(Span::key("a")).at(first)).await.unwrap();
    assert_eq!((then.revision, then.entries[0].version), (Revision(6), 1));
}

pub(crate) async fn the_future_cannot(store: Tested) {
    let next = store.put("a", "1").await.next();
    let refused = store.store.range(Range::of(Span::all()).at(next)).await;
    assert!(matches!(refused, Err(Error::FutureRevision { asked }) if asked == next));
}
