//! Watches that outlive their streams.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::{
    super::{Applied, Batch, Error, Revision, Span, Update, Watch, watch::Feed},
    client::{Client, Method, Repeat},
    convert::{self, signed},
    failure::{Failure, judge},
    wire,
};

const WATCH: Method =
    Method { name: "watch", path: "/etcdserverpb.Watch/Watch", repeat: Repeat::Reads };

/// Questions within the time that a member may be silent.
const HEARTBEATS: u32 = 2;
/// Between attempts to open a stream anew.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A place in etcd's history.
struct Cursor {
    client: Arc<Client>,
    span: Span,
    next: Revision,
    stream: Option<Open>,
    ready: VecDeque<Update>,
    /// Whether a new token was tried since the last success: a watch with an old one is "denied".
    renewed: bool,
}

struct Open {
    member: usize,
    answers: Streaming<wire::WatchResponse>,
    requests: mpsc::Sender<wire::WatchRequest>,
    unanswered: u32,
}

/// Watches from a revision on, or from what is next now.
pub(super) async fn open(
    client: Arc<Client>,
    span: Span,
    from: Option<Revision>,
) -> Result<Watch, Error> {
    let start = match from {
        Some(from) => from.max(Revision(1)),
        // A member may lag: what it calls now can be before what the caller has read.
        None => client.revision(&span).await?.next(),
    };
    let deadline = tokio::time::Instant::now() + client.options.timeout;
    let (ready, stream) = (VecDeque::new(), None);
    let mut cursor = Cursor { client, span, next: start, stream, ready, renewed: false };
    let mut pause = PAUSE;
    while let Err(failure) = cursor.connect().await {
        let error = cursor.recoverable(failure).await?;
        if tokio::time::Instant::now() + pause > deadline {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(Watch::fed(start, cursor))
}

impl Feed for Cursor {
    async fn update(&mut self) -> Result<Update, Error> {
        loop {
            if let Some(update) = self.ready.pop_front() {
                return Ok(update);
            }
            let Some(stream) = &mut self.stream else {
                self.resume().await?;
                continue;
            };
            let heard = stream.hear(&self.client).await;
            if let Err(failure) = heard.and_then(|response| self.take(response)) {
                let error = self.recoverable(failure).await?;
                return Ok(Update::Interrupted(error));
            }
        }
    }
}

impl Cursor {
    /// Opens a stream anew, however long it takes.
    async fn resume(&mut self) -> Result<(), Error> {
        let mut pause = PAUSE;
        loop {
            // Whether it is still the same history, a watch would not notice.
            let failure = match self.client.revision(&self.span).await {
                Ok(_) => self.connect().await,
                Err(error) if error.applied() == Applied::No && is_transient(&error) => {
                    Err(Failure::Perhaps(error))
                }
                Err(error) => return Err(error),
            };
            let Err(failure) = failure else {
                // Nothing before that was missed.
                self.ready.push_front(Update::Progress(Revision(self.next.0 - 1)));
                return Ok(());
            };
            self.recoverable(failure).await?;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Asks the current member for the watch, and waits for its word that it watches.
    async fn connect(&mut self) -> Result<(), Failure> {
        let created = self.connect_from(self.next).await?;
        // Before 3.5.18 etcd loses deletions of the revision that was compacted, but tells who
        // watches from before it. What has not been yet has not been compacted.
        if convert::header_revision(created.header.as_ref()) < self.next {
            return self.take(created);
        }
        let created = self.connect_from(Revision(self.next.0 - 1)).await?;
        self.take(created)
    }

    async fn connect_from(&mut self, start: Revision) -> Result<wire::WatchResponse, Failure> {
        let (index, member) = self.client.members.current();
        let (requests, stream) = mpsc::channel(HEARTBEATS as usize + 1);
        let (key, range_end) = convert::span(&self.span);
        let start_revision = signed(start.0.max(1));
        let create =
            wire::WatchCreateRequest { key, range_end, start_revision, progress_notify: true };
        let create = wire::WatchRequest { request: Some(wire::WatchOp::Create(create)) };
        let _has_room = requests.try_send(create);
        let answers = self.client.stream(WATCH, member, ReceiverStream::new(stream)).await;
        let answers = answers.inspect_err(|_| self.client.members.leave(index))?;
        let open = Open { member: index, answers, requests, unanswered: 0 };
        self.stream.insert(open).hear(&self.client).await
    }

    fn take(&mut self, response: wire::WatchResponse) -> Result<(), Failure> {
        if response.compact_revision > 0 {
            let compacted_revision = Some(convert::revision(response.compact_revision));
            return Err(Failure::Refused(Error::Compacted { compacted_revision }));
        }
        if response.canceled {
            let status = tonic::Status::unavailable(response.cancel_reason);
            let member = self.stream.as_ref().map_or(0, |stream| stream.member);
            return Err(judge(&status, WATCH.name, &self.client.members.get(member).name));
        }
        self.renewed = false;
        // Progress of a whole stream (-1), which was asked for as a sign of life, may be ahead of
        // events before 3.5.8.
        let progress = response.events.is_empty() && !response.created && response.watch_id >= 0;
        self.batch(response.events);
        let told = convert::header_revision(response.header.as_ref());
        if progress && told >= self.next {
            self.next = told.next();
            self.ready.push_back(Update::Progress(told));
        }
        Ok(())
    }

    fn batch(&mut self, events: Vec<wire::Event>) {
        let mut batch: Option<Batch> = None;
        for (revision, event) in events.into_iter().filter_map(convert::event) {
            if revision < self.next {
                continue;
            }
            match &mut batch {
                Some(batch) if batch.revision == revision => batch.events.push(event),
                other => {
                    let done = other.replace(Batch { revision, events: vec![event] });
                    self.ready.extend(done.map(Update::Batch));
                }
            }
        }
        if let Some(batch) = batch {
            self.next = batch.revision.next();
            self.ready.push_back(Update::Batch(batch));
        }
    }

    /// Prepares for another attempt, where one can help.
    async fn recoverable(&mut self, failure: Failure) -> Result<Error, Error> {
        let stream = self.stream.take();
        let denied = matches!(&failure, Failure::Refused(Error::PermissionDenied { .. }));
        match failure {
            Failure::Refused(error) if denied && !self.renewed => {
                self.renewed = true;
                self.client.discard(None).await;
                Ok(error)
            }
            Failure::Refused(error) => Err(error),
            Failure::Token(error) => {
                self.client.discard(None).await;
                Ok(error)
            }
            Failure::Elsewhere(error) | Failure::Perhaps(error) => {
                if let Some(stream) = stream {
                    self.client.members.leave(stream.member);
                }
                if is_transient(&error) { Ok(error) } else { Err(error) }
            }
            Failure::NotFound => {
                Err(Error::Refused { call: WATCH.name, why: "it speaks of a lease".to_owned() })
            }
        }
    }
}

const fn is_transient(error: &Error) -> bool {
    matches!(error, Error::Unavailable { .. } | Error::Timeout { .. })
}

impl Open {
    /// The next word of the member, which is asked for one when it is silent.
    async fn hear(&mut self, client: &Client) -> Result<wire::WatchResponse, Failure> {
        let member = client.members.get(self.member);
        let wait = client.options.attempt / HEARTBEATS;
        loop {
            match tokio::time::timeout(wait, self.answers.message()).await {
                Ok(Ok(Some(response))) => {
                    self.unanswered = 0;
                    return Ok(response);
                }
                Ok(Ok(None)) => {
                    let why = format!("{} ended the watch", member.name);
                    return Err(Failure::Perhaps(Error::Unavailable { why, applied: Applied::No }));
                }
                Ok(Err(status)) => return Err(judge(&status, WATCH.name, &member.name)),
                Err(_) if self.unanswered == HEARTBEATS => {
                    return Err(client.silent(WATCH, member));
                }
                Err(_) => {
                    self.unanswered += 1;
                    let ask = wire::WatchOp::Progress(wire::WatchProgressRequest {});
                    // Where there is no room the member does not read, and is silent.
                    let _full = self.requests.try_send(wire::WatchRequest { request: Some(ask) });
                }
            }
        }
    }
}
