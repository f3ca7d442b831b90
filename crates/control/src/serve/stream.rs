//! The task of a session: it carries messages between the stream and the core, and the core's writes
//! to the writer. What is said is computed when the stream takes it, so a slow agent has one message
//! under way and no queue.

use std::{
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use sinew_identity::Peer;
use sinew_proto::{Error as ProtoError, FromAgent};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{
    authority, clock, heard::Heard, refusal, sessions::Ending, shared::Shared, writer::Writing,
};
use crate::{
    session::{Member, Outcome, Session},
    store::Revision,
};

/// For the first message.
const HELLO: Duration = Duration::from_secs(10);
/// For the last one to be taken.
const LAST_MESSAGE: Duration = Duration::from_secs(1);
/// Clocks may be set: the end of a certificate is looked at again after that.
const LONGEST_LOOK: Duration = Duration::from_secs(3600);

type Said = Result<Bytes, Status>;

/// Whose session it is.
pub(super) struct Guest {
    pub(super) peer: Peer,
    pub(super) member: Member,
    pub(super) heard: Heard,
    /// As of before it was admitted.
    pub(super) looks: u64,
}

/// Begins a session. What it says comes out of the stream; it ends with that.
pub(super) fn start(
    shared: Arc<Shared>,
    guest: Guest,
    inbound: Streaming<Bytes>,
    alive: mpsc::Sender<()>,
) -> ReceiverStream<Said> {
    let (out, said) = mpsc::channel(1);
    tokio::spawn(async move {
        run(&shared, guest, inbound, out).await;
        drop(alive);
    });
    ReceiverStream::new(said)
}

struct Core<'a> {
    shared: &'a Shared,
    session: Arc<Mutex<Session>>,
    waker: Arc<Notify>,
    writing: Option<Writing>,
}

/// Why a session's stream is over.
enum End {
    /// The agent has left, or is not heard of.
    Left,
    /// It was told goodbye.
    Told,
    /// It did what it may not.
    Refused(Status),
}

async fn run(shared: &Shared, guest: Guest, inbound: Streaming<Bytes>, out: mpsc::Sender<Said>) {
    let Guest { peer, member, heard, looks } = guest;
    let (node, from) = (member.node.clone(), member.address);
    let session = Arc::new(Mutex::new(Session::new(member, shared.settings())));
    let (_place, endings) = shared.sessions.enter(
        peer.clone(),
        (node.clone(), from),
        Arc::clone(&session),
        shared.now().monotonic,
        clock::unit(),
    );
    if shared.sessions.looks() != looks {
        // It may have been withdrawn since it was admitted.
        authority::check(shared, Some(&node)).await;
    }
    let waker = Arc::new(Notify::new());
    let mut core = Core { shared, session, waker, writing: None };
    match talk(&mut core, &peer, inbound, &out, endings).await {
        End::Left => {
            tracing::info!(%node, "a host's session has ended: it is not heard of any more");
        }
        End::Told => tracing::info!(%node, "a host's session has ended"),
        End::Refused(status) => {
            tracing::warn!(%node, reason = status.message(), "a host's session was ended");
            // Who does not take it will see the stream end.
            let _ = timeout(LAST_MESSAGE, out.send(Err(status))).await;
        }
    }
    drop(out);
    core.write_off(heard.silent()).await;
}

