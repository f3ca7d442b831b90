//! A call: to a member that works, with a token that is valid, in time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use futures_util::Stream;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::{sync::Mutex, time::Instant};
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    metadata::{AsciiMetadataValue, MetadataValue},
};
use tonic_prost::ProstCodec;

use super::{
    super::{Applied, Error, Revision},
    Options,
    failure::{Failure, judge},
    members::{Member, Members},
    wire,
};

/// After all members have failed, before they are asked again.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// New tokens for one call.
const RENEWALS: u32 = 2;

/// A method of etcd.
#[derive(Clone, Copy)]
pub(super) struct Method {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) repeat: Repeat,
}

/// What asking twice does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It only reads.
    Reads,
    /// No harm.
    Harmless,
    /// What must not be.
    Never,
}

pub(super) struct Client {
    pub(super) members: Members,
    pub(super) options: Options,
    token: Mutex<Option<AsciiMetadataValue>>,
    /// The newest revision that was told.
    seen: AtomicU64,
    /// 0 until one is known.
    cluster: AtomicU64,
}

impl Client {
    pub(super) fn new(options: Options) -> Result<Self, Error> {
        let members = Members::new(&options)?;
        let (seen, cluster) = (AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { members, options, token: Mutex::new(None), seen, cluster })
    }

