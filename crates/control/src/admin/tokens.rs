//! Join tokens.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
};
use sinew_api::control::{Done, MadeToken, NewToken, Token, Use};
use sinew_identity::{Moment, token::TokenId};

use super::answer::{Answer, Failure};
use crate::{
    identity::{Grant, Purpose, records::StoredToken},
    serve::Handle,
};

pub(super) async fn list(State(handle): State<Handle>) -> Answer<Vec<Token>> {
    let now = Moment::now();
    let tokens = handle.shared.authority.tokens().await?;
    Ok(Json(tokens.into_iter().map(|token| shown(token, now)).collect()))
}

fn shown(token: StoredToken, now: Moment) -> Token {
    let left = token.used.len() < usize::try_from(token.uses).unwrap_or(usize::MAX);
    let good = left && token.revoked.is_none() && now <= token.expires;
    let (node, zone) = match token.purpose {
        Purpose::Node { name, zone } => (name, zone),
        Purpose::Control => (None, None),
    };
    let used = token.used.iter().map(|used| Use { by: used.by.to_string(), at_s: used.at.0 });
    Token {
        id: token.id.to_string(),
        node,
        zone,
        made_s: token.made.0,
        expires_s: token.expires.0,
        uses: token.uses,
        used: used.collect(),
        revoked_s: token.revoked.map(|at| at.0),
        good,
    }
}

pub(super) async fn create(State(handle): State<Handle>, body: Bytes) -> Answer<MadeToken> {
    let new: NewToken =
        serde_json::from_slice(&body).map_err(|error| Failure::invalid("body", &error))?;
    let usual = Grant::one_host();
    let grant = Grant {
        purpose: Purpose::Node { name: new.node, zone: new.zone },
        life: new.life_s.map_or(usual.life, Duration::from_secs),
        uses: new.uses.unwrap_or(usual.uses),
    };
    let now = Moment::now();
    let expires_s = (now + grant.life).0;
    let made = handle.shared.authority.create_token(grant, now).await?;
    tracing::info!(token = %made.id, "a join token was made");
    let token = made.reveal().reveal().to_owned();
    let addresses = handle.addresses();
    let join = format!("sinew agent --join {} --token {token}", addresses.join(","));
    Ok(Json(MadeToken { id: made.id.to_string(), token, expires_s, addresses, join }))
}

pub(super) async fn revoke(State(handle): State<Handle>, Path(id): Path<String>) -> Answer<Done> {
    let id: TokenId = id.parse().map_err(|error| Failure::invalid("id", &error))?;
    handle.shared.authority.revoke_token(&id, Moment::now()).await?;
    tracing::info!(token = %id, "a join token was revoked");
    Ok(Json(Done {}))
}
