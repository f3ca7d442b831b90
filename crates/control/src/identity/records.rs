//! What the store keeps of identities, as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sinew_identity::{Fingerprint, Moment, Role, Serial, token::TokenId};
use sinew_model::{NetworkName, ZoneName};

use super::Purpose;

/// Where the root is.
pub const ROOT: &str = "sinew/ca/root";
/// Before the ids of tokens.
pub const TOKENS: &str = "sinew/tokens/";

/// Before the names of hosts in the keys of their records.
pub const HOSTS: &str = "sinew/ca/holders/node/";

/// Where a holder's record is.
#[must_use]
pub fn holder_key(role: &Role) -> String {
    format!("sinew/ca/holders/{role}")
}

/// Where a token's record is.
#[must_use]
pub fn token_key(id: &TokenId) -> String {
    format!("{TOKENS}{id}")
}

/// The root that signs, and those before it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredRoot {
    /// Whose it is.
    pub network: NetworkName,
    /// PEM.
    pub certificate: String,
    /// Its key.
    pub key: StoredKey,
    /// The root before this one, while it is trusted.
    pub before: Option<StoredBefore>,
}

/// A private key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StoredKey {
    /// PKCS#8 PEM, for all who read the store.
    Plain(String),
    /// For who has the key file.
    Sealed {
        /// The mark of the key file.
        with: String,
        /// Base64.
        nonce: String,
        /// Base64.
        sealed: String,
    },
}

/// A root that signs no more. Its key is gone.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredBefore {
    /// PEM.
    pub certificate: String,
    /// Its word for the root after it: PEM.
    pub vouched: String,
    /// It is trusted until then.
    pub until: Moment,
}

/// A join token: nothing by which it could be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredToken {
    /// Names it.
    pub id: TokenId,
    /// Of its secret.
    pub hash: Fingerprint,
    /// What it is for.
    pub purpose: Purpose,
    /// When it was made.
    pub made: Moment,
    /// Its last second.
    pub expires: Moment,
    /// How many may join with it.
    pub uses: u32,
    /// Who did.
    pub used: Vec<Use>,
    /// When somebody revoked it.
    pub revoked: Option<Moment>,
}

/// Somebody joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Use {
    /// Who.
    pub by: Role,
    /// Their public key: who lost the answer asks with it again.
    pub key: Fingerprint,
    /// When.
    pub at: Moment,
}

/// Which certificates of a host, or of a replica that has joined, are good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredHolder {
    /// Their numbers and ends: the newest, and the one that it was asked for with, since the answer
    /// may have been lost.
    pub good: BTreeMap<Serial, Moment>,
    /// The public key of the newest.
    pub key: Option<Fingerprint>,
    /// Where its token allowed it to be; anywhere without one.
    pub zone: Option<ZoneName>,
    /// When somebody took it out.
    pub withdrawn: Option<Moment>,
}
