//! How a host gets its certificate.

use bytes::Bytes;
use prost::Message as _;
use sinew_model::NodeName;

use crate::{
    Error,
    bounds::{MAX_CERTIFICATE_BYTES, MAX_CERTIFICATES, MAX_TOKEN_BYTES},
    read::{Read, count, data, name, text},
    wire,
};

/// Asks for the first certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Join {
    /// What allows it: a secret.
    pub token: String,
    /// The host's name.
    pub node: NodeName,
    /// PKCS#10, DER.
    pub certificate_request: Bytes,
}

/// Without the token.
impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Join").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Asks for the next one, with one that is still good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renew {
    /// PKCS#10, DER.
    pub certificate_request: Bytes,
}

/// The answer to both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// X.509, DER; the leaf first.
    pub chain: Vec<Bytes>,
    /// Whom to trust; X.509, DER.
    pub authorities: Vec<Bytes>,
}

impl Join {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let Self { token, node, certificate_request } = self.clone();
        let node = node.to_string();
        wire::JoinRequest { token, node, certificate_request }.encode_to_vec().into()
    }

    /// Reads and checks a message.
    ///
    /// # Errors
    /// With the first field at fault.
    pub fn decode(bytes: Bytes) -> Result<Self, Error> {
        let from = wire::JoinRequest::decode(bytes)?;
        // What is no token is not told: it may be one with something beside it.
        let told = from.token.len();
        let token = text("token", from.token, MAX_TOKEN_BYTES).map_err(|error| {
            let value = format!("{told} bytes long");
            sinew_model::fleet::OutOfBounds { value, ..error }
        })?;
        Ok(Self {
            token,
            node: name("node", from.node)?,
            certificate_request: request(from.certificate_request)?,
        })
    }
}

impl Renew {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let certificate_request = self.certificate_request.clone();
        wire::RenewRequest { certificate_request }.encode_to_vec().into()
    }

    /// Reads and checks a message.
    ///
    /// # Errors
    /// With the first field at fault.
    pub fn decode(bytes: Bytes) -> Result<Self, Error> {
        let from = wire::RenewRequest::decode(bytes)?;
        Ok(Self { certificate_request: request(from.certificate_request)? })
    }
}

fn request(bytes: Bytes) -> Read<Bytes> {
    data("certificate_request", bytes, MAX_CERTIFICATE_BYTES)
}

impl Certificate {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let Self { chain, authorities } = self.clone();
        wire::Certificate { chain, authorities }.encode_to_vec().into()
    }

    /// Reads and checks a message.
    ///
    /// # Errors
    /// With the first field at fault.
    pub fn decode(bytes: Bytes) -> Result<Self, Error> {
        let from = wire::Certificate::decode(bytes)?;
        let list = |field: &str, list: Vec<Bytes>| {
            count(field, list.len(), MAX_CERTIFICATES)?;
            let one =
                |(index, bytes)| data(&format!("{field}[{index}]"), bytes, MAX_CERTIFICATE_BYTES);
            list.into_iter().enumerate().map(one).collect::<Read<Vec<_>>>()
        };
        let authorities = list("authorities", from.authorities)?;
        Ok(Self { chain: list("chain", from.chain)?, authorities })
    }
}
