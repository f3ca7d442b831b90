//! What comes between two looks at the store, and what waits while it does not answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sinew_control::{
    identity::Lives,
    records::Key,
    store::{
        Answer, Committed, Embedded, Lease, LeaseId, Range, Ranged, Span, Store, SystemClock,
        Through, Transaction, embedded,
    },
};
use sinew_identity::Moment;
use sinew_proto::FromControl;
use tokio::sync::{Semaphore, watch};

use crate::world::{World, open, soon};

/// A store whose answers can be held back.
struct Held {
    store: Embedded,
    /// An answer to a question for this key is held until the semaphore lets one through.
    slow: std::sync::Mutex<Option<bytes::Bytes>>,
    asked: Semaphore,
    answer: Semaphore,
    /// While this is so, changes of sessions wait.
    stuck: watch::Sender<bool>,
    /// Changes of sessions that were tried.
    tried: AtomicUsize,
    /// Signs of life of replicas.
    beats: watch::Sender<u32>,
}

impl Held {
    async fn new() -> Arc<Self> {
        let clock = Arc::new(SystemClock::default());
        let store = Embedded::in_memory(embedded::Options::default(), clock).await.unwrap();
        Arc::new(Self {
            store,
            slow: std::sync::Mutex::default(),
            asked: Semaphore::new(0),
            answer: Semaphore::new(0),
            stuck: watch::Sender::new(false),
            tried: AtomicUsize::new(0),
            beats: watch::Sender::new(0),
        })
    }
}

impl Through for Held {
    fn inner(&self) -> &Embedded {
        &self.store
    }
    fn range(&self, range: Range) -> Answer<'_, Ranged> {
        Box::pin(async move {
            let slow = {
                let mut slow = self.slow.lock().unwrap();
                let key = slow.as_ref().filter(|key| range == Range::of(Span::key((*key).clone())));
                let hit = key.is_some();
                hit.then(|| slow.take()).is_some()
            };
            let answer = self.store.range(range).await;
            if slow {
                self.asked.add_permits(1);
                self.answer.acquire().await.unwrap().forget();
            }
            answer
        })
    }
    fn commit(&self, transaction: Transaction) -> Answer<'_, Committed> {
        Box::pin(async move {
            if format!("{transaction:?}").contains("sinew/sessions/") {
                self.tried.fetch_add(1, Ordering::Relaxed);
                let mut stuck = self.stuck.subscribe();
                let _ = stuck.wait_for(|stuck| !*stuck).await;
            }
            self.store.commit(transaction).await
        })
    }
    fn keep_alive(&self, lease: LeaseId) -> Answer<'_, Lease> {
        self.beats.send_modify(|beats| *beats += 1);
        self.store.keep_alive(lease)
    }
}

fn goodbye(message: FromControl) -> Option<String> {
    match message {
        FromControl::Goodbye { reason, .. } => Some(reason),
        _ => None,
    }
}

#[tokio::test]
async fn a_host_that_is_withdrawn_while_it_is_let_in_does_not_stay() {
    let held = Held::new().await;
    let world = World::over(held.clone(), Lives::default()).await;
    let replica = world.replica("c1").await;
    let member = world.member(replica.at, "n1").await;
    let (mut first, _) = open(&member, replica.at).await;
    *held.slow.lock().unwrap() = Some("sinew/ca/holders/node/n1".into());
    let second = tokio::spawn({
        let (member, at) = (member.clone(), replica.at);
        async move { member.open(at, crate::world::hello(&member)).await.map(drop) }
    });
    // The store said that it may come in, and that has not been heard yet.
    soon(held.asked.acquire()).await.unwrap().forget();
    world.authority.withdraw(&"n1".parse().unwrap(), Moment::now()).await.unwrap();
    let reason = soon(first.hear_until(goodbye)).await.unwrap();
    assert!(reason.contains("withdrawn"), "{reason}");
    held.answer.add_permits(1);
    // It may not have greeted yet when it is told.
    assert!(soon(second).await.unwrap().is_err(), "it has a session");
}

#[tokio::test]
async fn while_the_store_does_not_answer_a_lost_session_is_written_off_once() {
    let held = Held::new().await;
    let world = World::over(held.clone(), Lives::default()).await;
    let change = |options: &mut sinew_control::serve::Options| {
        options.lease = Duration::from_millis(400);
    };
    let replica = world.replica_with("c1", change).await;
    let member = world.member(replica.at, "n1").await;
    let (_talk, _) = open(&member, replica.at).await;
    // A session that no stream of this replica is of: it would be written off again and again.
    let mut session = world.session("n1").await;
    held.stuck.send_replace(true);
    let put = |session: &_| {
        let key = Key::Session("n9".parse().unwrap()).bytes();
        Transaction::put(key, serde_json::to_vec(session).unwrap())
    };
    session.since_ms += 1;
    held.store.commit(put(&session)).await.unwrap();
    let mut beats = held.beats.subscribe();
    for _ in 0..20 {
        soon(beats.changed()).await.unwrap();
    }
    held.tried.store(0, Ordering::Relaxed);
    held.stuck.send_replace(false);
    let lost = async {
        while world.session("n9").await.lost_since_ms.is_none() {
            tokio::task::yield_now().await;
        }
    };
    soon(lost).await;
    for _ in 0..3 {
        soon(beats.changed()).await.unwrap();
    }
    assert_eq!(held.tried.load(Ordering::Relaxed), 0, "none came after the first");
}
