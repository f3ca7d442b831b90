//! Sessions: what one host tells another, by one replica and by several.

use std::time::Duration;

use sinew_control::{records::Key, store::Transaction};
use sinew_proto::FromControl;

use crate::world::{Known, World, has, open, report, reported, reweighed, soon, subscribe};

#[tokio::test]
async fn what_a_host_runs_is_heard_by_those_who_want_to() {
    let world = World::new().await;
    let replica = world.replica("c1").await;
    let (owner, caller) =
        (world.member(replica.at, "n1").await, world.member(replica.at, "n2").await);
    let (mut owner, _) = open(&owner, replica.at).await;
    owner.say(report(&owner, 1, true, [1, 2])).await.unwrap();
    reported(&mut owner, 1).await;
    let (mut caller, _) = open(&caller, replica.at).await;
    subscribe(&caller).await;
    let mut known = Known::default();
    soon(has(&mut caller, &mut known, &[1, 2])).await;
    owner.say(report(&owner, 2, false, [2, 3])).await.unwrap();
    soon(has(&mut caller, &mut known, &[2, 3])).await;
    assert_eq!(known.updates, 2, "a snapshot and a delta");
}

#[tokio::test]
async fn what_is_told_to_one_replica_is_heard_at_another_and_a_host_may_move() {
    let world = World::new().await;
    let (first, second) = (world.replica("c1").await, world.replica("c2").await);
    let (owner, caller) = (world.member(first.at, "n1").await, world.member(second.at, "n2").await);
    let (mut talk, _) = open(&owner, first.at).await;
    talk.say(report(&talk, 1, true, [1])).await.unwrap();
    let (mut caller, _) = open(&caller, second.at).await;
    subscribe(&caller).await;
    let mut known = Known::default();
    soon(has(&mut caller, &mut known, &[1])).await;
    // It moves, while its old session is still there.
    let (mut moved, welcome) = open(&owner, second.at).await;
    assert_eq!(welcome.epoch, 2);
    let goodbye = talk.hear_until(|message| match message {
        FromControl::Goodbye { reason, reconnect_after } => Some((reason, reconnect_after)),
        _ => None,
    });
    let (reason, after) = soon(goodbye).await.unwrap();
    let told = "the session of epoch 1 was superseded by another at replica c2-";
    assert!(reason.starts_with(told), "{reason}");
    assert_eq!(after, Duration::from_secs(5), "if it hears so, it is a copy of the host");
    moved.say(report(&moved, 1, true, [1, 2])).await.unwrap();
    reported(&mut moved, 1).await;
    soon(has(&mut caller, &mut known, &[1, 2])).await;
}

#[tokio::test]
async fn of_several_streams_of_a_host_the_newest_stays() {
    let world = World::new().await;
    let replica = world.replica("c1").await;
    let member = world.member(replica.at, "n1").await;
    let (mut first, _) = open(&member, replica.at).await;
    // None of them greets.
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(member.connect(replica.at).await.unwrap().talk().await.unwrap());
    }
    let (mut last, _) = open(&member, replica.at).await;
    let mut pauses = Vec::new();
    for talk in [&mut first].into_iter().chain(&mut silent) {
        let goodbye = talk.hear_until(|message| match message {
            FromControl::Goodbye { reason, reconnect_after } => Some((reason, reconnect_after)),
            _ => None,
        });
        let (reason, after) = soon(goodbye).await.unwrap();
        let told = "replaced: an agent at 127.0.0.1 has opened another session of host n1";
        assert!(reason.starts_with(told), "{reason}");
        pauses.push(after.as_millis());
    }
    // Copies of a host that take its session from each other get calmer from time to time.
    for (pause, least) in pauses.iter().zip([500, 1_000, 2_000, 4_000]) {
        assert!((least..=2 * least).contains(pause), "{pauses:?}");
    }
    last.say(report(&last, 1, true, [1])).await.unwrap();
    soon(reported(&mut last, 1)).await;
}

