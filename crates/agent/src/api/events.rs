//! `GET /v1/events`: every change, as it happens.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt as _;
use sinew_api::{Event, EventKind};
use tokio::{sync::broadcast, time::timeout};

use crate::{bus::now_ms, runtime::Handle};

/// A sign of life, so that both sides notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A comment.
const NOTHING: Bytes = Bytes::from_static(b":\n\n");

pub(super) async fn stream(State(handle): State<Handle>) -> Response {
    let (events, ending) = (handle.bus.subscribe(), handle.ending());
    // The head leaves at once, so that the caller knows from when on it hears.
    let begin = futures_util::stream::iter([Ok::<_, Infallible>(NOTHING)]);
    let changes =
        futures_util::stream::unfold((events, ending), |(mut events, mut ending)| async {
            // What was told before the end is still sent.
            let told = tokio::select! {
                biased;
                told = timeout(KEEP_ALIVE, events.recv()) => told,
                _ = ending.wait_for(|ending| *ending) => return None,
            };
            let bytes = match told {
                Err(_) => NOTHING,
                Ok(Ok(event)) => encode(&event),
                Ok(Err(broadcast::error::RecvError::Lagged(lost))) => encode(&lagged(lost)),
                Ok(Err(broadcast::error::RecvError::Closed)) => return None,
            };
            Some((Ok(bytes), (events, ending)))
        });
    let body = begin.chain(changes);
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(body)).into_response()
}

fn encode(event: &Event) -> Bytes {
    match serde_json::to_string(event) {
        Ok(json) => Bytes::from(format!("id: {}\ndata: {json}\n\n", event.sequence)),
        Err(error) => {
            tracing::error!("an event cannot be written: {error}");
            NOTHING
        }
    }
}

fn lagged(lost: u64) -> Arc<Event> {
    let message = format!("{lost} events were lost because they were not read in time");
    Arc::new(Event {
        at_ms: now_ms(),
        sequence: 0,
        project: None,
        kind: EventKind::Warning { message },
    })
}
