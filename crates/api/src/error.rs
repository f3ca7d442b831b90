//! What can go wrong with a call: whose fault it is, and what to do about it.

use std::{io, path::PathBuf};

use crate::ErrorBody;

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the socket.
    #[error("no agent answers at {}: {source}", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not let the caller open the socket.
    #[error("you may not open the agent's socket {}", socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// The agent ended, or closed the connection, before the answer was complete.
    #[error("the agent went away during {call}")]
    Lost {
        /// Method and path.
        call: String,
        /// What the connection said.
        source: Option<hyper::Error>,
    },
    /// The agent refused.
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

/// What is wrong with a call's request or answer.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolFault {
    /// The call cannot be put into a request.
    #[error("no request can be made of it: {0}")]
    Request(http::Error),
    /// It is no HTTP.
    #[error("the answer is not HTTP: {0}")]
    Http(hyper::Error),
    /// It is no JSON, or not of the type that this call answers with.
    #[error("the answer is not what this version expects: {0}")]
    Json(serde_json::Error),
    /// A failure without an error body.
    #[error("the answer is {0} without an error body")]
    Status(http::StatusCode),
}

impl ClientError {
    /// What to do about it.
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { .. } => {
                "start a project with `sinew up`, or the agent alone with `sinew agent`".to_owned()
            }
            Self::Denied { .. } => {
                "use sudo, or join the group: `sudo usermod -aG sinew $USER`, then log in again"
                    .to_owned()
            }
            Self::Lost { .. } => "see why with `sinew doctor` and in the agent's log".to_owned(),
            Self::Api(body) => return body.remedy.clone(),
            Self::Protocol { .. } => {
                "use the same version of sinew as the agent, see `sinew --version`".to_owned()
            }
        })
    }

    /// Whether the agent is away, so that the same call may succeed when it is back.
    pub fn agent_is_away(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Lost { .. })
    }

    pub(crate) fn from_hyper(call: &str, error: hyper::Error) -> Self {
        let call = call.to_owned();
        if error.is_parse() {
            Self::Protocol { call, fault: ProtocolFault::Http(error) }
        } else {
            Self::Lost { call, source: Some(error) }
        }
    }

    pub(crate) fn from_json(call: &str, error: serde_json::Error) -> Self {
        Self::Protocol { call: call.to_owned(), fault: ProtocolFault::Json(error) }
    }
}