#[tokio::test]
async fn hosts_hear_of_each_other_and_of_their_slices() {
    let world = World::new().await;
    let replica = world.replica("c1").await;
    let (first, second) =
        (world.member(replica.at, "n1").await, world.member(replica.at, "n2").await);
    let (mut talk, welcome) = open(&first, replica.at).await;
    assert_eq!(welcome.instances4.unwrap().to_string(), "10.111.0.0/24");
    let (_second, welcome) = open(&second, replica.at).await;
    assert_eq!(welcome.instances4.unwrap().to_string(), "10.111.1.0/24");
    let told = talk.hear_until(|message| match message {
        FromControl::Hosts(hosts) => {
            hosts.put.into_iter().find(|(name, _)| name.as_str() == "n2").map(|(_, host)| host)
        }
        _ => None,
    });
    let host = soon(told).await.unwrap();
    assert_eq!((host.instances4, host.instances6), (welcome.instances4, welcome.instances6));
    assert_eq!(host.address4, None, "it connects from everybody's own, at which nobody meets it");
}

#[tokio::test]
async fn a_replica_that_goes_down_says_goodbye_and_writes_off_its_sessions() {
    let world = World::new().await;
    let (first, second) = (world.replica("c1").await, world.replica("c2").await);
    let mut talks = Vec::new();
    for n in 0..20 {
        let member = world.member(first.at, &format!("n{n}")).await;
        talks.push(open(&member, first.at).await.0);
    }
    first.stop().await;
    let mut after = Vec::new();
    for mut talk in talks {
        let goodbye = talk.hear_until(|message| match message {
            FromControl::Goodbye { reason, reconnect_after } => Some((reason, reconnect_after)),
            _ => None,
        });
        let (reason, reconnect_after) = soon(goodbye).await.unwrap();
        assert_eq!(reason, "control c1 goes down");
        after.push(reconnect_after);
    }
    assert!(after.iter().any(|it| *it != after[0]), "not all at once: {after:?}");
    let member = world.member(second.at, "n99").await;
    open(&member, second.at).await;
    for n in 0..20 {
        let stored = world.session(&format!("n{n}")).await;
        assert!(stored.lost_since_ms.is_some(), "{stored:?}");
    }
}

/// What a slow agent leaves unread costs one message; then it hears the newest.
#[tokio::test]
async fn who_reads_nothing_for_long_gets_the_newest_and_no_backlog() {
    const CHANGES: u32 = 400;
    let world = World::new().await;
    let replica = world.replica("c1").await;
    let (owner, slow) =
        (world.member(replica.at, "n1").await, world.member(replica.at, "n2").await);
    let (mut owner, _) = open(&owner, replica.at).await;
    owner.say(report(&owner, 1, true, 0..200)).await.unwrap();
    reported(&mut owner, 1).await;
    let (mut slow, _) = open(&slow, replica.at).await;
    subscribe(&slow).await;
    let mut known = Known::default();
    soon(has(&mut slow, &mut known, &(0..200).collect::<Vec<_>>())).await;
    for n in 0..CHANGES {
        // All of them change.
        let sequence = u64::from(n) + 2;
        owner.say(reweighed(&owner, sequence, 0..200, n + 1)).await.unwrap();
        reported(&mut owner, sequence).await;
    }
    let (before, wanted) = (known.updates, CHANGES);
    soon(async {
        while known.all.values().any(|endpoint| endpoint.weight != wanted) {
            let message = slow.hear().await.unwrap();
            known.take(message);
        }
    })
    .await;
    let heard = known.updates - before;
    assert!(heard < CHANGES as usize / 2, "{heard} of {CHANGES} updates were queued");
}

