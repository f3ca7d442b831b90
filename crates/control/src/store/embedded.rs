//! The store of one machine: a file, with redb.
//!
//! One thread writes. It takes all requests that wait, does them in one transaction of redb, and
//! answers after that is on disk, so that many writers share the cost of a sync. What was
//! acknowledged survives the death of the process or of the machine at any moment.
//!
//! Readers see snapshots and never wait for the writer. A watch is a place in the history, which
//! lies in memory for what is new and in the file for what is older: watchers have no buffers that
//! could fill.

mod apply;
mod compaction;
mod file;
mod history;
mod job;
mod leases;
mod read;
mod tables;
mod writer;

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
    time::Duration,
};

use futures_util::FutureExt as _;
use redb::{Database, ReadTransaction, ReadableDatabase as _};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::{
    Answer, Applied, Clock, Committed, Error, Lease, LeaseId, LeaseStatus, Range, Ranged, Revision,
    Span, Store, SystemClock, Transaction, Watch, lease::seconds,
};
use file::Place;
use history::Recent;
use job::Job;
use leases::Leases;
use writer::Writer;

/// How a store is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// At least so many revisions can be watched from and read; older ones are compacted away.
    pub history_revisions: u64,
    /// Puts and leases are refused while the file system has less room than this, in bytes, so that
    /// deletions and compaction go on working: as much as one transaction may have to rewrite, and
    /// some. 0: until it is full.
    pub reserve_bytes: u64,
    /// Memory for pages of the file, in bytes.
    pub cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { history_revisions: 100_000, reserve_bytes: 32 << 20, cache_bytes: 64 << 20 }
    }
}

/// A store in a file of this machine. Clones are the same store; it closes with the last.
#[derive(Clone)]
pub struct Embedded {
    jobs: mpsc::Sender<Job>,
    core: Arc<Core>,
    /// Ends when the writer has closed the file.
    closed: watch::Receiver<()>,
}

/// What readers, watches and the writer share.
struct Core {
    place: Place,
    /// Absent while a failed file is opened anew, and after the end.
    database: RwLock<Option<Database>>,
    recent: Recent,
    leases: Leases,
    /// Told once, at the end.
    closing: Notify,
}

impl Embedded {
    /// Opens the store in that file, or makes it where there is none.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::Corrupt`], [`Error::Format`], [`Error::NoSpace`], [`Error::Io`].
    pub async fn open(path: impl Into<PathBuf>, options: Options) -> Result<Self, Error> {
        Self::with_clock(path, options, Arc::new(SystemClock::default())).await
    }

    /// The same with a clock that leases go by.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub async fn with_clock(
        path: impl Into<PathBuf>,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        Self::start(Place::File(path.into()), options, clock).await
    }

    /// A store that is gone with its process: for tests and simulations.
    ///
    /// # Errors
    /// None that is known.
    pub async fn in_memory(options: Options, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        Self::start(Place::Memory, options, clock).await
    }

    async fn start(place: Place, options: Options, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let open = move || -> Result<_, Error> {
            let opened = file::open(&place, &options)?;
            let core = Arc::new(Core {
                recent: Recent::new(opened.position),
                leases: Leases::new(clock, opened.leases),
                database: RwLock::new(Some(opened.database)),
                closing: Notify::new(),
                place,
            });
            Ok((Writer::new(Arc::clone(&core), options, opened.position), core))
        };
        let (writer, core) = blocking(open).await?;
        let (jobs, work) = mpsc::channel(writer::QUEUE);
        let (closing, closed) = watch::channel(());
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || {
                writer.run(work);
                drop(closing);
            })
            .map_err(|error| core.place.io(error))?;
        tokio::spawn(leases::expire(Arc::clone(&core), jobs.downgrade()));
        Ok(Self { jobs, core, closed })
    }

    /// Waits until the file is closed, which is when all clones are gone. Watches end with it.
    pub async fn close(self) {
        let Self { jobs, core, mut closed } = self;
        drop((jobs, core));
        // The sender only ever goes away.
        let _gone = closed.changed().await;
    }

    async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(job(reply)).await.map_err(|_| closed(Applied::No))?;
        answer.await.map_err(|_| closed(Applied::Unknown))?
    }
}

/// Where the writer answers.
type Reply<T> = oneshot::Sender<Result<T, Error>>;

impl Core {
    fn lock(&self) -> RwLockWriteGuard<'_, Option<Database>> {
        self.database.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a snapshot, off the asynchronous runtime.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&ReadTransaction) -> Result<T, read::Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let core = Arc::clone(self);
        blocking(move || {
            let database = core.database.read().unwrap_or_else(PoisonError::into_inner);
            let database = database.as_ref().ok_or_else(|| closed(Applied::No))?;
            let failed = |error| core.place.error(error);
            let snapshot = database.begin_read().map_err(|error| failed(error.into()))?;
            read(&snapshot).map_err(|failure| match failure {
                read::Failure::Refused(error) => error,
                read::Failure::Storage(error) => failed(error),
            })
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(stopped) => Err(Error::Unavailable {
            why: format!("the work stopped: {stopped}"),
            applied: Applied::No,
        }),
    }
}

fn closed(applied: Applied) -> Error {
    Error::Unavailable { why: "it is closed".to_owned(), applied }
}

impl Store for Embedded {
    fn range(&self, range: Range) -> Answer<'_, Ranged> {
        async move {
            range.span.check()?;
            self.core.read(move |snapshot| read::range(snapshot, &range)).await
        }
        .boxed()
    }

    fn commit(&self, transaction: Transaction) -> Answer<'_, Committed> {
        async move {
            transaction.check()?;
            self.ask(|reply| Job::Commit { transaction, reply }).await
        }
        .boxed()
    }

    fn grant(&self, ttl: Duration) -> Answer<'_, Lease> {
        self.ask(move |reply| Job::Grant { ttl_s: seconds(ttl), reply }).boxed()
    }

    fn keep_alive(&self, lease: LeaseId) -> Answer<'_, Lease> {
        std::future::ready(self.core.leases.keep_alive(lease)).boxed()
    }

    fn revoke(&self, lease: LeaseId) -> Answer<'_, Revision> {
        self.ask(move |reply| Job::Revoke { lease, reply }).boxed()
    }

    fn time_to_live(&self, lease: LeaseId) -> Answer<'_, LeaseStatus> {
        async move {
            let (ttl, remaining) = self.core.leases.remaining(lease)?;
            let keys = self.core.read(move |snapshot| read::lease_keys(snapshot, lease)).await?;
            Ok(LeaseStatus { ttl, remaining, keys })
        }
        .boxed()
    }

    fn watch(&self, span: Span, from: Option<Revision>) -> Answer<'_, Watch> {
        async move {
            span.check()?;
            history::watch(Arc::clone(&self.core), span, from)
        }
        .boxed()
    }

    fn compact(&self, revision: Revision) -> Answer<'_, ()> {
        self.ask(move |reply| Job::Compact { revision, reply }).boxed()
    }
}
