//! Watches: places in the history.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock},
};

use redb::ReadTransaction;
use tokio::sync::watch;

use super::{
    super::{Applied, Batch, Error, Event, Revision, Span, Update, Watch, watch::Feed},
    Core, closed,
    read::Failure,
    tables::{HISTORY, META, META_COMPACTED, VERSIONS, entry},
};

/// Where the history is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The newest.
    pub(super) revision: Revision,
    /// Not later than that is no longer watched.
    pub(super) compacted: Revision,
}

/// Revisions that lie in memory: most watchers need no others.
const RECENT_REVISIONS: usize = 4_096;
/// Changes that lie in memory.
const RECENT_EVENTS: usize = 65_536;
/// Revisions that a watcher takes at a time.
const CHUNK: usize = 256;
/// A watcher hears of so many revisions, also where it is told of none of them.
const PROGRESS: u64 = 1_024;

/// The newest changes, and who waits for more.
pub(super) struct Recent {
    batches: RwLock<Batches>,
    /// Gone when the store is closed.
    position: RwLock<Option<watch::Sender<Position>>>,
}

#[derive(Default)]
struct Batches {
    /// Without gaps.
    all: VecDeque<Arc<Batch>>,
    events: usize,
}

impl Recent {
    pub(super) fn new(position: Position) -> Self {
        let sender = watch::Sender::new(position);
        Self { batches: RwLock::default(), position: RwLock::new(Some(sender)) }
    }

    /// Tells of what is on disk.
    pub(super) fn publish(&self, new: Vec<Batch>, position: Position) {
        let mut batches = self.batches.write().unwrap_or_else(PoisonError::into_inner);
        for batch in new {
            batches.events += batch.events.len();
            batches.all.push_back(Arc::new(batch));
        }
        while batches.all.len() > RECENT_REVISIONS || batches.events > RECENT_EVENTS {
            let Some(oldest) = batches.all.pop_front() else { break };
            batches.events -= oldest.events.len();
        }
        drop(batches);
        if let Some(sender) = &*self.position.read().unwrap_or_else(PoisonError::into_inner) {
            sender.send_replace(position);
        }
    }

    /// After a gap in what was told: watchers go on from the file.
    pub(super) fn restart(&self, position: Position) {
        *self.batches.write().unwrap_or_else(PoisonError::into_inner) = Batches::default();
        self.publish(Vec::new(), position);
    }

    /// Ends all watches.
    pub(super) fn close(&self) {
        self.position.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn subscribe(&self) -> Option<watch::Receiver<Position>> {
        let position = self.position.read().unwrap_or_else(PoisonError::into_inner);
        position.as_ref().map(watch::Sender::subscribe)
    }

    /// Revisions from `from` on; none where memory does not reach back so far.
    fn since(&self, from: Revision) -> Option<Vec<Arc<Batch>>> {
        let batches = self.batches.read().unwrap_or_else(PoisonError::into_inner);
        let first = batches.all.front()?.revision;
        let skipped = usize::try_from(from.0.checked_sub(first.0)?).ok()?;
        Some(batches.all.iter().skip(skipped).take(CHUNK).cloned().collect())
    }
}

/// A place in the history.
struct Cursor {
    core: Arc<Core>,
    position: watch::Receiver<Position>,
    span: Span,
    next: Revision,
    /// The newest revision that the watcher has heard of.
    told: Revision,
    /// Whether it has come to what was the present.
    present: bool,
    ready: VecDeque<Update>,
}

pub(super) fn watch(core: Arc<Core>, span: Span, from: Option<Revision>) -> Result<Watch, Error> {
    let position = core.recent.subscribe().ok_or_else(|| closed(Applied::No))?;
    let Position { revision, compacted } = *position.borrow();
    let start = from.unwrap_or(revision.next()).max(Revision(1));
    if start <= compacted {
        return Err(Error::Compacted { compacted_revision: Some(compacted) });
    }
    let (told, present) = (Revision(start.0 - 1), start > revision);
    let ready = VecDeque::new();
    let cursor = Cursor { core, position, span, next: start, told, present, ready };
    Ok(Watch::fed(start, cursor))
}

impl Feed for Cursor {
    async fn update(&mut self) -> Result<Update, Error> {
        loop {
            if let Some(update) = self.ready.pop_front() {
                return Ok(update);
            }
            let behind = self.position.wait_for(|now| now.revision >= self.next).await;
            let now = behind.map_err(|_| closed(Applied::No))?.revision;
            let batches = match self.core.recent.since(self.next) {
                Some(batches) => batches,
                None => self.older().await?,
            };
            self.take(&batches);
            self.progress(now);
        }
    }
}

impl Cursor {
    /// What was asked for from the past ends with word that the present is reached.
    fn progress(&mut self, now: Revision) {
        let newest = Revision(self.next.0 - 1);
        let arrived = !self.present && newest >= now;
        self.present |= arrived;
        if newest > self.told && (arrived || newest.0 - self.told.0 >= PROGRESS) {
            self.told = newest;
            self.ready.push_back(Update::Progress(newest));
        }
    }

    fn take(&mut self, batches: &[Arc<Batch>]) {
        for batch in batches {
            self.next = batch.revision.next();
            let watched = |event: &&Event| self.span.contains(event.key());
            let events: Vec<Event> = batch.events.iter().filter(watched).cloned().collect();
            if !events.is_empty() {
                self.told = batch.revision;
                let revision = batch.revision;
                self.ready.push_back(Update::Batch(Batch { revision, events }));
            }
        }
    }

    async fn older(&self) -> Result<Vec<Arc<Batch>>, Error> {
        let from = self.next;
        let batches = self.core.read(move |snapshot| chunk(snapshot, from)).await?;
        if batches.is_empty() {
            return Err(self.core.place.corrupt(format!("its history lacks revision {from}")));
        }
        Ok(batches)
    }
}

/// Revisions of the file from `from` on.
fn chunk(snapshot: &ReadTransaction, from: Revision) -> Result<Vec<Arc<Batch>>, Failure> {
    let meta = snapshot.open_table(META)?;
    let compacted = meta.get(META_COMPACTED)?.map_or(0, |revision| revision.value());
    if from.0 <= compacted {
        let compacted_revision = Some(Revision(compacted));
        return Err(Failure::Refused(Error::Compacted { compacted_revision }));
    }
    let versions = snapshot.open_table(VERSIONS)?;
    let mut batches: Vec<Batch> = Vec::new();
    for found in snapshot.open_table(HISTORY)?.range((from.0, 0)..)? {
        let (at, key) = found?;
        let (revision, key) = (at.value().0, key.value());
        if batches.last().is_none_or(|last| last.revision.0 != revision) {
            if batches.len() == CHUNK {
                break;
            }
            batches.push(Batch { revision: Revision(revision), events: Vec::new() });
        }
        let version = versions.get((key, revision))?;
        let entry = version.and_then(|version| entry(key, version.value()));
        let event = entry.map_or_else(|| Event::Delete(key.to_vec().into()), Event::Put);
        if let Some(last) = batches.last_mut() {
            last.events.push(event);
        }
    }
    Ok(batches.into_iter().map(Arc::new).collect())
}
