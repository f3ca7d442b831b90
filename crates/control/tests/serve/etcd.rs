//! Replicas over a real etcd: one that tells the others, and one that goes away.

use std::{sync::Arc, time::Duration};

use sinew_control::{identity::Lives, store::Etcd};
use sinew_proto::FromControl;

use crate::{
    cluster::Cluster,
    world::{Known, World, has, open, report, reported, soon, subscribe},
};

async fn over(cluster: &Cluster) -> World {
    let store = Etcd::connect(cluster.options()).await.unwrap();
    World::over(Arc::new(store), Lives::default()).await
}

#[tokio::test]
async fn replicas_with_connections_of_their_own_tell_each_other() {
    let cluster = Cluster::single();
    let (one, two) = (over(&cluster).await, over(&cluster).await);
    let (first, second) = (one.replica("c1").await, two.replica("c2").await);
    // Either lets in who has a token of the other.
    let owner = one.member(second.at, "n1").await;
    let caller = two.member(first.at, "n2").await;
    let (mut owner_talk, _) = open(&owner, first.at).await;
    owner_talk.say(report(&owner_talk, 1, true, [1, 2])).await.unwrap();
    reported(&mut owner_talk, 1).await;
    let (mut caller, _) = open(&caller, second.at).await;
    subscribe(&caller).await;
    let mut known = Known::default();
    soon(has(&mut caller, &mut known, &[1, 2])).await;
    // Its replica is killed; it goes on at the other.
    first.kill();
    let (mut moved, welcome) = open(&owner, second.at).await;
    assert_eq!(welcome.epoch, 2);
    moved.say(report(&moved, 1, true, [1, 2, 3])).await.unwrap();
    reported(&mut moved, 1).await;
    soon(has(&mut caller, &mut known, &[1, 2, 3])).await;
}

#[tokio::test]
async fn r1_while_the_store_is_away_sessions_stay_and_what_is_told_waits() {
    let mut cluster = Cluster::single();
    let world = over(&cluster).await;
    let replica = world.replica("c1").await;
    let (owner, caller) =
        (world.member(replica.at, "n1").await, world.member(replica.at, "n2").await);
    let (mut owner, _) = open(&owner, replica.at).await;
    owner.say(report(&owner, 1, true, [1])).await.unwrap();
    reported(&mut owner, 1).await;
    let (mut caller, _) = open(&caller, replica.at).await;
    subscribe(&caller).await;
    let mut known = Known::default();
    soon(has(&mut caller, &mut known, &[1])).await;

    cluster.kill(0);
    for sequence in 2..6 {
        owner.say(report(&owner, sequence, false, [1, sequence as u32])).await.unwrap();
    }
    // Longer than a silent host would live. Nothing is removed, and nobody sent away.
    let away = tokio::time::sleep(Duration::from_secs(7));
    tokio::pin!(away);
    loop {
        tokio::select! {
            heard = owner.hear() => match heard.unwrap() {
                FromControl::Hosts(_) | FromControl::Zones(_) | FromControl::Catalog(_) => {}
                other => panic!("{other:?}"),
            },
            heard = caller.hear() => known.take(heard.unwrap()),
            () = &mut away => break,
        }
    }
    assert_eq!(known.instances(), [1]);
    // Who is new is told why it has to wait.
    let ready = cluster.restart(0);
    tokio::task::spawn_blocking(move || ready.recv()).await.unwrap().unwrap();
    soon(reported(&mut owner, 5)).await;
    soon(has(&mut caller, &mut known, &[1, 5])).await;
    let stored = world.session("n1").await;
    assert_eq!((stored.epoch, stored.lost_since_ms, stored.dead_since_ms), (1, None, None));
}
