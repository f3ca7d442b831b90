//! Sessions: what one host tells another, by one replica and by several.

use sinew_proto::FromControl;

use crate::world::{Known, World, has, open, report, reported, soon, subscribe};

#[tokio::test]
async fn what_a_host_runs_is_heard_by_those_who_want_to() {
    let world = World::new().await;
    let replica = world.replica("c1").await;
    let (owner, caller) =
        (world.member(replica.at, "n1").await, world.member(replica.at, "n2").await);
    let (mut owner, _) = open(&owner, replica.at).await;
    owner.say(report(1, true, [1, 2])).await.unwrap();
    reported(&mut owner, 1).await;
    let (mut caller, _) = open(&caller, replica.at).await;
    subscribe(&caller).await;
    let mut known = Known::default();
    soon(has(&mut caller, &mut known, &[1, 2])).await;
    owner.say(report(2, false, [2, 3])).await.unwrap();
    soon(has(&mut caller, &mut known, &[2, 3])).await;
    assert_eq!(known.updates, 2, "a snapshot and a delta");
}

#[tokio::test]
async fn what_is_told_to_one_replica_is_heard_at_another_and_a_host_may_move() {
    let world = World::new().await;
    let (first, second) = (world.replica("c1").await, world.replica("c2").await);
    let (owner, caller) = (world.member(first.at, "n1").await, world.member(second.at, "n2").await);
    let (mut talk, _) = open(&owner, first.at).await;
    talk.say(report(1, true, [1])).await.unwrap();
    let (mut caller, _) = open(&caller, second.at).await;
    subscribe(&caller).await;
    let mut known = Known::default();
    soon(has(&mut caller, &mut known, &[1])).await;
    // It moves, while its old session is still there.
    let (mut moved, welcome) = open(&owner, second.at).await;
    assert_eq!(welcome.epoch, 2);
    let goodbye = talk.hear_until(|message| match message {
        FromControl::Goodbye { reason, .. } => Some(reason),
        _ => None,
    });
    let reason = soon(goodbye).await.unwrap();
    assert!(reason.starts_with("the session of epoch 1 was superseded by c2-"), "{reason}");
    moved.say(report(1, true, [1, 2])).await.unwrap();
    reported(&mut moved, 1).await;
    soon(has(&mut caller, &mut known, &[1, 2])).await;
}