// One thread of its own: another waits for the thread that is to stand still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_silent_is_lost_in_time_and_one_that_answers_is_not() {
    let world = World::new().await;
    let limits = Key::Limits.bytes();
    let short = Transaction::put(limits, r#"{"session_timeout_ms":2000}"#);
    let revision = world.store.commit(short).await.unwrap().revision;
    let replica = world.replica("c1").await;
    while replica.handle.revision() < revision {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (frozen, live) =
        (world.member(replica.at, "n1").await, world.member(replica.at, "n2").await);
    // Its connection is served by a runtime that stands still.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let at = replica.at;
    let frozen = std::thread::spawn(move || {
        let talk = runtime.block_on(async { open(&frozen, at).await });
        (runtime, talk)
    })
    .join()
    .unwrap();
    let (_live, _) = open(&live, replica.at).await;
    let lost = soon(async {
        loop {
            let stored = world.session("n1").await;
            if stored.lost_since_ms.is_some() {
                break stored;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(lost.silent_ms >= 600 && lost.silent_ms < 60_000, "{lost:?}");
    assert_eq!(world.session("n2").await.lost_since_ms, None);
    std::thread::spawn(move || drop(frozen)).join().unwrap();
}

#[tokio::test]
async fn a_session_that_the_store_has_and_nobody_holds_is_written_off() {
    let world = World::new().await;
    let replica = world.replica("c1").await;
    let member = world.member(replica.at, "n1").await;
    let (talk, _) = open(&member, replica.at).await;
    let stored = world.session("n1").await;
    drop(talk);
    soon(async {
        while world.session("n1").await.lost_since_ms.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // As if the write had been lost.
    world.put_session("n1", &stored).await;
    soon(async {
        while world.session("n1").await.lost_since_ms.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_ends_the_session_with_words_and_what_is_unknown_does_not() {
    let world = World::new().await;
    let replica = world.replica("c1").await;
    let member = world.member(replica.at, "n1").await;
    let (mut talk, _) = open(&member, replica.at).await;
    // A kind that a later version has: field 99 with nothing in it.
    talk.say_bytes(vec![0x9a, 0x06, 0x00].into()).await.unwrap();
    talk.say(report(&talk, 1, true, [1])).await.unwrap();
    reported(&mut talk, 1).await;
    talk.say_bytes(vec![0xff; 9].into()).await.unwrap();
    let ended = soon(talk.hear_until(|_| None::<()>)).await.unwrap_err();
    assert!(ended.reason().starts_with("control cannot read what the agent says"), "{ended}");
    // Who says something before it greets is told.
    let talk = member.connect(replica.at).await.unwrap().talk().await.unwrap();
    let mut talk = talk;
    subscribe(&talk).await;
    let ended = soon(talk.hear()).await.unwrap_err();
    assert_eq!(ended.reason(), "the first message of a session is hello, and is so once");
}

/// On several threads what a session waits for may come between two of its looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_sessions_at_once_miss_nothing() {
    const HOSTS: usize = 40;
    let world = World::new().await;
    let replica = world.replica("c1").await;
    let (heard, mut weights) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..HOSTS {
        let member = world.member(replica.at, &format!("n{n}")).await;
        let (at, heard) = (replica.at, heard.clone());
        tokio::spawn(async move {
            let (mut talk, _) = open(&member, at).await;
            subscribe(&talk).await;
            let (mut known, mut last) = (Known::default(), 0);
            while let Ok(message) = talk.hear().await {
                known.take(message);
                let weight = known.all.values().map(|it| it.weight).max().unwrap_or(0);
                if weight != last {
                    last = weight;
                    heard.send(weight).unwrap();
                }
            }
        });
    }
    let owner = world.member(replica.at, "owner").await;
    let (mut owner, _) = open(&owner, replica.at).await;
    owner.say(report(&owner, 1, true, [1])).await.unwrap();
    soon(reported(&mut owner, 1)).await;
    for change in 1..=60 {
        let sequence = u64::from(change) + 1;
        owner.say(reweighed(&owner, sequence, [1], change)).await.unwrap();
        soon(reported(&mut owner, sequence)).await;
        let mut current = 0;
        while current < HOSTS {
            let weight = soon(weights.recv()).await.unwrap();
            current += usize::from(weight == change);
        }
    }
}
