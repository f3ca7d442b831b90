//! The authority of a network: who may join, and whose certificates are good.
//!
//! It lies in the store, so every replica of control signs with one root, and none of them is needed:
//!
//! | key | value |
//! |---|---|
//! | `sinew/ca/root` | [`records::StoredRoot`]: the root with its key, and the roots before it |
//! | `sinew/ca/holders/<role>` | [`records::StoredHolder`]: which certificates of a host are good |
//! | `sinew/tokens/<id>` | [`records::StoredToken`]: the hash of a token, what it grants, who used it |
//!
//! Each write compares what it was computed from, so a token of one use admits one host however many
//! replicas are asked at once, and of two first replicas one makes the root.
//!
//! # What who reads or writes the store can do
//! Without a [`Seal`], who reads `sinew/ca/root` has the root's key, and can pass for any host and for
//! control. The embedded store is a file of root's own; in etcd the keys need a user of their own and
//! TLS, and copies and exports of it are secrets.
//!
//! With a seal, a key file that only the hosts of control have, who reads the store learns which hosts
//! and tokens there are, and can pass for nobody: of tokens it holds hashes alone. A key that was
//! stored without a seal stays so, also in the store's history until that is compacted;
//! [`Authority::rotate`] makes a sealed one and drops the other.
//!
//! Who writes the store is control, sealed or not: it may add tokens, let withdrawn hosts in again, and
//! write endpoints. It cannot replace the root unseen, since hosts believe the one they joined with.
//!
//! # When the root changes
//! The old root signs the new one's key ([`Authority::rotate`]), and that word is shown with every
//! certificate. So hosts that know only the old root, and tokens that name it, go on; with their next
//! renewal they learn the new one. The old one is trusted until the last certificate and token from
//! its time have ended.
//!
//! What stops when a host's certificate expires, and what goes on: see [`sinew_identity`].

mod error;
mod issue;
pub mod records;
mod roots;
mod seal;
mod tokens;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use sinew_identity::Moment;
use sinew_model::NetworkName;
use tokio::sync::Mutex;

pub use error::{Denied, Error, GrantError};
pub use issue::{Admitted, Issued};
pub use seal::{Seal, SealError};
pub use tokens::{Grant, Purpose};

use crate::store::{Range, Revision, Span, Store};

/// How long things last.
#[derive(Clone, Copy, Debug)]
pub struct Lives {
    /// A root.
    pub root: Duration,
    /// A certificate of a host or a replica of control.
    pub leaf: Duration,
}

impl Default for Lives {
    fn default() -> Self {
        Self { root: Duration::from_secs(10 * 365 * 86_400), leaf: Duration::from_secs(86_400) }
    }
}

/// The authority of one network; as many as there are replicas work on one store.
pub struct Authority {
    store: Arc<dyn Store>,
    network: NetworkName,
    seal: Option<Seal>,
    lives: Lives,
    /// Those who join here do so in turn: of many with one token that write at once all but one would
    /// have to begin anew, each time.
    turn: Mutex<()>,
}

/// How often a write is tried anew when another replica wrote in between.
const ATTEMPTS: u32 = 32;

impl Authority {
    /// The authority of `network` in this store; the first to open it makes the root.
    ///
    /// # Errors
    /// When the store is of another network, or its root is sealed with another key.
    pub async fn open(
        store: Arc<dyn Store>,
        network: NetworkName,
        seal: Option<Seal>,
        lives: Lives,
        now: Moment,
    ) -> Result<Self, Error> {
        let authority = Self { store, network, seal, lives, turn: Mutex::default() };
        authority.open_root(now).await?;
        Ok(authority)
    }

    /// Which network it is of.
    #[must_use]
    pub const fn network(&self) -> &NetworkName {
        &self.network
    }

    /// A value and the revision that put it; 0 when there is none.
    async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<(Option<T>, Revision), Error> {
        let ranged = self.store.range(Range::of(Span::key(key.to_owned()))).await?;
        match ranged.entries.first() {
            None => Ok((None, Revision(0))),
            Some(entry) => Ok((Some(decode(key, &entry.value)?), entry.mod_revision)),
        }
    }
}

fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(value).map_err(|error| Error::Damaged {
        key: key.to_owned(),
        line: error.line(),
        column: error.column(),
    })
}

fn encode<T: Serialize>(key: &str, value: &T) -> Result<Bytes, Error> {
    let text = serde_json::to_vec(value);
    text.map(Bytes::from).map_err(|_| Error::Damaged { key: key.to_owned(), line: 0, column: 0 })
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match filled {
        Ok(length) if length == N => Ok(bytes),
        _ => Err(Error::NoRandomness),
    }
}
