//! What all tasks of a replica share.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use sinew_identity::tls::Holder;
use sinew_model::NodeName;
use tokio::sync::{Notify, mpsc, watch};

use super::{
    Options,
    clock::{self, Clock},
    health::Health,
    sessions::{Seen, Sessions},
    writer::Writer,
};
use crate::{
    follow::follow,
    identity::Authority,
    registry::{Registry, SubscriberId},
    session::{Admission, Now, Session, Settings, Write},
    store::{self, Revision, Store, lineage},
};

/// As many snapshots at once as go in that time.
const BURST: Duration = Duration::from_secs(1);

/// One who lies about what it was told does not have all others told anew all the time.
const RENEWAL: Duration = Duration::from_secs(60);

const LONGEST_SPREAD: Duration = Duration::from_secs(3);

/// See the module.
pub(crate) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(crate) authority: Arc<Authority>,
    /// What it shows of itself.
    pub(super) holder: Holder,
    pub(super) writer: Writer,
    pub(super) health: Arc<Health>,
    pub(crate) options: Options,
    /// Where hosts are told to connect.
    pub(crate) advertise: String,
    /// Names this replica since it started; another one each time.
    pub(crate) id: String,
    pub(super) clock: Clock,
    pub(crate) sessions: Sessions,
    /// Up to where the registry has followed the store.
    pub(super) revision: watch::Sender<Revision>,
    pub(super) stopping: watch::Sender<bool>,
    registry: Mutex<Registry>,
    admission: Mutex<Admission>,
    /// When the lineage was renewed last.
    renewed: Mutex<Option<Duration>>,
    /// Who is told that the registry has something. Changed under the registry's lock.
    wakers: Mutex<HashMap<SubscriberId, Arc<Notify>>>,
    /// Cloned by each session; without this one they alone are waited for.
    alive: Mutex<Option<mpsc::Sender<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        store: Arc<dyn Store>,
        authority: Arc<Authority>,
        holder: Holder,
        writer: Writer,
        options: Options,
        advertise: String,
    ) -> (Self, mpsc::Receiver<()>) {
        let (alive, gone) = mpsc::channel(1);
        let id = format!("{:.48}-{:08x}", options.name.as_str(), clock::random());
        let admission = Admission::new(options.snapshot_bytes_per_s, BURST);
        let shared = Self {
            store,
            authority,
            holder,
            writer,
            health: Arc::default(),
            options,
            advertise,
            id,
            clock: Clock::new(),
            sessions: Sessions::default(),
            revision: watch::Sender::new(Revision(0)),
            stopping: watch::Sender::new(false),
            registry: Mutex::default(),
            admission: Mutex::new(admission),
            renewed: Mutex::default(),
            wakers: Mutex::default(),
            alive: Mutex::new(Some(alive)),
        };
        (shared, gone)
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(super) fn settings(&self) -> Settings {
        let session_timeout = self.registry().config().limits().session_timeout();
        Settings { control: self.id.clone(), session_timeout }
    }

    /// The registry. Not to be held over a wait.
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    /// Keeps the registry as the store is; ends when that cannot be.
    pub(super) async fn follow(&self) -> store::Error {
        let heard = |revision, woken: Vec<SubscriberId>| {
            let wakers = lock(&self.wakers);
            woken.iter().filter_map(|id| wakers.get(id)).for_each(|waker| waker.notify_one());
            self.revision.send_if_modified(|seen| {
                let news = *seen != revision;
                *seen = revision;
                news
            });
        };
        follow(&*self.store, &self.registry, heard, tokio::time::sleep).await
    }

    /// Waits until the registry knows that revision; whether it does in time.
    pub(super) async fn caught_up(&self, revision: Revision, within: Duration) -> bool {
        let mut seen = self.revision.subscribe();
        let known = seen.wait_for(|seen| *seen >= revision);
        matches!(tokio::time::timeout(within, known).await, Ok(Ok(_)))
    }

    /// Whether this replica has the duty of that generation, as far as is known here.
    pub(super) fn has_duty(&self, generation: Revision) -> bool {
        let registry = self.registry();
        let lead = registry.config().lead();
        registry.revision() < generation || lead.is_some_and(|(held, _)| *held == generation)
    }

    /// What a session has to say next. From the first time on that it has joined the registry,
    /// `waker` is told when there is more.
    pub(super) fn next_frame(&self, session: &mut Session, waker: &Arc<Notify>) -> Option<Bytes> {
        let mut registry = self.registry();
        let before = session.subscriber();
        let mut admission = lock(&self.admission);
        let frame = session.send(self.clock.now(), &mut registry, &mut admission, clock::unit());
        drop(admission);
        self.keep_waker(before, session, waker);
        frame
    }

    fn keep_waker(&self, before: Option<SubscriberId>, now: &Session, waker: &Arc<Notify>) {
        let now = now.subscriber();
        if before == now {
            return;
        }
        let mut wakers = lock(&self.wakers);
        before.map(|id| wakers.remove(&id));
        now.map(|id| wakers.insert(id, Arc::clone(waker)));
    }

    /// Ends a session.
    pub(super) fn close(&self, session: &mut Session, reason: String, reconnect_after: Duration) {
        let mut registry = self.registry();
        let before = session.subscriber();
        session.close(reason, reconnect_after, &mut registry);
        self.forget(before);
    }

    /// A session's stream is over. Answers what to write.
    pub(super) fn lost(&self, session: &mut Session, silent: Duration) -> Option<Write> {
        let mut registry = self.registry();
        let before = session.subscriber();
        let write = session.lost(self.clock.now(), silent, &mut registry);
        self.forget(before);
        write
    }

    fn forget(&self, subscriber: Option<SubscriberId>) {
        if let Some(id) = subscriber {
            lock(&self.wakers).remove(&id);
        }
    }

    /// How the hosts keep up that have a session here.
    pub(crate) fn seen(&self) -> BTreeMap<NodeName, Seen> {
        self.sessions.seen(&self.registry)
    }

    /// Held by who is to be waited for at the end; `None`: it has begun.
    pub(super) fn alive(&self) -> Option<mpsc::Sender<()>> {
        lock(&self.alive).clone()
    }

    /// When an agent is to come back, so that not all do at once: two milliseconds each.
    pub(super) fn spread(&self) -> Duration {
        let sessions = u32::try_from(self.sessions.len()).unwrap_or(u32::MAX);
        let all = Duration::from_millis(2).saturating_mul(sessions).min(LONGEST_SPREAD);
        all.mul_f64(clock::unit())
    }

    /// A host was told, in that lineage, of what is yet to come: the store bears another mark from
    /// now on, by which all know that what they were told may never come.
    pub(super) async fn renew_lineage(&self, known: &str) {
        let now = self.clock.now().monotonic;
        let lately = lock(&self.renewed).replace(now);
        if lately.is_some_and(|at| now.saturating_sub(at) < RENEWAL) {
            return;
        }
        match lineage::renew(&*self.store, known).await {
            Ok(true) => {
                tracing::warn!(
                    "the store is as it was before something that hosts were told of: it was restored \
                     from a backup; all hosts are told everything anew, and what they know stays until \
                     it is confirmed or refuted"
                );
            }
            // Somebody was faster.
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "the store was restored from a backup, and cannot be marked");
                *lock(&self.renewed) = None;
            }
        }
    }

    /// Waits until that has begun.
    pub(super) async fn stopped(stopping: &mut watch::Receiver<bool>) {
        // The sender lives as long as what is shared.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Begins the end: sessions say goodbye, and nobody gets a new one.
    pub(super) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// From now on only sessions are waited for.
    pub(super) fn release(&self) {
        lock(&self.alive).take();
    }
}
