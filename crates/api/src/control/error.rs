//! Why a call to control gave no answer.

use std::{io, path::PathBuf};

use crate::{ClientError, ErrorBody, ProtocolFault};

/// Whose fault it is, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers at the socket.
    #[error("no replica of control answers at {}: {source}", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not let the caller open the socket.
    #[error("you may not open control's socket {}", socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// It ended, or closed the connection, before the answer was complete.
    #[error("control went away during {call}")]
    Lost {
        /// Method and path.
        call: String,
    },
    /// It refused.
    #[error(transparent)]
    Api(Box<ErrorBody>),
    /// What answered does not speak this API.
    #[error("{call}: {fault}")]
    Protocol {
        /// Method and path.
        call: String,
        /// What is wrong.
        fault: ProtocolFault,
    },
}

impl From<ClientError> for Error {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Unreachable { socket, source } => Self::Unreachable { socket, source },
            ClientError::Denied { socket } => Self::Denied { socket },
            ClientError::Lost { call, .. } => Self::Lost { call },
            ClientError::Api(body) => Self::Api(body),
            ClientError::Protocol { call, fault } => Self::Protocol { call, fault },
        }
    }
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { .. } => {
                "run this on a host where `sinew control` runs, or name its socket with \
                 --control or SINEW_CONTROL"
                    .to_owned()
            }
            Self::Denied { .. } => {
                "use sudo, or join the group: `sudo usermod -aG sinew $USER`, then log in again"
                    .to_owned()
            }
            Self::Lost { .. } => "see why in control's log".to_owned(),
            Self::Api(body) => return body.remedy.clone(),
            Self::Protocol { .. } => {
                "use the same version of sinew as control, see `sinew --version`".to_owned()
            }
        })
    }
}