async fn talk(
    core: &mut Core<'_>,
    peer: &Peer,
    mut inbound: Streaming<Bytes>,
    out: &mpsc::Sender<Said>,
    mut endings: mpsc::Receiver<Ending>,
) -> End {
    let shared = core.shared;
    let mut revisions = shared.revision.subscribe();
    let mut stopping = shared.stopping.subscribe();
    let mut stopped = false;
    let hello_by = sleep(HELLO);
    let expiry = sleep(left(peer));
    tokio::pin!(hello_by, expiry);
    let (mut greeted, mut may_say) = (false, true);
    let mut over_at = None;
    let mut known = Revision(0);
    loop {
        if let Some(lineage) = core.take_rewound() {
            shared.renew_lineage(&lineage).await;
        }
        // Looked at before the registry is: what that comes to know in between is not missed.
        let newest = *revisions.borrow();
        may_say |= newest != known;
        known = newest;
        core.begin_write();
        if over_at.is_none() && core.is_closing() {
            over_at = Some(Instant::now() + LAST_MESSAGE);
        }
        let (awaited, wakes_at) = core.waits_for();
        let behind = known < awaited;
        tokio::select! {
            heard = inbound.message() => match heard {
                Ok(Some(message)) => {
                    greeted = true;
                    if let Err(status) = core.receive(message) {
                        return End::Refused(status);
                    }
                }
                Ok(None) | Err(_) => return End::Left,
            },
            outcome = done(&mut core.writing) => core.written(outcome),
            place = out.reserve(), if may_say => {
                let Ok(place) = place else { return End::Left };
                let Some(frame) = core.next_frame() else {
                    drop(place);
                    if core.is_closed() {
                        return End::Told;
                    }
                    may_say = false;
                    continue;
                };
                place.send(Ok(frame));
            }
            () = out.closed() => return End::Left,
            () = core.waker.notified() => {}
            _ = revisions.wait_for(|seen| *seen >= awaited), if behind => {}
            () = at(shared, wakes_at), if wakes_at.is_some() => {}
            Some(Ending { reason, reconnect_after }) = endings.recv() => core.close(reason, reconnect_after),
            () = expiry.as_mut() => match left(peer) {
                Duration::ZERO => core.close("the certificate that the session began with has expired".to_owned(), Duration::ZERO),
                left => expiry.set(sleep(left)),
            },
            () = Shared::stopped(&mut stopping), if !stopped => {
                stopped = true;
                let reason = format!("control {} goes down", shared.options.name);
                core.close(reason, shared.spread());
            }
            // It does not take its goodbye.
            () = sleep_until(over_at.unwrap_or_else(Instant::now)), if over_at.is_some() => {
                return End::Left;
            }
            () = hello_by.as_mut(), if !greeted => {
                let text = format!("no hello within {} s", HELLO.as_secs());
                return End::Refused(Status::deadline_exceeded(text));
            }
        }
        may_say = true;
    }
}

/// Until its certificate ends, or until that is to be looked at again.
fn left(peer: &Peer) -> Duration {
    peer.life.not_after.since(clock::moment()).min(LONGEST_LOOK)
}

/// What came of the write that is under way. A writer that is gone has failed.
async fn done(writing: &mut Option<Writing>) -> Outcome {
    match writing {
        Some(under_way) => {
            let outcome = under_way.await.unwrap_or(Outcome::Failed);
            *writing = None;
            outcome
        }
        None => std::future::pending().await,
    }
}

fn at(shared: &Shared, wakes_at: Option<Duration>) -> impl Future<Output = ()> + use<> {
    sleep_until(shared.clock.at(wakes_at.unwrap_or_default()))
}

impl Core<'_> {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_write(&mut self) {
        if self.writing.is_none() {
            let write = {
                let mut session = self.session();
                session.write(self.shared.clock.now(), &mut self.shared.registry())
            };
            self.writing = write.map(|write| self.shared.writer.send(write));
        }
    }

    fn waits_for(&self) -> (Revision, Option<Duration>) {
        let session = self.session();
        (session.awaits(), session.wakes_at())
    }

    fn receive(&self, message: Bytes) -> Result<(), Status> {
        let message = match FromAgent::decode(message) {
            Ok(message) => message,
            // A later version's: it can do without an answer.
            Err(error) if error.error == ProtoError::UnknownKind => return Ok(()),
            Err(error) => return Err(refusal::of_message(&error)),
        };
        let received = self.session().receive(message, &mut self.shared.registry());
        received.map_err(|refused| refusal::of_session(&refused))
    }

    fn written(&self, outcome: Outcome) {
        self.session().written(outcome, self.shared.clock.now(), clock::unit());
    }

    fn next_frame(&self) -> Option<Bytes> {
        self.shared.next_frame(&mut self.session(), &self.waker)
    }

    /// Which lineage is over, as its agent shows.
    fn take_rewound(&self) -> Option<String> {
        self.session().take_rewound()
    }

    fn is_closing(&self) -> bool {
        self.session().is_closing()
    }

    fn is_closed(&self) -> bool {
        self.session().is_closed()
    }

    fn close(&self, reason: String, reconnect_after: Duration) {
        self.shared.close(&mut self.session(), reason, reconnect_after);
    }

    /// Has the store say that the session is lost. What fails here is found and done by
    /// [`super::presence`].
    async fn write_off(mut self, silent: Duration) {
        if self.writing.is_some() {
            let outcome = done(&mut self.writing).await;
            self.written(outcome);
        }
        let write = self.shared.lost(&mut self.session(), silent);
        if let Some(write) = write {
            let _ = self.shared.writer.send(write).await;
        }
    }
}
