//! How callers come in: accepted, bounded in number and patience, spoken to in HTTP/1.1, and let
//! finish when the daemon ends.

use std::{future::Future, time::Duration};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::JoinSet,
};

/// A caller that does not finish its request's head by then is dropped.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections at a time: more than that is a caller gone wild.
const CONNECTIONS: usize = 1024;
/// Time that open calls have to end when the daemon does.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// Hands every caller to `answer` until `stop`, then lets open calls end.
pub async fn open<L: Listener, A>(
    mut listener: L,
    mut stop: watch::Receiver<bool>,
    answer: impl Fn(L::Io, watch::Receiver<bool>) -> A,
) where
    A: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // A failure to accept is logged and tried again by the listener itself.
            (stream, _) = listener.accept(), if connections.len() < CONNECTIONS => {
                connections.spawn(answer(stream, stop.clone()));
            }
            Some(_) = connections.join_next() => {}
            _ = stop.changed() => break,
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    // Streams end with the daemon; dropping the set ends what is left.
    let _ = tokio::time::timeout(LAST_CALLS, ended).await;
}

/// Serves the calls of one connection.
pub async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    service: Router,
    mut stop: watch::Receiver<bool>,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("a caller's connection ended: {error}");
    }
}
