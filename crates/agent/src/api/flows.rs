//! `GET /v1/flows`: connections, those kept or as they come.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{RawQuery, State},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt as _;
use sinew_api::{FlowItem, FlowQuery};
use tokio::time::timeout;

use super::answer::Failure;
use crate::{flows::asked, runtime::Handle};

/// A sign of life, so that both sides notice when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// An empty line.
const NOTHING: Bytes = Bytes::from_static(b"\n");

pub(super) async fn flows(
    State(handle): State<Handle>,
    RawQuery(query): RawQuery,
) -> Result<Response, Failure> {
    let query = FlowQuery::parse(query.as_deref().unwrap_or_default())?;
    let numbers = handle.call(|runtime| runtime.core.intent().numbers.clone()).await?;
    let services = numbers.keys().map(sinew_model::ServiceName::as_str);
    asked::check(&query, services, handle.flows.kept().iter().map(|item| &**item))?;
    let body = if query.follow { follow(&handle, query).await } else { kept(&handle, &query) };
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

fn kept(handle: &Handle, query: &FlowQuery) -> Body {
    let items = handle.flows.kept();
    let lines = items.iter().filter(|item| takes(query, item)).map(|item| encode(item));
    Body::from(lines.flatten().collect::<Vec<u8>>())
}

async fn follow(handle: &Handle, query: FlowQuery) -> Body {
    let begin = (handle.flows.watch().await, handle.ending(), Arc::new(query));
    // The head leaves at once, so that the caller knows from when on it hears.
    let head = futures_util::stream::iter([Ok::<_, Infallible>(NOTHING)]);
    let lines = futures_util::stream::unfold(begin, |(mut watch, mut ending, query)| async move {
        let wanted = async {
            loop {
                let item = watch.next().await?;
                if takes(&query, &item) {
                    return Some(item);
                }
            }
        };
        let line = tokio::select! {
            biased;
            told = timeout(KEEP_ALIVE, wanted) => match told {
                Err(_) => NOTHING,
                Ok(item) => encode(&*item?),
            },
            _ = ending.wait_for(|ending| *ending) => return None,
        };
        Some((Ok(line), (watch, ending, query)))
    });
    Body::from_stream(head.chain(lines))
}

fn takes(query: &FlowQuery, item: &FlowItem) -> bool {
    match item {
        FlowItem::Flow(flow) => query.takes(flow),
        FlowItem::Lost { .. } => true,
    }
}

fn encode(item: &FlowItem) -> Bytes {
    let mut json = serde_json::to_vec(item).unwrap_or_default();
    json.push(b'\n');
    json.into()
}
