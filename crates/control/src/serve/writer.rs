//! Writes of all sessions, as few transactions of the store as may be: what comes while one is under
//! way goes together in the next.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::{mpsc, oneshot};

use crate::{
    session::{Outcome, Write},
    store::Store,
};

use super::health::Health;

/// Takes writes.
#[derive(Clone, Debug)]
pub(super) struct Writer(mpsc::UnboundedSender<Job>);

/// Writes that wait. Each session has one at most, so there are no more than sessions.
pub(super) type Jobs = mpsc::UnboundedReceiver<Job>;

#[derive(Debug)]
pub(super) struct Job {
    write: Write,
    done: oneshot::Sender<Outcome>,
}

/// What will have come of a write.
pub(super) type Writing = oneshot::Receiver<Outcome>;

pub(super) fn channel() -> (Writer, Jobs) {
    let (send, jobs) = mpsc::unbounded_channel();
    (Writer(send), jobs)
}

impl Writer {
    pub(super) fn send(&self, write: Write) -> Writing {
        let (done, writing) = oneshot::channel();
        // Without a writer the answer is that there is none.
        let _ = self.0.send(Job { write, done });
        writing
    }
}

/// Writes until all senders are gone.
pub(super) async fn run(store: Arc<dyn Store>, health: Arc<Health>, mut jobs: Jobs) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match jobs.recv().await {
                Some(job) => waiting.push_back(job),
                None => return,
            }
        }
        while let Ok(job) = jobs.try_recv() {
            waiting.push_back(job);
        }
        let group = take_group(&mut waiting);
        commit_group(&*store, &health, group).await;
    }
}

/// The first ones that fit together.
fn take_group(waiting: &mut VecDeque<Job>) -> Vec<Job> {
    let mut all = Write::default();
    let mut group: Vec<Job> = Vec::new();
    while let Some(job) = waiting.front() {
        if !group.is_empty() && !all.fits(&job.write) {
            break;
        }
        all.join(job.write.clone());
        group.extend(waiting.pop_front());
    }
    group
}

async fn commit_group(store: &dyn Store, health: &Health, group: Vec<Job>) {
    let mut all = Write::default();
    group.iter().for_each(|job| all.join(job.write.clone()));
    let alone = group.len() == 1;
    match commit(store, health, all).await {
        // One of them does not hold; the others are not to suffer for it.
        Outcome::Conflict(_) if !alone => {
            for job in group {
                let outcome = commit(store, health, job.write).await;
                let _ = job.done.send(outcome);
            }
        }
        outcome => {
            for job in group {
                // Who does not wait for it any more does not want it.
                let _ = job.done.send(outcome);
            }
        }
    }
}

async fn commit(store: &dyn Store, health: &Health, write: Write) -> Outcome {
    let committed = store.commit(write.transaction()).await;
    if committed.is_ok() {
        health.works();
    }
    match committed {
        Ok(committed) if committed.succeeded => Outcome::Done(committed.revision),
        Ok(committed) => Outcome::Conflict(committed.revision),
        Err(error) => {
            health.fails(&error);
            Outcome::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        records::StoredSession,
        session::{Now, lose},
        store::{Embedded, ManualClock, Revision, embedded::Options},
    };

    fn lost(node: &str, fence: u64) -> Write {
        let session = StoredSession {
            control: "c".to_owned(),
            epoch: 1,
            since_ms: 0,
            lost_since_ms: None,
            silent_ms: 0,
            dead_since_ms: None,
            withdrawn: false,
        };
        let now = Now { monotonic: Duration::ZERO, wall: Duration::ZERO };
        lose(&node.parse().unwrap(), &session, Revision(fence), now, Duration::ZERO)
    }

    #[tokio::test]
    async fn what_waits_goes_at_once_and_what_does_not_hold_alone_is_refused() {
        let clock = Arc::new(ManualClock::default());
        let store = Embedded::in_memory(Options::default(), clock).await.unwrap();
        let (writer, jobs) = channel();
        let told: Vec<_> = (0..10).map(|n| writer.send(lost(&format!("n{n}"), 0))).collect();
        drop(writer);
        run(Arc::new(store.clone()), Arc::default(), jobs).await;
        for told in told {
            assert_eq!(told.await, Ok(Outcome::Done(Revision(2))), "one transaction for all");
        }
        let (writer, jobs) = channel();
        let good = writer.send(lost("n0", 2));
        let bad = writer.send(lost("n1", 1));
        let twice = writer.send(lost("n0", 2));
        drop(writer);
        run(Arc::new(store), Arc::default(), jobs).await;
        assert_eq!(good.await, Ok(Outcome::Done(Revision(3))));
        assert!(matches!(bad.await, Ok(Outcome::Conflict(_))));
        assert!(matches!(twice.await, Ok(Outcome::Conflict(_))), "one key is changed once");
    }
}
