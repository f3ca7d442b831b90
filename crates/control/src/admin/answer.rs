//! How answers and refusals leave: the only place where errors become HTTP.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use sinew_api::{ErrorBody, ErrorCode};

use crate::{
    duty::people::Refused,
    identity::{Denied, Error},
    serve::NotDone,
};

/// What a handler gives.
pub(super) type Answer<T> = Result<Json<T>, Failure>;

/// An error on its way to the caller.
#[derive(Clone, Debug)]
pub(super) struct Failure(Box<ErrorBody>);

impl Failure {
    fn new(code: ErrorCode, message: String, remedy: Option<&str>) -> Self {
        let retryable = code == ErrorCode::Unavailable;
        let remedy = remedy.map(str::to_owned);
        Self(Box::new(ErrorBody { code, message, remedy, field: None, retryable }))
    }

    pub(super) fn no_route(call: &str) -> Self {
        let remedy = "use the same version of sinew as control, see `sinew --version`";
        Self::new(ErrorCode::NotFound, format!("cannot call {call}"), Some(remedy))
    }

    /// Not now.
    pub(super) fn not_root(who: &str) -> Self {
        let what =
            format!("{who} may look at the control plane, and not change it or take its export");
        Self::new(ErrorCode::Forbidden, what, Some("use sudo"))
    }

    /// What was sent is not what it should be.
    pub(super) fn invalid(field: &str, what: &impl ToString) -> Self {
        let mut failure = Self::new(ErrorCode::Invalid, what.to_string(), None);
        failure.0.field = Some(field.to_owned());
        failure
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Store(_) | Error::Contended { .. } => ErrorCode::Unavailable,
            Error::Denied(Denied::Unknown { .. }) => ErrorCode::NotFound,
            Error::Denied(_) | Error::RotationUnderway { .. } => ErrorCode::Conflict,
            Error::Grant(_) => ErrorCode::Invalid,
            _ => ErrorCode::Internal,
        };
        Self::new(code, error.to_string(), None)
    }
}

impl From<NotDone> for Failure {
    fn from(error: NotDone) -> Self {
        let code = match &error {
            NotDone::Refused(
                Refused::NoZone { .. } | Refused::NoHost { .. } | Refused::NoProject { .. },
            ) => ErrorCode::NotFound,
            NotDone::Refused(
                Refused::Limit(_)
                | Refused::Life { .. }
                | Refused::Future { .. }
                | Refused::NotPausable(_)
                | Refused::Invalid(_)
                | Refused::TooLarge { .. }
                | Refused::TooMany { .. },
            ) => ErrorCode::Invalid,
            NotDone::Refused(_) => ErrorCode::Conflict,
            NotDone::Store(_) | NotDone::Stale | NotDone::Contended => ErrorCode::Unavailable,
        };
        Self::new(code, error.to_string(), None)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0.code.status(), Json(*self.0)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_of_the_kind_that_they_are() {
        let project = "shop".parse().unwrap();
        for (refused, status) in [
            (Refused::NoProject { project }, 404),
            (Refused::NoHost { node: "n1".parse().unwrap() }, 404),
            (Refused::TooMany { services: 5000, most: 4096 }, 400),
            (Refused::Nothing { why: String::new() }, 409),
        ] {
            let failure = Failure::from(NotDone::Refused(refused.clone()));
            assert_eq!(failure.into_response().status(), status, "{refused}");
        }
    }
}
