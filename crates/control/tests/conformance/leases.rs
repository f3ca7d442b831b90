//! Leases.

use std::time::Duration;

use sinew_control::store::{Error, Event, Lease, Op, Span, Transaction};

use crate::support::{Tested, next};

const TTL: Duration = Duration::from_secs(3);

async fn leased(store: &Tested, key: &'static str) -> Lease {
    let lease = store.store.grant(TTL).await.unwrap();
    store.commit(Transaction::new().then(Op::put_under(lease.id, key, "1"))).await;
    lease
}

pub(crate) async fn keys_go_with_their_lease(store: Tested) {
    let lease = leased(&store, "a").await;
    store.commit(Transaction::new().then(Op::put_under(lease.id, "b", "1"))).await;
    let stays = store.put("c", "1").await;
    assert_eq!(store.get("a").await.unwrap().lease, Some(lease.id));
    let mut watch = store.watch(Span::all(), Some(stays.next())).await;
    store.pass(lease.ttl).await;
    let gone = next(&mut watch).await;
    assert_eq!((gone.revision, gone.events.len()), (stays.next(), 2));
    assert!(gone.events.iter().all(|event| matches!(event, Event::Delete(_))));
    assert!(store.get("a").await.is_none() && store.get("c").await.is_some());

    let lease = leased(&store, "a").await;
    let revoked = store.store.revoke(lease.id).await.unwrap();
    assert_eq!(next(&mut watch).await.revision.next(), revoked);
    let gone = next(&mut watch).await;
    assert_eq!((gone.revision, gone.events[0].key().as_ref()), (revoked, &b"a"[..]));
}

pub(crate) async fn a_lease_that_is_kept_alive_stays(store: Tested) {
    let (kept, left) = (leased(&store, "kept").await, leased(&store, "left").await);
    let mut watch = store.watch(Span::all(), None).await;
    for _ in 0..4 {
        store.pass(TTL / 2).await;
        assert_eq!(store.store.keep_alive(kept.id).await.unwrap(), kept);
    }
    assert_eq!(next(&mut watch).await.events[0].key(), "left");
    assert!(store.get("kept").await.is_some());
    let ended = store.store.keep_alive(left.id).await;
    assert!(matches!(ended, Err(Error::LeaseNotFound { lease }) if lease == left.id));
}

pub(crate) async fn the_last_put_decides(store: Tested) {
    let first = leased(&store, "a").await;
    let second = leased(&store, "a").await;
    leased(&store, "b").await;
    store.put("b", "stays").await;
    store.store.revoke(first.id).await.unwrap();
    assert_eq!(store.get("a").await.unwrap().lease, Some(second.id));
    store.store.revoke(second.id).await.unwrap();
    assert_eq!(store.get("a").await, None);
    assert_eq!(store.get("b").await.unwrap().lease, None);
    let revision = store.revision().await;
    let lease = store.store.grant(TTL).await.unwrap();
    assert_eq!(store.store.revoke(lease.id).await.unwrap(), revision, "it had no keys");
}

pub(crate) async fn ended_leases_are_not_found(store: Tested) {
    let lease = leased(&store, "a").await.id;
    store.store.revoke(lease).await.unwrap();
    let not_found =
        |error: Error| matches!(error, Error::LeaseNotFound { lease: of } if of == lease);
    assert!(not_found(store.store.keep_alive(lease).await.unwrap_err()));
    assert!(not_found(store.store.revoke(lease).await.unwrap_err()));
    assert!(not_found(store.store.time_to_live(lease).await.unwrap_err()));
    let put = Transaction::new().then(Op::put_under(lease, "a", "1"));
    assert!(not_found(store.store.commit(put).await.unwrap_err()));
}

pub(crate) async fn time_to_live_lists_keys(store: Tested) {
    let lease = leased(&store, "b").await;
    store.commit(Transaction::new().then(Op::put_under(lease.id, "a", "1"))).await;
    store.commit(Transaction::new().then(Op::put_under(lease.id, "c", "1"))).await;
    store.delete("c").await;
    let status = store.store.time_to_live(lease.id).await.unwrap();
    assert_eq!((status.ttl, status.keys), (lease.ttl, vec!["a".into(), "b".into()]));
    assert!(status.remaining <= lease.ttl && lease.ttl >= TTL);
}
