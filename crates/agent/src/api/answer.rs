//! How answers and refusals leave, and how bodies are read.

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use sinew_api::ErrorBody;

use crate::refusal::Refusal;

/// What a handler gives.
pub(super) type Answer<T> = Result<Json<T>, Failure>;

/// An error on its way to the caller: the only place where errors become HTTP.
#[derive(Clone, Debug)]
pub(super) struct Failure(Box<ErrorBody>);

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self(Box::new(refusal.body()))
    }
}

impl From<ErrorBody> for Failure {
    fn from(body: ErrorBody) -> Self {
        Self(Box::new(body))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0.code.status(), Json(*self.0)).into_response()
    }
}

/// A JSON body, whatever its content type says. An empty one is read as `null`.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let unreadable = |what: String| Failure::from(Refusal::Unreadable { what });
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|error: BytesRejection| unreadable(error.body_text()))?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| unreadable(error.to_string()))
    }
}

/// Reads a name from a path.
pub(super) fn named<T>(text: &str) -> Result<T, Failure>
where
    T: std::str::FromStr<Err = sinew_model::NameError>,
{
    text.parse().map_err(|error: sinew_model::NameError| {
        Failure::from(Refusal::Invalid {
            field: "path".to_owned(),
            what: error.to_string(),
            remedy: "name one that is there".to_owned(),
        })
    })
}

/// Has `work`, which may wait for files, done where that holds nobody up.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::Stopping)
}
