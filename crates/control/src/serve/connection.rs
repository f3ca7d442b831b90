//! Connections: accepted, bounded in number and patience, greeted over TLS, spoken to in HTTP/2, and
//! given up when the other side is silent.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sinew_identity::{Refusal, tls};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    call::{self, Caller},
    heard::{Heard, Listening},
    shared::Shared,
};

/// Who has not shown who it is yet. Beyond them nobody is accepted until one has, or is given up.
const HANDSHAKES: usize = 4096;
/// Who has no certificate: they are few, and soon gone.
const STRANGERS: usize = 256;
const HANDSHAKE: Duration = Duration::from_secs(10);
const STRANGER_STAYS: Duration = Duration::from_secs(30);
/// After the system failed to accept, which it does when descriptors run out.
const PAUSE: Duration = Duration::from_millis(100);
/// Calls of a connection at a time: a session, and a renewal beside it.
const CALLS: u32 = 8;
/// Bytes that wait for a slow peer, besides one message.
const SEND_BYTES: usize = 64 << 10;

/// Accepts until the end begins, then waits until all connections have ended.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    shared: Arc<Shared>,
) {
    let acceptor = TlsAcceptor::from(tls);
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    let mut stopping = shared.stopping.subscribe();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = next(&listener, &handshakes) => match accepted {
                Ok((socket, from, permit)) => {
                    let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
                    let strangers = Arc::clone(&strangers);
                    connections.spawn(async move {
                        let greeted = greet(socket, from, &acceptor).await;
                        drop(permit);
                        if let Some((stream, caller)) = greeted {
                            serve(stream, caller, shared, strangers).await;
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = Shared::stopped(&mut stopping) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

type Accepted = (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>);

async fn next(listener: &TcpListener, handshakes: &Arc<Semaphore>) -> io::Result<Accepted> {
    // It is never closed.
    let permit = Arc::clone(handshakes).acquire_owned().await.ok();
    let (socket, from) = listener.accept().await?;
    Ok((socket, from, permit))
}

async fn greet(
    socket: TcpStream,
    from: SocketAddr,
    acceptor: &TlsAcceptor,
) -> Option<(TlsStream<Listening>, Caller)> {
    // Deltas are small, and to be there soon.
    let _ = socket.set_nodelay(true);
    let heard = Heard::default();
    let socket = Listening { socket, heard: heard.clone() };
    match timeout(HANDSHAKE, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => {
            let peer = tls::peer(stream.get_ref().1.peer_certificates());
            let caller = Caller { peer, address: from.ip().to_canonical(), heard };
            return Some((stream, caller));
        }
        Ok(Err(error)) => match Refusal::of_io(&error) {
            Some(refusal) => tracing::warn!(%from, %refusal, "a peer is refused"),
            None => tracing::debug!(%from, %error, "no handshake"),
        },
        Err(_) => tracing::debug!(%from, "no handshake in time"),
    }
    None
}

async fn serve(
    stream: TlsStream<Listening>,
    caller: Caller,
    shared: Arc<Shared>,
    strangers: Arc<Semaphore>,
) {
    let stranger = caller.peer.is_none();
    let place = if stranger { strangers.try_acquire_owned().ok() } else { None };
    if stranger && place.is_none() {
        tracing::warn!(from = %caller.address, "too many connections without a certificate: one more is dropped");
        return;
    }
    let from = caller.address;
    let mut stopping = shared.stopping.subscribe();
    let silence = shared.settings().session_timeout;
    let calls = service_fn(move |request| {
        let (shared, caller) = (Arc::clone(&shared), caller.clone());
        async move { Ok::<_, Infallible>(call::answer(shared, caller, request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        // Together less than the time after which a silent host is taken for dead.
        .keep_alive_interval(silence * 3 / 10)
        .keep_alive_timeout(silence * 4 / 10)
        .max_concurrent_streams(CALLS)
        .max_send_buf_size(SEND_BYTES)
        .serve_connection(TokioIo::new(stream), calls);
    tokio::pin!(connection);
    let patience = tokio::time::sleep(STRANGER_STAYS);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = Shared::stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = patience, if stranger => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(%from, %error, "a connection has ended");
    }
}
