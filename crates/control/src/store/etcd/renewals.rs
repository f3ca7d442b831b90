//! Keeping leases alive: one stream for all of them.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use futures_util::future::OptionFuture;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    super::{Applied, Error, Lease, LeaseId},
    calls::{not_found, whole_seconds},
    client::{Client, Method, Repeat},
    convert::{lease, signed},
    failure::{Failure, judge},
    wire,
};

const KEEP_ALIVE: Method = Method {
    name: "keep_alive",
    path: "/etcdserverpb.Lease/LeaseKeepAlive",
    repeat: Repeat::Harmless,
};

/// Renewals that may wait.
const QUEUE: usize = 1_024;

type Answer = Result<wire::LeaseKeepAliveResponse, Error>;

struct Renewal {
    lease: LeaseId,
    reply: oneshot::Sender<Answer>,
}

/// The way to the stream.
#[derive(Clone)]
pub(super) struct Renewals {
    client: Arc<Client>,
    queue: mpsc::Sender<Renewal>,
}

impl Renewals {
    pub(super) fn new(client: Arc<Client>) -> Self {
        let (queue, renewals) = mpsc::channel(QUEUE);
        tokio::spawn(serve(Arc::clone(&client), renewals));
        Self { client, queue }
    }

    /// Asks, also other members, until there is an answer or the time is over.
    pub(super) async fn keep_alive(&self, lease: LeaseId) -> Result<Lease, Error> {
        let began = Instant::now();
        let mut attempts = 0;
        loop {
            let error = match self.once(lease).await {
                Ok(answer) if answer.ttl > 0 => {
                    return Ok(Lease { id: lease, ttl: whole_seconds(answer.ttl) });
                }
                Ok(_) => return Err(not_found(lease)),
                Err(error) => error,
            };
            attempts += 1;
            let over = began.elapsed() + self.client.options.attempt > self.client.options.timeout;
            let tried_all = attempts >= self.client.members.count();
            if (over && tried_all) || matches!(error, Error::Unauthenticated { .. }) {
                return Err(error);
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    async fn once(&self, lease: LeaseId) -> Answer {
        let (reply, answer) = oneshot::channel();
        let gone = |_| Error::Unavailable { why: "it is closed".to_owned(), applied: Applied::No };
        self.queue.send(Renewal { lease, reply }).await.map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))?
    }
}

/// Opens a stream when there is something to renew, and another when it breaks.
async fn serve(client: Arc<Client>, mut renewals: mpsc::Receiver<Renewal>) {
    while let Some(first) = renewals.recv().await {
        let (index, _) = client.members.current();
        let mut pending = Pending::default();
        if let Some(error) = renew(&client, first, &mut renewals, &mut pending).await {
            client.members.leave(index);
            pending.fail(&error);
        }
    }
}

/// Renews over one stream until it breaks; none when nobody is left who could ask.
async fn renew(
    client: &Client,
    first: Renewal,
    renewals: &mut mpsc::Receiver<Renewal>,
    pending: &mut Pending,
) -> Option<Error> {
    let (_, member) = client.members.current();
    let (requests, stream) = mpsc::channel(QUEUE);
    pending.send(first, &requests, client);
    let begun = client.stream(KEEP_ALIVE, member, ReceiverStream::new(stream)).await;
    let mut answers: Streaming<wire::LeaseKeepAliveResponse> = match begun {
        Ok(answers) => answers,
        Err(failure) => return Some(told(client, failure).await),
    };
    loop {
        let silence: OptionFuture<_> = pending.deadline.map(tokio::time::sleep_until).into();
        tokio::select! {
            renewal = renewals.recv() => pending.send(renewal?, &requests, client),
            answer = answers.message() => match answer {
                Ok(Some(answer)) => pending.answer(answer, client),
                Ok(None) => return Some(Error::Unavailable {
                    why: format!("{} ended the stream of renewals", member.name),
                    applied: Applied::Unknown,
                }),
                Err(status) => {
                    return Some(told(client, judge(&status, KEEP_ALIVE.name, &member.name)).await);
                }
            },
            Some(()) = silence => return Some(told(client, client.silent(KEEP_ALIVE, member)).await),
        }
    }
}

async fn told(client: &Client, failure: Failure) -> Error {
    match failure {
        Failure::Token(error) => {
            client.discard(None).await;
            // With the next stream comes a new token.
            Error::Unavailable { why: error.to_string(), applied: Applied::No }
        }
        Failure::Elsewhere(error) | Failure::Perhaps(error) | Failure::Refused(error) => error,
        Failure::NotFound => Error::Refused {
            call: KEEP_ALIVE.name,
            why: "it ends the stream because of a lease".to_owned(),
        },
    }
}

/// Who waits for the member's answers.
#[derive(Default)]
struct Pending {
    waiting: HashMap<LeaseId, VecDeque<oneshot::Sender<Answer>>>,
    /// When the member has been silent for too long.
    deadline: Option<Instant>,
}

impl Pending {
    fn send(
        &mut self,
        renewal: Renewal,
        requests: &mpsc::Sender<wire::LeaseRequest>,
        client: &Client,
    ) {
        let id = signed(renewal.lease.0);
        // A full queue is a member that does not read: its silence ends the stream.
        let _full = requests.try_send(wire::LeaseRequest { id });
        self.waiting.entry(renewal.lease).or_default().push_back(renewal.reply);
        self.deadline.get_or_insert_with(|| Instant::now() + client.options.attempt);
    }

    fn answer(&mut self, answer: wire::LeaseKeepAliveResponse, client: &Client) {
        let Some(id) = lease(answer.id) else { return };
        if let Some(waiting) = self.waiting.get_mut(&id) {
            if let Some(reply) = waiting.pop_front() {
                let _unheard = reply.send(Ok(answer));
            }
            if waiting.is_empty() {
                self.waiting.remove(&id);
            }
        }
        let waits = !self.waiting.is_empty();
        self.deadline = waits.then(|| Instant::now() + client.options.attempt);
    }

    fn fail(self, error: &Error) {
        for reply in self.waiting.into_values().flatten() {
            let _unheard = reply.send(Err(error.clone()));
        }
    }
}
