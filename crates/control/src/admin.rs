//! The API for people, over a unix socket: routes to what answers them. Whoever may open the socket
//! may do everything: its file says who that is.

mod actions;
mod answer;
mod export;
mod nodes;
mod tokens;

use axum::{
    Extension, Json, Router,
    extract::State,
    http::{Method, Uri},
    response::IntoResponse,
    routing::{delete, get, post},
};
use sinew_api::control::{Control, NewRoot};
use sinew_identity::Moment;
use sinew_model::fleet::Generation;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
};

use crate::serve::Handle;
use answer::{Answer, Failure};

/// Who calls, for the history.
#[derive(Clone, Debug)]
struct Who(String);

impl Who {
    fn of(stream: &UnixStream) -> Self {
        Self(match stream.peer_cred() {
            Ok(peer) if peer.uid() == 0 => "root".to_owned(),
            Ok(peer) => format!("user {}", peer.uid()),
            Err(_) => "somebody at the socket".to_owned(),
        })
    }
}

fn router(handle: Handle) -> Router {
    Router::new()
        .route("/v1/control", get(control))
        .route("/v1/tokens", get(tokens::list))
        .route("/v1/tokens", post(tokens::create))
        .route("/v1/tokens/{id}", delete(tokens::revoke))
        .route("/v1/nodes", get(nodes::list))
        .route("/v1/nodes/{node}", delete(nodes::withdraw))
        .route("/v1/actions", post(actions::act))
        .route("/v1/history/{after}/{limit}", get(actions::list))
        .route("/v1/placement", get(actions::placement))
        .route("/v1/limits", get(actions::limits))
        .route("/v1/overview", get(actions::overview))
        .route("/v1/root/rotate", post(rotate))
        .route("/v1/export", get(export::export))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .with_state(handle)
}

/// Answers callers until `stop`, then lets open calls end.
pub async fn serve(listener: UnixListener, handle: Handle, stop: watch::Receiver<bool>) {
    let router = router(handle);
    sinew_door::open(listener, stop, |stream, stop| {
        let who = Who::of(&stream);
        sinew_door::speak(stream, router.clone().layer(Extension(who)), stop)
    })
    .await;
}

async fn unknown(method: Method, uri: Uri) -> impl IntoResponse {
    Failure::no_route(&format!("{method} {}", uri.path()))
}

async fn control(State(handle): State<Handle>) -> Answer<Control> {
    let addresses = handle.addresses();
    let shared = &handle.shared;
    let registry = shared.registry();
    let poisoned = registry.poisoned();
    let poisoned = poisoned.map(|(key, why)| (key.escape_ascii().to_string(), why.to_string()));
    Ok(Json(Control {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        name: shared.options.name.clone(),
        id: shared.id.clone(),
        network: shared.authority.network().clone(),
        addresses,
        revision: Generation(registry.revision().0),
        sessions: shared.sessions.len(),
        poisoned: poisoned.collect(),
    }))
}

async fn rotate(State(handle): State<Handle>) -> Answer<NewRoot> {
    let fingerprint = handle.shared.authority.rotate(Moment::now()).await?;
    tracing::warn!(%fingerprint, "the root certificate was replaced");
    Ok(Json(NewRoot { fingerprint: fingerprint.to_string() }))
}
