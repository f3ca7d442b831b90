//! All that the store holds, as it is at one revision.

use std::io;

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

use crate::{serve::Handle, store::transfer};

const CHUNK_BYTES: usize = 64 << 10;

/// A failure on the way is seen by the end that is missing; the log says why.
pub(super) async fn export(State(handle): State<Handle>) -> Response {
    let (mut writer, reader) = duplex(CHUNK_BYTES);
    tokio::spawn(async move {
        let store = handle.store();
        if let Err(error) = transfer::export(&*store, &mut writer).await {
            tracing::warn!(%error, "an export is not whole");
        }
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (headers, Body::from_stream(stream::unfold(reader, next))).into_response()
}

async fn next(mut reader: DuplexStream) -> Option<(io::Result<Bytes>, DuplexStream)> {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    match reader.read_buf(&mut chunk).await {
        Ok(0) => None,
        Ok(_) => Some((Ok(chunk.into()), reader)),
        Err(error) => Some((Err(error), reader)),
    }
}
