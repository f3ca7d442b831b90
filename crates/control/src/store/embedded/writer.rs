//! The one thread that writes.

use std::sync::{Arc, PoisonError};

use redb::WriteTransaction;
use tokio::sync::mpsc::{self, error::TryRecvError};

use super::{
    super::{Applied, Batch, Error},
    Core, Options,
    apply::State,
    file,
    history::Position,
    job::{Finish, Job},
    tables::{META_REVISION, Tables},
};

/// Requests that may wait; more wait to be taken in.
pub(super) const QUEUE: usize = 1_024;
/// Requests that share a sync.
const GROUP: usize = 512;

pub(super) struct Writer {
    core: Arc<Core>,
    options: Options,
    /// What is on disk.
    position: Position,
    /// Whether compacted history may be left to sweep.
    unswept: bool,
}

/// What a group has come to.
struct Written {
    position: Position,
    batches: Vec<Batch>,
    unswept: bool,
}

impl Writer {
    pub(super) fn new(core: Arc<Core>, options: Options, position: Position) -> Self {
        Self { core, options, position, unswept: true }
    }

    /// Does what comes until nobody can send any more, then closes the file.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(group) = self.next_group(&mut jobs) {
            self.write(group);
        }
        self.core.recent.close();
        self.core.closing.notify_one();
        self.core.lock().take();
    }

    /// What waits, or the next that comes; an empty group when there is only sweeping to be done.
    fn next_group(&self, jobs: &mut mpsc::Receiver<Job>) -> Option<Vec<Job>> {
        let mut group = Vec::new();
        if !self.unswept {
            group.push(jobs.blocking_recv()?);
        }
        while group.len() < GROUP {
            match jobs.try_recv() {
                Ok(job) => group.push(job),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) if group.is_empty() => return None,
                Err(TryRecvError::Disconnected) => break,
            }
        }
        Some(group)
    }

    fn write(&mut self, group: Vec<Job>) {
        let mut finish = Vec::with_capacity(group.len());
        let outcome = match self.transact(group, &mut finish) {
            Ok(written) => {
                self.wrote(written);
                Ok(())
            }
            Err(error) => self.after_failure(error),
        };
        for finish in finish {
            finish(&self.core, outcome.clone());
        }
    }

    /// Does a group in one transaction of the file.
    fn transact(&self, group: Vec<Job>, finish: &mut Vec<Finish>) -> Result<Written, Error> {
        let database = self.core.database.read().unwrap_or_else(PoisonError::into_inner);
        let begun = match &*database {
            Some(database) => database.begin_write().map_err(redb::Error::from),
            None => Err(redb::Error::DatabaseClosed),
        };
        let transaction = match begun {
            Ok(transaction) => transaction,
            Err(error) => {
                finish.extend(group.into_iter().map(Job::fail));
                return Err(self.core.place.error(error));
            }
        };
        let worked = self.work(&transaction, group, finish);
        let ended = match worked {
            Ok(Some(written)) => transaction.commit().map_err(redb::Error::from).map(|()| written),
            Ok(None) => transaction.abort().map_err(redb::Error::from).map(|()| Written {
                position: self.position,
                batches: Vec::new(),
                unswept: false,
            }),
            Err(error) => Err(error),
        };
        ended.map_err(|error| self.core.place.error(error))
    }

    /// Answers what there is to be committed, if anything.
    fn work(
        &self,
        transaction: &WriteTransaction,
        group: Vec<Job>,
        finish: &mut Vec<Finish>,
    ) -> Result<Option<Written>, redb::Error> {
        let tables = match Tables::open(transaction) {
            Ok(tables) => tables,
            Err(error) => {
                finish.extend(group.into_iter().map(Job::fail));
                return Err(error.into());
            }
        };
        let position = self.position;
        let mut state = State { tables, position, batches: Vec::new(), changed: false };
        let full = self.full();
        let mut failed = None;
        for job in group {
            let (done, failure) = job.perform(&mut state, &self.core, full.as_ref());
            finish.push(done);
            failed = failed.or(failure);
        }
        if let Some(error) = failed {
            return Err(error);
        }
        state.bound_history(self.options.history_revisions)?;
        let compacted = state.position.compacted != position.compacted;
        let unswept = (self.unswept || compacted) && state.sweep()?;
        if state.position.revision != position.revision {
            state.tables.meta.insert(META_REVISION, state.position.revision.0)?;
        }
        let State { position, batches, changed, .. } = state;
        Ok(changed.then_some(Written { position, batches, unswept }))
    }

    fn wrote(&mut self, written: Written) {
        let Written { position, batches, unswept } = written;
        self.unswept = unswept;
        if position != self.position {
            self.position = position;
            self.core.recent.publish(batches, position);
        }
    }

    /// Why the store takes no more data.
    fn full(&self) -> Option<Error> {
        let reserve = self.options.reserve_bytes;
        let free = self.core.place.free_bytes().filter(|&free| free < reserve)?;
        let why = format!("{free} bytes are free, and {reserve} are kept for deletions");
        Some(self.core.place.no_space(&why))
    }

    /// After a failure redb takes nothing more. Opened anew, the file shows whether the group had
    /// got there.
    fn after_failure(&mut self, error: Error) -> Result<(), Error> {
        tracing::error!(%error, "the store's file failed; opening it anew");
        self.unswept = false;
        let mut database = self.core.lock();
        database.take();
        match file::open(&self.core.place, &self.options) {
            Ok(opened) => {
                *database = Some(opened.database);
                drop(database);
                self.core.leases.found(opened.leases);
                let arrived = opened.position != self.position;
                if arrived {
                    self.position = opened.position;
                    self.core.recent.restart(opened.position);
                }
                if arrived { Ok(()) } else { Err(error) }
            }
            Err(why) => Err(Error::Unavailable {
                why: format!("{error}; and then: {why}"),
                applied: Applied::Unknown,
            }),
        }
    }
}
