//! The API for people, over a unix socket: routes to what answers them. Its file says who may open the
//! socket: root, who may do everything, and the group `sinew`, who may look.

mod actions;
mod answer;
mod export;
mod nodes;
mod tokens;

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    http::{Method, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
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

/// Who calls: for the history, and for what only root may do.
#[derive(Clone, Debug)]
struct Who(String, Option<u32>);

impl Who {
    fn of(stream: &UnixStream) -> Self {
        let uid = stream.peer_cred().ok().map(|peer| peer.uid());
        let name = match uid {
            Some(0) => "root".to_owned(),
            Some(uid) => format!("user {uid}"),
            None => "somebody at the socket".to_owned(),
        };
        Self(name, uid)
    }

    /// Members of the group look; what changes the network or runs commands on its hosts, and the
    /// export with all that the store holds, is root's.
    fn may(&self, method: &Method, path: &str) -> bool {
        self.1 == Some(0) || (method == Method::GET && path != EXPORT)
    }
}

async fn check(
    Extension(who): Extension<Who>,
    request: Request,
    next: Next,
) -> Result<Response, Failure> {
    if who.may(request.method(), request.uri().path()) {
        return Ok(next.run(request).await);
    }
    Err(Failure::not_root(&who.0))
}

const EXPORT: &str = "/v1/export";

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
        .route(EXPORT, get(export::export))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(middleware::from_fn(check))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_changes_the_network_or_takes_all_that_is_stored() {
        let root = Who("root".to_owned(), Some(0));
        for who in [Who("user 7".to_owned(), Some(7)), Who("somebody".to_owned(), None)] {
            assert!(who.may(&Method::GET, "/v1/nodes"));
            for (method, path) in [
                (Method::POST, "/v1/actions"),
                (Method::POST, "/v1/tokens"),
                (Method::DELETE, "/v1/nodes/a"),
                (Method::POST, "/v1/root/rotate"),
                (Method::GET, EXPORT),
            ] {
                assert!(!who.may(&method, path), "{who:?} {method} {path}");
                assert!(root.may(&method, path));
            }
        }
    }
}
