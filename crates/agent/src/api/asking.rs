//! Who asks, with what the policy allows now: it may have changed since the caller connected.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};

use super::answer::{Failure, blocking};
use crate::{peer::Peer, refusal::Refusal, rights::Caller, runtime::Handle};

/// Who asks for a change.
pub(super) struct Asking {
    pub(super) caller: Caller,
    pub(super) peer: Arc<Peer>,
}

impl FromRequestParts<Handle> for Asking {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, handle: &Handle) -> Result<Self, Failure> {
        let peer = parts.extensions.get::<Arc<Peer>>().cloned().ok_or(Refusal::Stopping)?;
        let (policy, caller) = (handle.policy.clone(), peer.caller.clone());
        let caller = blocking(move || policy.allow(caller)).await?;
        Ok(Self { caller, peer })
    }
}
