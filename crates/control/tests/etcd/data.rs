//! What etcd has of its data: compacted, full, restored.

use futures_util::StreamExt as _;
use sinew_control::store::{
    Error, Etcd, Fault, Op, Range, Retry, Revision, Span, Store, Transaction, Update,
};

use crate::cluster::{Cluster, Config};

async fn put(store: &Etcd, key: &'static str) -> Revision {
    store.commit(Transaction::put(key, "")).await.unwrap().revision
}

/// Restarts the only member, until it answers over a new connection.
async fn restart(cluster: &mut Cluster, store: &Etcd) {
    cluster.kill(0);
    cluster.restart(0).recv().unwrap();
    store.range(Range::of(Span::all())).await.unwrap();
}

#[tokio::test]
async fn a_watch_that_comes_back_too_late_is_told() {
    let mut cluster = Cluster::single();
    let store = Etcd::connect(cluster.options()).await.unwrap();
    let mut late = store.watch(Span::all(), None).await.unwrap();
    let mut in_time = store.watch(Span::all(), None).await.unwrap();
    restart(&mut cluster, &store).await;
    put(&store, "a").await;
    let at = put(&store, "a").await;
    // It comes back before, and sees all.
    let mut seen = Vec::new();
    while seen.len() < 2 {
        if let Update::Batch(batch) = in_time.next().await.unwrap().unwrap() {
            seen.push(batch.revision);
        }
    }
    store.compact(at).await.unwrap();
    let interrupted = late.next().await.unwrap().unwrap();
    assert!(matches!(interrupted, Update::Interrupted(_)), "{interrupted:?}");
    let told = loop {
        match late.next().await.unwrap() {
            Ok(Update::Progress(revision)) => assert!(revision < at),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(told, Error::Compacted { compacted_revision: Some(told) } if told == at));
    assert!(late.next().await.is_none());
    let next = put(&store, "a").await;
    let Update::Batch(batch) = in_time.next().await.unwrap().unwrap() else { panic!() };
    assert_eq!(batch.revision, next);
}

#[tokio::test]
async fn a_full_etcd_says_so_and_loses_nothing() {
    let quota = "--quota-backend-bytes=8388608".to_owned();
    let config = Config { members: 1, arguments: vec![quota], ..Config::default() };
    let cluster = Cluster::start(config);
    let store = Etcd::connect(cluster.options()).await.unwrap();
    let mut taken = 0;
    let error = loop {
        let key = format!("k/{taken:03}");
        match store.commit(Transaction::put(key, vec![b'v'; 500_000])).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    assert_eq!((error.fault(), error.retry()), (Fault::Operator, Retry::Later));
    assert!(error.to_string().contains("defragment"), "{error}");
    assert!(taken > 5, "{taken}");
    let ranged = store.range(Range::of(Span::prefix("k/"))).await.unwrap();
    assert_eq!(ranged.entries.len(), taken);
    let delete = Transaction::new().then(Op::Delete(Span::from("k/001")));
    let revision = store.commit(delete).await.unwrap().revision;
    store.compact(Revision(revision.0 - 1)).await.unwrap();
    let refused = store.commit(Transaction::put("k", "")).await;
    assert!(matches!(refused, Err(Error::NoSpace { .. })), "the alarm stays: {refused:?}");
    // What an operator does.
    cluster.control(&["compaction", "--physical", &revision.to_string()]);
    cluster.control(&["defrag"]);
    cluster.control(&["alarm", "disarm"]);
    store.commit(Transaction::put("k", "")).await.unwrap();
    assert_eq!(store.range(Range::of(Span::all())).await.unwrap().entries.len(), 2);
}

#[tokio::test]
async fn a_restored_backup_is_noticed() {
    let mut cluster = Cluster::single();
    let store = Etcd::connect(cluster.options()).await.unwrap();
    put(&store, "a").await;
    let backup = put(&store, "a").await;
    cluster.back_up();
    let last = put(&store, "a").await;
    let mut watch = store.watch(Span::all(), None).await.unwrap();
    cluster.kill(0);
    cluster.restore();
    cluster.restart(0).recv().unwrap();
    let rewound = |error: &Error| matches!(error, Error::Rewound { seen, found } if *seen == last && *found == backup);
    let error = store.range(Range::of(Span::all())).await.unwrap_err();
    assert!(rewound(&error), "{error:?}");
    let error = loop {
        match watch.next().await.unwrap() {
            Ok(Update::Interrupted(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(rewound(&error), "{error:?}");
    let anew = Etcd::connect(cluster.options()).await.unwrap();
    assert_eq!(anew.range(Range::of(Span::all())).await.unwrap().revision, backup);
}
