//! Members that fail.

use std::time::Duration;

use futures_util::StreamExt as _;
use sinew_control::store::{
    Applied, Error, Etcd, Fault, Op, Range, Span, Store, Transaction, Update,
};

use crate::{
    cluster::{Cluster, Ready},
    counter::{Counter, KEY, sees_every_step},
};

async fn serves(ready: Ready) {
    tokio::task::spawn_blocking(move || ready.recv()).await.unwrap().unwrap();
}

/// Counts while the member that is asked fails, and after it is back.
async fn outlives(
    fail: impl FnOnce(&mut Cluster),
    repair: impl AsyncFnOnce(&mut Cluster),
) -> (usize, usize) {
    let mut cluster = Cluster::three();
    let store = Etcd::connect(cluster.options()).await.unwrap();
    let mut counter = Counter::new(&store);
    let mut watch = store.watch(Span::key(KEY), None).await.unwrap();
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    counter.up_to(20).await;
    let watched = tokio::spawn(async move { (sees_every_step(&mut watch, 0, 150).await, watch) });
    fail(&mut cluster);
    counter.up_to(100).await;
    assert_eq!(store.keep_alive(lease.id).await.unwrap(), lease);
    repair(&mut cluster).await;
    counter.up_to(150).await;
    let (interrupted, mut watch) = watched.await.unwrap();
    counter.up_to(160).await;
    sees_every_step(&mut watch, 150, 160).await;
    (counter.unknown, interrupted)
}

#[tokio::test]
async fn a_killed_member_is_not_missed() {
    let restart = async |cluster: &mut Cluster| serves(cluster.restart(0)).await;
    let (_, interrupted) = outlives(|cluster| cluster.kill(0), restart).await;
    assert!(interrupted >= 1);
}

#[tokio::test]
async fn a_member_that_is_cut_off_is_not_missed() {
    let (unknown, interrupted) =
        outlives(|cluster| cluster.cut(0), async |cluster| cluster.heal(0)).await;
    assert!(unknown >= 1, "what was sent to it may have been done");
    assert!(interrupted >= 1);
}

#[tokio::test]
async fn a_member_that_stands_still_is_not_missed() {
    let (unknown, interrupted) =
        outlives(|cluster| cluster.freeze(0), async |cluster| cluster.thaw(0)).await;
    assert!(unknown >= 1, "what was sent to it may have been done");
    assert!(interrupted >= 1);
}

#[tokio::test]
async fn without_a_quorum_nothing_is_done_and_with_it_all_goes_on() {
    let mut cluster = Cluster::three();
    let mut options = cluster.options();
    options.timeout = Duration::from_secs(3);
    let store = Etcd::connect(options).await.unwrap();
    let mut counter = Counter::new(&store);
    let mut watch = store.watch(Span::key(KEY), None).await.unwrap();
    counter.up_to(10).await;
    sees_every_step(&mut watch, 0, 10).await;
    cluster.kill(1);
    cluster.kill(2);
    let error = counter.step().await.unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. } | Error::Timeout { .. }), "{error:?}");
    assert_eq!(error.fault(), Fault::Store);
    let error = store.range(Range::of(Span::key(KEY))).await.unwrap_err();
    assert_eq!(error.applied(), Applied::No, "{error:?}");
    let told = watch.next().await.unwrap().unwrap();
    assert!(matches!(told, Update::Interrupted(_)), "{told:?}");
    let (one, other) = (cluster.restart(1), cluster.restart(2));
    serves(one).await;
    serves(other).await;
    // What was left open may have been done meanwhile.
    let now = store.range(Range::of(Span::key(KEY))).await.unwrap();
    counter.count = std::str::from_utf8(&now.entries[0].value).unwrap().parse().unwrap();
    assert!((10..=11).contains(&counter.count));
    counter.up_to(20).await;
    sees_every_step(&mut watch, 10, 20).await;
}

#[tokio::test]
async fn leases_outlive_their_leader_and_end_after_it() {
    let mut cluster = Cluster::three();
    let store = Etcd::connect(cluster.options()).await.unwrap();
    let lease = store.grant(Duration::from_secs(5)).await.unwrap();
    store.commit(Transaction::new().then(Op::put_under(lease.id, "a", ""))).await.unwrap();
    let mut watch = store.watch(Span::all(), None).await.unwrap();
    cluster.kill(cluster.leader());
    assert_eq!(store.keep_alive(lease.id).await.unwrap(), lease);
    let gone = loop {
        if let Update::Batch(batch) = watch.next().await.unwrap().unwrap() {
            break batch;
        }
    };
    assert_eq!(gone.events[0].key(), "a");
    assert!(matches!(store.keep_alive(lease.id).await, Err(Error::LeaseNotFound { .. })));
}
