//! A client of control's socket: one method a call.

use std::{collections::BTreeMap, path::PathBuf};

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use sinew_model::{NodeName, fleet::Generation};

use super::{
    Act, Acted, Control, Done, Entry, Error, MadeToken, NewRoot, NewToken, Node, Overview, Placed,
    Token,
};
use crate::{Client as Caller, ClientError};

/// Speaks to a replica of control.
#[derive(Clone, Debug)]
pub struct Client(Caller);

type Answer<T> = Result<T, Error>;

impl Client {
    /// A client of the replica that answers at `socket`.
    ///
    /// # Errors
    /// When nobody answers there, or the caller may not open it.
    pub async fn connect(socket: impl Into<PathBuf>) -> Answer<Self> {
        Ok(Self(Caller::connect(socket).await?))
    }

    /// The replica itself.
    ///
    /// # Errors
    /// See [`Error`], for every call below too.
    pub async fn control(&self) -> Answer<Control> {
        Ok(self.0.get("/v1/control").await?)
    }

    /// All join tokens.
    pub async fn tokens(&self) -> Answer<Vec<Token>> {
        Ok(self.0.get("/v1/tokens").await?)
    }

    /// Makes a join token.
    pub async fn create_token(&self, new: &NewToken) -> Answer<MadeToken> {
        Ok(self.0.post("/v1/tokens", new).await?)
    }

    /// Has nobody join with a token any more.
    pub async fn revoke_token(&self, id: &str) -> Answer<Done> {
        Ok(self.0.call(Method::DELETE, &format!("/v1/tokens/{id}"), None::<&()>).await?)
    }

    /// All hosts.
    pub async fn nodes(&self) -> Answer<Vec<Node>> {
        Ok(self.0.get("/v1/nodes").await?)
    }

    /// Takes a host out of the network.
    pub async fn withdraw(&self, node: &NodeName) -> Answer<Done> {
        Ok(self.0.call(Method::DELETE, &format!("/v1/nodes/{node}"), None::<&()>).await?)
    }

    /// Does something, or shows what it would do.
    pub async fn act(&self, act: &Act) -> Answer<Acted> {
        Ok(self.0.post("/v1/actions", act).await?)
    }

    /// What was done after a generation: the newest `limit`, oldest first.
    pub async fn history(&self, after: Generation, limit: usize) -> Answer<Vec<Entry>> {
        Ok(self.0.get(&format!("/v1/history/{after}/{limit}")).await?)
    }

    /// Services that are placed.
    pub async fn placement(&self) -> Answer<Vec<Placed>> {
        Ok(self.0.get("/v1/placement").await?)
    }

    /// Limits by name.
    pub async fn limits(&self) -> Answer<BTreeMap<String, u64>> {
        Ok(self.0.get("/v1/limits").await?)
    }

    /// What holds for the whole network.
    pub async fn overview(&self) -> Answer<Overview> {
        Ok(self.0.get("/v1/overview").await?)
    }

    /// Replaces the root certificate.
    pub async fn rotate_root(&self) -> Answer<NewRoot> {
        Ok(self.0.post("/v1/root/rotate", &()).await?)
    }

    /// All that the store holds.
    pub async fn export(&self) -> Answer<Export> {
        let (call, answer) = self.0.send(Method::GET, "/v1/export", None::<&()>).await?;
        Ok(Export { call, body: answer.into_body() })
    }
}

/// An export on its way.
#[derive(Debug)]
pub struct Export {
    call: String,
    body: Incoming,
}

impl Export {
    /// The next bytes; `None`: that was all. Whether it is whole is said by its last line.
    ///
    /// # Errors
    /// When control went away.
    pub async fn next(&mut self) -> Answer<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|error| ClientError::from_hyper(&self.call, error))?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}
