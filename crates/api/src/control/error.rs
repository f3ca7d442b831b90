//! Why a call to control gave no answer: as with an agent, in other words.

use std::fmt;

use crate::{ClientError, ErrorBody};

/// Whose fault it is, and what to do about it.
#[derive(Debug)]
pub struct Error(ClientError);

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        Self(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            ClientError::Unreachable { socket, source } => {
                write!(f, "no replica of control answers at {}: {source}", socket.display())
            }
            ClientError::Denied { socket } => {
                write!(f, "you may not open control's socket {}", socket.display())
            }
            ClientError::Lost { call, .. } => write!(f, "control went away during {call}"),
            same @ (ClientError::Api(_) | ClientError::Protocol { .. }) => same.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Error {
    /// What it answered, where it refused.
    #[must_use]
    pub fn body(&self) -> Option<&ErrorBody> {
        match &self.0 {
            ClientError::Api(body) => Some(body),
            _ => None,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let words = match &self.0 {
            ClientError::Unreachable { .. } => {
                "run this on a host where `sinew control` runs, or name its socket with --control \
                 or SINEW_CONTROL"
            }
            ClientError::Lost { .. } => "see why in control's log",
            ClientError::Protocol { .. } => {
                "use the same version of sinew as control, see `sinew --version`"
            }
            same @ (ClientError::Denied { .. } | ClientError::Api(_)) => return same.remedy(),
        };
        Some(words.to_owned())
    }
}
