//! The API over the unix socket: routes to what answers them. What a caller may do is decided by
//! who the kernel says it is.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    extract::DefaultBodyLimit,
    http::{Method, Uri},
    response::IntoResponse,
    routing::{delete, get, patch, post, put},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
};

use crate::{peer::Peer, refusal::Refusal, rights::sinew_group, runtime::Handle};

mod answer;
mod changes;
mod events;
mod flows;
mod logs;
mod state;

use answer::Failure;

/// A caller that does not finish its request's head by then is dropped.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests with a body have this size at most; a project of ten thousand services has some.
const BODY_BYTES: usize = 64 << 20;
/// Connections at a time: more than that is a caller gone wild.
const CONNECTIONS: usize = 1024;
/// Time that open calls have to end when the agent does.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// Every route, as `METHOD path`.
#[cfg(test)]
const ROUTES: &[&str] = &[
    "get /v1/agent",
    "get /v1/openapi.json",
    "get /v1/projects",
    "get /v1/projects/{name}",
    "put /v1/projects/{name}",
    "delete /v1/projects/{name}",
    "get /v1/services",
    "get /v1/services/{name}",
    "patch /v1/services/{name}",
    "post /v1/services/{name}/restart",
    "get /v1/workloads",
    "post /v1/workloads/{service}/{replica}/drain",
    "post /v1/attachments",
    "get /v1/logs",
    "get /v1/logs/positions",
    "get /v1/edges",
    "get /v1/explain",
    "get /v1/flows",
    "get /v1/events",
    "get /v1/metrics",
    "post /v1/shutdown",
];

fn router(handle: Handle) -> Router {
    Router::new()
        .route("/v1/agent", get(state::agent))
        .route("/v1/openapi.json", get(state::openapi))
        .route("/v1/projects", get(state::projects))
        .route("/v1/projects/{name}", get(state::project))
        .route("/v1/projects/{name}", put(changes::apply))
        .route("/v1/projects/{name}", delete(changes::remove))
        .route("/v1/services", get(state::services))
        .route("/v1/services/{name}", get(state::service))
        .route("/v1/services/{name}", patch(changes::scale))
        .route("/v1/services/{name}/restart", post(changes::restart))
        .route("/v1/workloads", get(state::workloads))
        .route("/v1/workloads/{service}/{replica}/drain", post(changes::drain))
        .route("/v1/attachments", post(changes::attach))
        .route("/v1/logs", get(logs::lines))
        .route("/v1/logs/positions", get(logs::positions))
        .route("/v1/edges", get(state::edges))
        .route("/v1/explain", get(state::explain))
        .route("/v1/flows", get(flows::flows))
        .route("/v1/events", get(events::stream))
        .route("/v1/metrics", get(state::metrics))
        .route("/v1/shutdown", post(changes::shutdown))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(handle)
}

async fn unknown(method: Method, uri: Uri) -> impl IntoResponse {
    Failure::from(Refusal::NoRoute { path: format!("call {method} {}", uri.path()) })
}

/// Answers callers until `stop`, then lets open calls end.
pub(crate) async fn serve(listener: UnixListener, handle: Handle, mut stop: watch::Receiver<bool>) {
    let router = router(handle);
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("cannot accept a caller: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
            _ = stop.changed() => break,
        };
        connections.spawn(answer(stream, router.clone(), stop.clone()));
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    // Streams end with the agent; dropping the set ends what is left.
    let _ = tokio::time::timeout(LAST_CALLS, ended).await;
}

async fn answer(stream: UnixStream, router: Router, mut stop: watch::Receiver<bool>) {
    let peer = match Peer::of(&stream) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!("cannot see who calls: {error}");
            return;
        }
    };
    let service = match peer.caller.may_call(group()) {
        Ok(()) => router.layer(Extension(Arc::new(peer))),
        Err(refusal) => {
            let refused = Failure::from(refusal);
            Router::new().fallback(move || std::future::ready(refused.clone().into_response()))
        }
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("a caller's connection ended: {error}");
    }
}

/// The group is looked up each time: it may be made while the agent runs.
pub(crate) fn group() -> Option<u32> {
    sinew_group(&std::fs::read_to_string("/etc/group").ok()?)
}

#[cfg(test)]
mod tests;
