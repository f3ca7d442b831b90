//! Queries on connections (RFC 7766): many at once on each, answered as they are done.

use std::{io, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::debug;

use super::{Shared, Step};
use crate::{Decision, Transport, wire};

/// Connections at once, of each address; more wait in the listener's queue.
const CONNECTIONS: usize = 128;
/// Queries at once on a connection; more wait in its socket.
const PIPELINE: usize = 32;
/// A connection without a query or an answer for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// A client that takes no answer for so long has gone.
const WRITE: Duration = Duration::from_secs(5);
/// Rest after an error of the listener, such as too many open files.
const REST: Duration = Duration::from_millis(50);

pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, client)) => {
                    let shared = shared.clone();
                    connections.spawn(async move {
                        if let Err(error) = converse(&shared, stream).await {
                            debug!(%client, %error, "connection ended");
                        }
                    });
                }
                Err(error) => {
                    debug!(%error, "cannot accept");
                    sleep(REST).await;
                }
            },
        }
    }
}

async fn converse(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    let mut received = Vec::new();
    let mut running = FuturesUnordered::new();
    let mut open = true;
    let mut deadline = Instant::now() + IDLE;
    loop {
        while running.len() < PIPELINE {
            let Some(query) = wire::unframe(&mut received) else { break };
            deadline = Instant::now() + IDLE;
            running.push(resolve(shared, query));
        }
        if !open && running.is_empty() {
            return Ok(());
        }
        tokio::select! {
            Some(reply) = running.next() => {
                if let Some(reply) = reply {
                    timeout(WRITE, stream.write_all(&wire::framed(&reply)?)).await??;
                }
                deadline = Instant::now() + IDLE;
            }
            read = stream.read_buf(&mut received), if open && running.len() < PIPELINE => {
                open = read? > 0;
            }
            () = sleep_until(deadline), if running.is_empty() => return Ok(()),
        }
    }
}

async fn resolve(shared: &Shared, query: Vec<u8>) -> Option<Vec<u8>> {
    match shared.decide(&query, Transport::Tcp) {
        Step::Decided(Decision::Reply(reply)) => Some(reply),
        Step::Decided(Decision::Drop) => None,
        Step::Held => shared.held(&query, Transport::Tcp).await,
        Step::Decided(Decision::Forward) => shared.forward(&query, Transport::Tcp).await,
    }
}
