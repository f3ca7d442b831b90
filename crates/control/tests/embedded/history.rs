//! What is kept is bounded.

use std::sync::Arc;

use futures_util::{StreamExt as _, future::join_all};
use sinew_control::store::{
    Embedded, Error, ManualClock, Op, Revision, Span, Store, Transaction, Update, embedded::Options,
};

async fn store(history_revisions: u64) -> Embedded {
    let options = Options { history_revisions, ..Options::default() };
    Embedded::in_memory(options, Arc::new(ManualClock::default())).await.unwrap()
}

async fn put(store: &Embedded, number: usize) {
    for n in 0..number {
        store.commit(Transaction::put(format!("k/{}", n % 10), n.to_string())).await.unwrap();
    }
}

#[tokio::test]
async fn old_history_goes_by_itself() {
    let store = store(100).await;
    put(&store, 1_000).await;
    let old = store.watch(Span::all(), Some(Revision(800))).await.unwrap_err();
    let Error::Compacted { compacted_revision: Some(compacted) } = old else { panic!("{old:?}") };
    assert!((880..=901).contains(&compacted.0), "{compacted}");
    let mut watch = store.watch(Span::all(), Some(Revision(902))).await.unwrap();
    for revision in 902..=1_001 {
        let Update::Batch(batch) = watch.next().await.unwrap().unwrap() else { panic!() };
        assert_eq!(batch.revision.0, revision);
    }
}

#[tokio::test]
async fn who_is_slower_than_history_lasts_is_told() {
    let store = store(100).await;
    let mut watch = store.watch(Span::all(), None).await.unwrap();
    let first = store.commit(Transaction::put("k", "")).await.unwrap().revision;
    let Update::Batch(batch) = watch.next().await.unwrap().unwrap() else { panic!() };
    assert_eq!(batch.revision, first);
    // More than lies in memory.
    put(&store, 6_000).await;
    let mut last = batch.revision;
    let end = loop {
        match watch.next().await.unwrap() {
            Ok(Update::Batch(batch)) => {
                assert_eq!(batch.revision, last.next(), "what is told has no gaps");
                last = batch.revision;
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(end, Error::Compacted { compacted_revision: Some(at) } if at > last));
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn who_watches_quiet_keys_hears_of_progress() {
    let store = store(100_000).await;
    let mut watch = store.watch(Span::key("quiet"), Some(Revision(1))).await.unwrap();
    put(&store, 10).await;
    let Update::Progress(present) = watch.next().await.unwrap().unwrap() else { panic!() };
    assert_eq!(present, Revision(11));
    put(&store, 1_500).await;
    let Update::Progress(later) = watch.next().await.unwrap().unwrap() else { panic!() };
    assert!(later.0 >= 11 + 1_024, "{later}");
}

#[tokio::test]
async fn what_is_compacted_leaves_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("store");
    let options = Options { history_revisions: 200, ..Options::default() };
    let store = Embedded::open(&file, options).await.unwrap();
    let round = async || {
        let puts = (0..2_000)
            .map(|n| store.commit(Transaction::put(format!("k/{}", n % 10), vec![0; 2_000])));
        join_all(puts).await.into_iter().for_each(|put| drop(put.unwrap()));
        store.commit(Transaction::new().then(Op::Delete(Span::all()))).await.unwrap();
        std::fs::metadata(&file).unwrap().len()
    };
    let first = round().await;
    for _ in 0..5 {
        let now = round().await;
        assert!(now <= first * 3, "{now} bytes after {first}");
    }
}
