//! The calls of `sinew.v1.Fleet`.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use sinew_identity::{CertificateDer, Peer, Role, Token};
use sinew_proto::{Certificate, FrameCodec, Join, Path, Renew, bounds};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    server::{Grpc, StreamingService, UnaryService},
};

use super::{
    clock,
    heard::Heard,
    refusal,
    shared::Shared,
    stream::{self, Guest},
};
use crate::{identity::Issued, session::Member};

/// Who calls.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// `None`: who showed no certificate, and may join.
    pub(super) peer: Option<Peer>,
    pub(super) address: IpAddr,
    /// When it was heard of last.
    pub(super) heard: Heard,
}

/// Answers a call.
pub(super) async fn answer(
    shared: Arc<Shared>,
    caller: Caller,
    request: http::Request<Incoming>,
) -> http::Response<tonic::body::Body> {
    // Strangers are to cost little.
    let most = match Path::of(request.uri().path()) {
        Some(Path::Session) if caller.peer.is_some() => bounds::MAX_MESSAGE_BYTES,
        _ => bounds::MAX_UNARY_BYTES,
    };
    let mut grpc = Grpc::new(FrameCodec).max_decoding_message_size(most);
    match Path::of(request.uri().path()) {
        Some(Path::Session) => grpc.streaming(Session { shared, caller }, request).await,
        Some(Path::Join) => grpc.unary(Joining { shared, caller }, request).await,
        Some(Path::Renew) => grpc.unary(Renewing { shared, caller }, request).await,
        None => Status::unimplemented(format!("there is no {}", request.uri().path())).into_http(),
    }
}

struct Session {
    shared: Arc<Shared>,
    caller: Caller,
}

impl StreamingService<Bytes> for Session {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (shared, caller) = (Arc::clone(&self.shared), self.caller.clone());
        Box::pin(session(shared, caller, request.into_inner()))
    }
}

async fn session(
    shared: Arc<Shared>,
    caller: Caller,
    inbound: Streaming<Bytes>,
) -> Result<Response<ReceiverStream<Result<Bytes, Status>>>, Status> {
    let peer = known(caller.peer)?;
    let Role::Node(node) = peer.identity.role.clone() else {
        let text = format!("sessions are those of hosts, and this is {}", peer.identity);
        return Err(Status::permission_denied(text));
    };
    let looks = shared.sessions.looks();
    let admitted = shared.authority.admit(&peer).await;
    let admitted = admitted.map_err(|error| {
        tracing::info!(%node, %error, "a host gets no session");
        refusal::of_identity(&error)
    })?;
    let member = Member { node, zone: admitted.zone, address: caller.address };
    let alive = shared.alive().ok_or_else(refusal::stopping)?;
    Ok(Response::new(stream::start(
        shared,
        Guest { peer, member, heard: caller.heard, looks },
        inbound,
        alive,
    )))
}

fn known(peer: Option<Peer>) -> Result<Peer, Status> {
    peer.ok_or_else(|| {
        Status::unauthenticated(
            "this needs the certificate of a host: join with `sinew agent --join HOST --token TOKEN`",
        )
    })
}

struct Joining {
    shared: Arc<Shared>,
    caller: Caller,
}

impl UnaryService<Bytes> for Joining {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (shared, caller) = (Arc::clone(&self.shared), self.caller.clone());
        Box::pin(async move { join(&shared, &caller, request.into_inner()).await })
    }
}

async fn join(shared: &Shared, caller: &Caller, body: Bytes) -> Result<Response<Bytes>, Status> {
    let Join { token, node, certificate_request } =
        Join::decode(body).map_err(|error| refusal::of_message(&error))?;
    let from = caller.address;
    let token: Token = token.parse().map_err(|error| refusal::of_token(&error))?;
    let role = Role::Node(node);
    let joined = shared.authority.join(&token, &role, &certificate_request, clock::moment()).await;
    match joined {
        Ok(issued) => {
            let until = issued.certificate.life.not_after;
            tracing::info!(%role, %from, token = %token.id, %until, "a host has joined");
            Ok(Response::new(certificate(issued)))
        }
        Err(error) => {
            tracing::warn!(%role, %from, token = %token.id, %error, "a host may not join");
            Err(refusal::of_identity(&error))
        }
    }
}

struct Renewing {
    shared: Arc<Shared>,
    caller: Caller,
}

impl UnaryService<Bytes> for Renewing {
    type Response = Bytes;
    type Future = BoxFuture<'static, Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (shared, caller) = (Arc::clone(&self.shared), self.caller.clone());
        Box::pin(async move { renew(&shared, caller, request.into_inner()).await })
    }
}

async fn renew(shared: &Shared, caller: Caller, body: Bytes) -> Result<Response<Bytes>, Status> {
    let peer = known(caller.peer)?;
    let Renew { certificate_request } =
        Renew::decode(body).map_err(|error| refusal::of_message(&error))?;
    let renewed = shared.authority.renew(&peer, &certificate_request, clock::moment()).await;
    match renewed {
        Ok(issued) => {
            let until = issued.certificate.life.not_after;
            tracing::debug!(peer = %peer.identity, %until, "a certificate was renewed");
            Ok(Response::new(certificate(issued)))
        }
        Err(error) => {
            tracing::warn!(peer = %peer.identity, %error, "a certificate is not renewed");
            Err(refusal::of_identity(&error))
        }
    }
}

fn certificate(issued: Issued) -> Bytes {
    let bytes = |list: Vec<CertificateDer<'_>>| {
        list.iter().map(|one| Bytes::copy_from_slice(one)).collect()
    };
    Certificate { chain: bytes(issued.chain), authorities: bytes(issued.roots) }.encode()
}
