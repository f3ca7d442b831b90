//! Why a message is refused.

use std::collections::BTreeSet;

use sinew_model::{
    ServiceName,
    fleet::{Generation, OutOfBounds},
};

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No message of the protocol.
    #[error("not a message of sinew.v1: {0}")]
    Encoding(#[from] prost::DecodeError),
    /// A kind of message that a later version may have. It can be passed over.
    #[error("a message of a kind that protocol version {} does not have", crate::PROTOCOL)]
    UnknownKind,
    /// A field is out of its bounds.
    #[error(transparent)]
    Field(#[from] OutOfBounds),
    /// Too long to be looked at.
    #[error("a message of {bytes} bytes: at most {} are taken", crate::bounds::MAX_MESSAGE_BYTES)]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
}

/// Why a message is refused, and what it would have told: who receives it can refuse that alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct DecodeError {
    /// What is wrong.
    pub error: Error,
    /// What the message is about, where it says so.
    pub of: Option<Subject>,
}

/// What a message that is refused is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A service at a generation.
    Service(ServiceName, Generation),
    /// What a host is to run: of these services, as far as their names can be read.
    Assigned(Generation, BTreeSet<ServiceName>),
}

impl<E: Into<Error>> From<E> for DecodeError {
    fn from(error: E) -> Self {
        Self { error: error.into(), of: None }
    }
}
