//! What agents are told in gRPC's words. The text is that of the error: the agent shows it to people.

use sinew_identity::token::TokenError;
use tonic::Status;

use crate::{identity, session::Refused, store};

pub(super) fn of_store(error: &store::Error) -> Status {
    Status::unavailable(error.to_string())
}

pub(super) fn of_identity(error: &identity::Error) -> Status {
    let text = error.to_string();
    match error {
        identity::Error::Denied(_) => Status::permission_denied(text),
        identity::Error::Store(error) => of_store(error),
        identity::Error::Contended { .. } => Status::aborted(text),
        identity::Error::Issue(_) => Status::invalid_argument(text),
        _ => Status::internal(text),
    }
}

pub(super) fn of_token(error: &TokenError) -> Status {
    Status::invalid_argument(error.to_string())
}

pub(super) fn of_message(error: &impl std::fmt::Display) -> Status {
    Status::invalid_argument(format!("control cannot read what the agent says: {error}"))
}

pub(super) fn of_session(refused: &Refused) -> Status {
    let text = refused.to_string();
    match refused {
        Refused::Hello | Refused::Protocol { .. } => Status::failed_precondition(text),
        Refused::Node { .. } | Refused::Zone { .. } => Status::permission_denied(text),
        Refused::Subscriptions | Refused::Reports { .. } => Status::resource_exhausted(text),
    }
}

pub(super) fn stopping() -> Status {
    Status::unavailable("this replica of control is going down: another one may answer")
}
