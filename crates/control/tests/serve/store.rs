//! A real etcd that takes nothing more, stands still, or is as it was long ago.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use sinew_control::{
    identity::Lives,
    serve::Error,
    store::{self, Etcd, Range, Span, Store, Transaction, transfer},
};
use sinew_model::fleet::Generation;
use sinew_proto::{FromAgent, FromControl, Hello};

use crate::{
    cluster::{Cluster, Config},
    world::{Known, World, has, hello, open, orders, report, reported, reweighed, soon, subscribe},
};

async fn over(cluster: &Cluster) -> World {
    let store = Etcd::connect(cluster.options()).await.unwrap();
    World::over(Arc::new(store), Lives::default()).await
}

/// Changes one thing until the store takes no more. Answers how often it did.
async fn fill(store: &dyn Store) -> usize {
    for n in 0..1000 {
        let put = Transaction::put("filler", vec![b'x'; 512 << 10]);
        match store.commit(put).await {
            Ok(_) => (),
            Err(store::Error::NoSpace { .. }) => return n,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("it is never full");
}

#[tokio::test]
async fn while_the_store_is_full_control_serves_and_says_so_and_nothing_is_lost() {
    let arguments = vec![format!("--quota-backend-bytes={}", 16 << 20)];
    let cluster = Cluster::start(Config { members: 1, arguments, ..Config::default() });
    let world = over(&cluster).await;
    let replica = world.replica("c1").await;
    let (owner, caller) =
        (world.member(replica.at, "n1").await, world.member(replica.at, "n2").await);
    let (mut owner, _) = open(&owner, replica.at).await;
    owner.say(report(&owner, 1, true, [1])).await.unwrap();
    reported(&mut owner, 1).await;
    let (mut caller, _) = open(&caller, replica.at).await;
    assert_eq!(replica.handle.trouble(), None);

    assert!(fill(&*world.store).await > 4);
    for sequence in 2..6 {
        owner.say(report(&owner, sequence, false, [1, sequence as u32])).await.unwrap();
    }
    let told = async {
        loop {
            match replica.handle.trouble() {
                Some(told) if told.contains("space exceeded") => return told,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let told = soon(told).await;
    assert!(told.contains("compact and defragment it, or raise its quota, then disarm"), "{told}");
    // Who asks now is told what is known.
    subscribe(&caller).await;
    let mut known = Known::default();
    soon(has(&mut caller, &mut known, &[1])).await;

    // The replica may be behind the filler's last, and space is free when it was really compacted.
    let newest = world.store.range(Range::of(Span::key("filler"))).await.unwrap().revision;
    let compact = ["compact", "--physical", &newest.to_string()];
    for arguments in [&compact[..], &["defrag"], &["alarm", "disarm"]] {
        cluster.control(arguments);
    }
    soon(reported(&mut owner, 5)).await;
    soon(has(&mut caller, &mut known, &[1, 5])).await;
    assert_eq!(replica.handle.trouble(), None);
    let stored = world.session("n1").await;
    assert_eq!((stored.epoch, stored.lost_since_ms, stored.dead_since_ms), (1, None, None));
}

#[tokio::test]
async fn while_the_store_stands_still_nobody_is_declared_dead() {
    let cluster = Cluster::single();
    let world = over(&cluster).await;
    let replica = world.replica("c1").await;
    let mut talks = Vec::new();
    for (name, instance) in [("n1", 1), ("n2", 3)] {
        let (mut talk, _) = open(&world.member(replica.at, name).await, replica.at).await;
        talk.say(report(&talk, 1, true, [instance])).await.unwrap();
        reported(&mut talk, 1).await;
        talks.push(talk);
    }
    let [owner, caller] = &mut talks[..] else { panic!() };
    subscribe(caller).await;
    let mut known = Known::default();
    soon(has(caller, &mut known, &[1, 3])).await;

    // Longer than leases and silent hosts live.
    cluster.freeze(0);
    owner.say(report(owner, 2, false, [1, 2])).await.unwrap();
    let still = tokio::time::sleep(Duration::from_secs(7));
    tokio::pin!(still);
    loop {
        tokio::select! {
            heard = caller.hear() => known.take(heard.unwrap()),
            () = &mut still => break,
        }
    }
    assert_eq!(known.instances(), [1, 3]);
    let told = replica.handle.trouble().unwrap();
    assert!(told.contains("what is known stays in force"), "{told}");
    cluster.thaw(0);
    soon(reported(owner, 2)).await;
    soon(has(caller, &mut known, &[1, 2, 3])).await;
    // As long as it takes to declare somebody dead.
    let later = tokio::time::sleep(Duration::from_secs(12));
    tokio::pin!(later);
    loop {
        tokio::select! {
            heard = caller.hear() => match heard.unwrap() {
                FromControl::Dead { node } => panic!("{node} is declared dead"),
                FromControl::Goodbye { reason, .. } => panic!("{reason}"),
                other => known.take(other),
            },
            heard = owner.hear() => if let FromControl::Goodbye { reason, .. } = heard.unwrap() {
                panic!("{reason}")
            },
            () = &mut later => break,
        }
    }
    assert_eq!(known.instances(), [1, 2, 3]);
    assert_eq!(replica.handle.trouble(), None);
}

#[tokio::test]
async fn after_an_old_backup_nothing_is_deleted_and_what_runs_comes_back() {
    let mut cluster = Cluster::single();
    let world = over(&cluster).await;
    let replica = world.replica("c1").await;
    let (owner, caller) =
        (world.member(replica.at, "n1").await, world.member(replica.at, "n2").await);
    let (mut talk, _) = open(&owner, replica.at).await;
    talk.say(report(&talk, 1, true, 0..20)).await.unwrap();
    reported(&mut talk, 1).await;
    let (mut listener, _) = open(&caller, replica.at).await;
    cluster.back_up();

    // Most of it ends, and other begins; and it is heard of.
    talk.say(report(&talk, 2, false, 15..30)).await.unwrap();
    reported(&mut talk, 2).await;
    for sequence in 3..20 {
        talk.say(reweighed(&talk, sequence, 15..30, sequence as u32)).await.unwrap();
        reported(&mut talk, sequence).await;
    }
    subscribe(&listener).await;
    let mut known = Known::default();
    let now: Vec<u32> = (15..30).collect();
    soon(has(&mut listener, &mut known, &now)).await;
    let newest = replica.handle.revision();

    cluster.kill(0);
    cluster.restore();
    let ready = cluster.restart(0);
    tokio::task::spawn_blocking(move || ready.recv()).await.unwrap().unwrap();
    let ended = soon(replica.ended()).await;
    assert!(matches!(ended, Err(Error::Store(store::Error::Rewound { .. }))), "{ended:?}");

    // It is started again, and hosts come back; who called knows more than the store.
    let world = over(&cluster).await;
    let replica = world.replica("c1").await;
    let knows = Hello { known: [(orders(), Generation(newest.0))].into(), ..hello(&caller) };
    let (mut listener, _) = caller.open(replica.at, knows).await.unwrap();
    let old: Vec<u32> = (0..20).collect();
    let mut catalog = None;
    let mut known = Known::default();
    let told = async {
        while known.instances() != old || catalog.is_none() {
            match listener.hear().await.unwrap() {
                FromControl::Catalog(all) => catalog = Some(all),
                other => known.take(other),
            }
        }
    };
    soon(told).await;
    let catalog = catalog.unwrap();
    assert!(catalog.from.is_none() && catalog.added.contains(&orders()), "all of it: {catalog:?}");
    let (mut talk, welcome) = open(&owner, replica.at).await;
    assert_eq!(welcome.epoch, 2);
    let FromAgent::Report(mut full) = report(&talk, 1, true, 15..30) else { panic!() };
    full.services.get_mut(&orders()).unwrap().gone = (0..15).collect::<BTreeSet<u32>>();
    talk.say(FromAgent::Report(full)).await.unwrap();
    soon(reported(&mut talk, 1)).await;
    soon(has(&mut listener, &mut known, &now)).await;
}

#[tokio::test]
async fn after_an_old_backup_the_store_is_of_another_lineage_as_soon_as_a_host_knows_more() {
    let mut cluster = Cluster::single();
    let world = over(&cluster).await;
    let replica = world.replica("c1").await;
    let (owner, caller) =
        (world.member(replica.at, "n1").await, world.member(replica.at, "n2").await);
    let (mut talk, before) = open(&owner, replica.at).await;
    let before = before.lineage.unwrap();
    talk.say(report(&talk, 1, true, 0..3)).await.unwrap();
    reported(&mut talk, 1).await;
    let _ = open(&caller, replica.at).await;
    cluster.back_up();
    for sequence in 2..60 {
        talk.say(reweighed(&talk, sequence, 0..3, sequence as u32)).await.unwrap();
        reported(&mut talk, sequence).await;
    }
    let newest = Generation(replica.handle.revision().0);
    cluster.kill(0);
    cluster.restore();
    let ready = cluster.restart(0);
    tokio::task::spawn_blocking(move || ready.recv()).await.unwrap().unwrap();
    drop(talk);
    let _ = soon(replica.ended()).await;

    // Nobody of those who write to the store knows; a host that knows little less than the store
    // does not either.
    let world = over(&cluster).await;
    let replica = world.replica("c2").await;
    let lineage = Some(before.id.clone());
    let (mut unaware, welcome) = open(&owner, replica.at).await;
    assert_eq!(welcome.lineage, Some(before.clone()));
    let knows = Hello { lineage: lineage.clone(), newest, ..hello(&caller) };
    let (mut aware, welcome) = caller.open(replica.at, knows).await.unwrap();
    assert_eq!(welcome.lineage.as_ref(), Some(&before));
    // Each is told, comes back, and is told everything.
    for talk in [&mut unaware, &mut aware] {
        let goodbye = talk.hear_until(|message| match message {
            FromControl::Goodbye { reason, .. } => Some(reason),
            _ => None,
        });
        let reason = soon(goodbye).await.unwrap();
        assert!(reason.contains("restored as it was before"), "{reason}");
    }
    let known = [(orders(), Generation(3))].into();
    let knows = Hello { known, lineage, newest, ..hello(&caller) };
    let (mut aware, welcome) = caller.open(replica.at, knows).await.unwrap();
    let after = welcome.lineage.unwrap();
    assert!(after.id != before.id && after.since > before.since, "{after:?}");
    let told = aware.hear_until(|message| match message {
        FromControl::Snapshot(snapshot) => Some(snapshot),
        FromControl::Delta(delta) => panic!("what it counts from is of no meaning: {delta:?}"),
        FromControl::Goodbye { reason, .. } => panic!("it is told again: {reason}"),
        _ => None,
    });
    assert_eq!(soon(told).await.unwrap().endpoints.len(), 3);
}

#[tokio::test]
async fn after_an_old_export_is_imported_who_knew_more_is_told_everything() {
    let cluster = Cluster::single();
    let world = over(&cluster).await;
    let replica = world.replica("c1").await;
    let (owner, caller) =
        (world.member(replica.at, "n1").await, world.member(replica.at, "n2").await);
    let (mut talk, before) = open(&owner, replica.at).await;
    talk.say(report(&talk, 1, true, 0..20)).await.unwrap();
    reported(&mut talk, 1).await;
    let mut export = Vec::new();
    transfer::export(&*world.store, &mut export).await.unwrap();
    talk.say(report(&talk, 2, false, 15..30)).await.unwrap();
    reported(&mut talk, 2).await;
    let newest = replica.handle.revision();
    drop(talk);
    replica.stop().await;
    let import = transfer::Import { replace: true, ..transfer::Import::default() };
    transfer::import(&*world.store, &mut &export[..], import).await.unwrap();

    let replica = world.replica("c1").await;
    let knows = Hello { known: [(orders(), Generation(newest.0))].into(), ..hello(&caller) };
    let (mut listener, _) = caller.open(replica.at, knows).await.unwrap();
    let snapshot = listener.hear_until(|message| match message {
        FromControl::Snapshot(snapshot) => Some(snapshot),
        FromControl::Delta(delta) => panic!("what it lacks is not told: {delta:?}"),
        _ => None,
    });
    let snapshot = soon(snapshot).await.unwrap();
    assert_eq!((snapshot.endpoints.len(), snapshot.tombstones.len()), (20, 0));
    assert!(snapshot.generation > Generation(newest.0), "it is newer than what was known");
    let (mut talk, after) = open(&owner, replica.at).await;
    assert!(before.lineage.is_some() && after.lineage.is_some(), "{after:?}");
    assert_ne!(before.lineage.unwrap().id, after.lineage.unwrap().id);
    talk.say(report(&talk, 1, true, 0..30)).await.unwrap();
    soon(reported(&mut talk, 1)).await;
    let mut known = Known { all: snapshot.endpoints, updates: 1 };
    soon(has(&mut listener, &mut known, &(0..30).collect::<Vec<_>>())).await;
    assert_eq!(known.updates, 2, "a delta");
}

#[tokio::test]
async fn what_is_long_past_is_compacted() {
    let cluster = Cluster::single();
    let world = over(&cluster).await;
    let replica =
        world.replica_with("c1", |options| options.past = Duration::from_millis(200)).await;
    let first = replica.handle.revision();
    let compacted = async {
        loop {
            world.store.commit(Transaction::put("sinew/other/filler", "x")).await.unwrap();
            let past = Range::of(Span::key("sinew/other/filler")).at(first.next());
            match world.store.range(past).await {
                Err(store::Error::Compacted { .. }) => return,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    soon(compacted).await;
}
