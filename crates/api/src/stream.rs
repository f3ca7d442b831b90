//! Answers without an end: log lines and events. Dropping one closes its connection.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use serde::de::DeserializeOwned;

use crate::{
    ClientError, Event, FlowItem, LogLine,
    decode::{Framing, Lines},
};

/// Log lines; ends when the agent has no more of them.
pub type LogLines = Items<LogLine>;
/// Connections; ends with the agent, or when all that is kept was told.
pub type Flows = Items<FlowItem>;
/// Events; ends when the agent ends: the caller connects again and lists what it may have missed.
pub type Events = Items<Event>;

/// Items of a body, as they arrive. Taking the next one is cancel-safe.
pub struct Items<T> {
    call: String,
    body: Incoming,
    lines: Lines,
    framing: Framing,
    item: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Items<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").field("call", &self.call).finish_non_exhaustive()
    }
}

impl<T> Items<T> {
    pub(crate) fn new(call: String, body: Incoming, framing: Framing) -> Self {
        Self { call, body, lines: Lines::default(), framing, item: PhantomData }
    }
}

impl<T: DeserializeOwned> Stream for Items<T> {
    type Item = Result<T, ClientError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(item) = this.framing.next_item(&mut this.lines) {
                let item = serde_json::from_slice(&item);
                return Poll::Ready(Some(item.map_err(|e| ClientError::from_json(&this.call, e))));
            }
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(e)) => {
                    return Poll::Ready(Some(Err(ClientError::from_hyper(&this.call, e))));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        this.lines.push(&data);
                    }
                }
            }
        }
    }
}

/// The whole of an answer that has an end.
pub(crate) async fn collect(call: &str, body: Incoming) -> Result<Bytes, ClientError> {
    let collected = body.collect().await.map_err(|e| ClientError::from_hyper(call, e))?;
    Ok(collected.to_bytes())
}