    /// Asks members until one answers. What is not found is `missing`.
    pub(super) async fn call<Q, A>(
        &self,
        method: Method,
        request: &Q,
        missing: Error,
    ) -> Result<A, Error>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let deadline = Instant::now() + self.options.timeout;
        let (mut failures, mut renewals, mut pause) = (0, 0, PAUSE);
        loop {
            let (index, member) = self.members.current();
            let token = self.token(method, deadline).await?;
            let failure = match self.attempt(method, request, token.clone(), member, deadline).await
            {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let error = match failure {
                Failure::NotFound => return Err(missing),
                Failure::Refused(error) => return Err(error),
                Failure::Token(error) if token.is_none() || renewals == RENEWALS => {
                    return Err(error);
                }
                Failure::Token(_) => {
                    renewals += 1;
                    self.discard(token.as_ref()).await;
                    continue;
                }
                Failure::Perhaps(error) if method.repeat == Repeat::Never => {
                    self.members.leave(index);
                    return Err(error);
                }
                Failure::Perhaps(error) | Failure::Elsewhere(error) => error,
            };
            self.members.leave(index);
            failures += 1;
            if failures % self.members.count() == 0 {
                if Instant::now() + pause >= deadline {
                    return Err(if method.repeat == Repeat::Reads { undone(error) } else { error });
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    async fn attempt<Q, A>(
        &self,
        method: Method,
        request: &Q,
        token: Option<AsciiMetadataValue>,
        member: &Member,
        deadline: Instant,
    ) -> Result<A, Failure>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let began = Instant::now();
        let end = match method.repeat {
            Repeat::Never => deadline,
            Repeat::Reads | Repeat::Harmless => deadline.min(began + self.options.attempt),
        };
        let answer = tokio::time::timeout_at(end, async {
            let mut grpc = ready(member).await?;
            let request = with(Request::new(request.clone()), token);
            let path = PathAndQuery::from_static(method.path);
            grpc.unary(request, path, ProstCodec::default()).await
        });
        match answer.await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(judge(&status, method.name, &member.name)),
            Err(_) => Err(Failure::Perhaps(Error::Timeout {
                call: format!("{} at {}", method.name, member.name),
                after: began.elapsed(),
                applied: Applied::Unknown,
            })),
        }
    }

    /// Begins a call with streams both ways; ready when the member has said something.
    pub(super) async fn stream<Q, A>(
        &self,
        method: Method,
        member: &Member,
        requests: impl Stream<Item = Q> + Send + 'static,
    ) -> Result<Streaming<A>, Failure>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let deadline = Instant::now() + self.options.attempt;
        let token = self.token(method, deadline).await.map_err(Failure::Perhaps)?;
        let begun = tokio::time::timeout_at(deadline, async {
            let mut grpc = ready(member).await?;
            let path = PathAndQuery::from_static(method.path);
            grpc.streaming(with(Request::new(requests), token), path, ProstCodec::default()).await
        });
        match begun.await {
            Ok(Ok(answers)) => Ok(answers.into_inner()),
            Ok(Err(status)) => Err(judge(&status, method.name, &member.name)),
            Err(_) => Err(self.silent(method, member)),
        }
    }

    /// A member that serves a stream, and says nothing.
    pub(super) fn silent(&self, method: Method, member: &Member) -> Failure {
        Failure::Perhaps(Error::Timeout {
            call: format!("{} at {}", method.name, member.name),
            after: self.options.attempt,
            applied: Applied::Unknown,
        })
    }

    /// The user's token; none where there is no user.
    async fn token(
        &self,
        method: Method,
        deadline: Instant,
    ) -> Result<Option<AsciiMetadataValue>, Error> {
        let Some(user) = self.options.user.as_ref().filter(|_| method.path != AUTHENTICATE.path)
        else {
            return Ok(None);
        };
        let mut token = self.token.lock().await;
        if token.is_none() && Instant::now() < deadline {
            let (name, password) = (user.name.clone(), user.password.clone());
            let request = wire::AuthenticateRequest { name, password };
            let missing = Error::Unauthenticated { why: format!("there is no user {}", user.name) };
            let answer: wire::AuthenticateResponse =
                Box::pin(self.call(AUTHENTICATE, &request, missing)).await?;
            let why = || format!("the token for user {} is no text", user.name);
            let new = MetadataValue::try_from(answer.token);
            *token = Some(new.map_err(|_| Error::Unauthenticated { why: why() })?);
        }
        Ok(token.clone())
    }

    /// Has a new token fetched, unless that was done meanwhile.
    pub(super) async fn discard(&self, old: Option<&AsciiMetadataValue>) {
        let mut token = self.token.lock().await;
        if old.is_none() || token.as_ref() == old {
            token.take();
        }
    }

    /// The newest revision that was told.
    pub(super) fn seen(&self) -> Revision {
        Revision(self.seen.load(Ordering::Acquire))
    }

    /// Notes a revision that was told after `before` had been.
    pub(super) fn saw(
        &self,
        header: Option<&wire::Header>,
        before: Revision,
    ) -> Result<Revision, Error> {
        let revision = super::convert::header_revision(header);
        let cluster = header.map_or(0, |header| header.cluster_id);
        let known = self.cluster.compare_exchange(0, cluster, Ordering::AcqRel, Ordering::Acquire);
        let known = known.unwrap_or_else(|known| known);
        if revision < before || (known != 0 && known != cluster) {
            return Err(Error::Rewound { seen: before, found: revision });
        }
        self.seen.fetch_max(revision.0, Ordering::AcqRel);
        Ok(revision)
    }
}

const AUTHENTICATE: Method = Method {
    name: "authenticate",
    path: "/etcdserverpb.Auth/Authenticate",
    repeat: Repeat::Harmless,
};

/// The same failure of a call that only reads.
fn undone(error: Error) -> Error {
    let applied = Applied::No;
    match error {
        Error::Unavailable { why, .. } => Error::Unavailable { why, applied },
        Error::Timeout { call, after, .. } => Error::Timeout { call, after, applied },
        other => other,
    }
}

async fn ready(member: &Member) -> Result<Grpc<tonic::transport::Channel>, Status> {
    // Lists may be longer than what tonic takes by default; etcd bounds what it sends.
    let mut grpc = Grpc::new(member.channel.clone()).max_decoding_message_size(usize::MAX);
    grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
    Ok(grpc)
}

fn with<T>(mut request: Request<T>, token: Option<AsciiMetadataValue>) -> Request<T> {
    let metadata = request.metadata_mut();
    // A member without a leader is to say so at once, and to end its streams.
    metadata.insert("hasleader", MetadataValue::from_static("true"));
    if let Some(token) = token {
        metadata.insert("token", token);
    }
    request
}
