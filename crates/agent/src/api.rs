//! The API over the unix socket: routes to what answers them. What a caller may do is decided by
//! who the kernel says it is.

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::DefaultBodyLimit,
    http::{Method, Uri, header},
    response::IntoResponse,
    routing::{delete, get, patch, post, put},
};
use tokio::{
    net::{TcpListener, UnixListener, UnixStream},
    sync::watch,
};

use crate::{peer::Peer, refusal::Refusal, runtime::Handle};

mod answer;
mod asking;
mod changes;
mod events;
mod flows;
mod leave;
mod logs;
mod quota;
mod state;

use answer::Failure;
use quota::Quota;

/// Whether the programs that Sinew runs may call its API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Members {
    /// They may not, whoever they run as.
    #[default]
    Refused,
    /// They are callers like others.
    Call,
}

/// Requests with a body have this size at most; a project of ten thousand services has some.
const BODY_BYTES: usize = 64 << 20;

/// Every route, as `METHOD path`.
#[cfg(test)]
const ROUTES: &[&str] = &[
    "get /v1/agent",
    "get /v1/status",
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
    "post /v1/adoptions",
    "delete /v1/adoptions/{service}/{replica}",
    "get /v1/logs",
    "get /v1/logs/positions",
    "get /v1/edges",
    "get /v1/explain",
    "get /v1/flows",
    "get /v1/events",
    "get /v1/metrics",
    "post /v1/leave",
    "post /v1/shutdown",
];

fn router(handle: Handle) -> Router {
    Router::new()
        .route("/v1/agent", get(state::agent))
        .route("/v1/status", get(state::status))
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
        .route("/v1/adoptions", post(changes::adopt))
        .route("/v1/adoptions/{service}/{replica}", delete(changes::release))
        .route("/v1/logs", get(logs::lines))
        .route("/v1/logs/positions", get(logs::positions))
        .route("/v1/edges", get(state::edges))
        .route("/v1/explain", get(state::explain))
        .route("/v1/flows", get(flows::flows))
        .route("/v1/events", get(events::stream))
        .route("/v1/metrics", get(state::metrics))
        .route("/v1/leave", post(leave::leave))
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
pub(crate) async fn serve(
    listener: UnixListener,
    handle: Handle,
    members: Members,
    stop: watch::Receiver<bool>,
) {
    let members = (members == Members::Refused).then(|| handle.clone());
    let (router, quota) = (router(handle), Quota::default());
    sinew_door::open(listener, stop, |stream, stop| {
        answer(stream, router.clone(), members.clone(), quota.clone(), stop)
    })
    .await;
}

/// Answers whoever reaches this address, with the metrics alone.
pub(crate) async fn serve_metrics(
    listener: TcpListener,
    handle: Handle,
    stop: watch::Receiver<bool>,
) {
    let router =
        Router::new().route("/metrics", get(state::metrics)).fallback(unknown).with_state(handle);
    sinew_door::open(listener, stop, |stream, stop| {
        sinew_door::speak(stream, router.clone(), stop)
    })
    .await;
}

/// `members`: who knows those who are refused.
async fn answer(
    stream: UnixStream,
    router: Router,
    members: Option<Handle>,
    quota: Quota,
    stop: watch::Receiver<bool>,
) {
    let peer = match Peer::of(&stream) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!("cannot see who calls: {error}");
            return;
        }
    };
    let mut allowed = peer.caller.may_call(sinew_door::group());
    if let (Ok(()), Some(handle)) = (&allowed, &members) {
        allowed = refuse_members(&peer, handle).await;
    }
    // The place is held as long as the connection.
    let (service, _place) = match allowed.and_then(|()| quota.take(peer.caller.uid)) {
        Ok(place) => (router.layer(Extension(Arc::new(peer))), Some(place)),
        Err(refusal) => (refuse(refusal), None),
    };
    sinew_door::speak(stream, service, stop).await;
}

/// Adopted cgroups are members wherever they lie.
async fn refuse_members(peer: &Peer, handle: &Handle) -> Result<(), Refusal> {
    let mut members = handle.adopted().await?;
    members.push(handle.paths.members());
    if peer.is_below(&members) { Err(Refusal::Member) } else { Ok(()) }
}

/// Says so once: who is refused holds no connection.
fn refuse(refusal: Refusal) -> Router {
    let refused = Failure::from(refusal);
    Router::new().fallback(move || {
        std::future::ready(([(header::CONNECTION, "close")], refused.clone()).into_response())
    })
}

#[cfg(test)]
mod tests;
