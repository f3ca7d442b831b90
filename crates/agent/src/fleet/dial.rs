//! A connection to control: TCP, TLS with this network's certificates, HTTP/2. It is HTTP/2 itself
//! and not a client on top of it, because the session counts the answers to its pings and is asked
//! for its next message only when the stream takes one.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use rustls::ClientConfig;
use sinew_identity::{Life, Moment, Refusal, RefusedByPeer, tls};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Bytes of one stream that may be under way: as a snapshot of a large service has.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;
/// Bytes that wait to be written before the stream takes no more.
const SEND_BUFFER_BYTES: usize = 256 << 10;

/// Why there is no connection, or why it ended.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answers.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where.
        address: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It takes too long.
    #[error("{address} did not answer within {after:?}")]
    Silent {
        /// Where.
        address: String,
        /// How long that was.
        after: Duration,
    },
    /// This host does not believe who answers.
    #[error("{address}: {refusal}")]
    Refused {
        /// Where.
        address: String,
        /// Why.
        refusal: Refusal,
    },
    /// Who answers does not believe this host.
    #[error("{address}: {refusal}")]
    RefusedByPeer {
        /// Where.
        address: String,
        /// Why.
        refusal: RefusedByPeer,
    },
    /// No TLS as both sides know it.
    #[error("cannot speak TLS with {address}: {source}; is it the control plane of sinew?")]
    Tls {
        /// Where.
        address: String,
        /// What is wrong.
        source: io::Error,
    },
    /// No HTTP/2.
    #[error("cannot speak HTTP/2 with {address}: {source}")]
    Http {
        /// Where.
        address: String,
        /// What is wrong.
        source: h2::Error,
    },
}

/// Where to, and as whom: for one connection.
pub(super) struct Target {
    /// A host and a port.
    pub(super) address: String,
    config: Arc<ClientConfig>,
    /// Of the certificate that is shown; `None`: none is.
    life: Option<Life>,
    alert: Alert,
}

/// Why reading failed: HTTP/2 passes on no more than words.
type Alert = Arc<Mutex<Option<RefusedByPeer>>>;

/// A connection; it goes on while `driver` is polled.
pub(super) struct Dialled {
    /// Where this host connects from.
    pub(super) from: Option<IpAddr>,
    pub(super) requests: SendRequest<Bytes>,
    pub(super) driver: Connection<Watched, Bytes>,
}

impl Target {
    pub(super) fn new(address: String, config: Arc<ClientConfig>, life: Option<Life>) -> Self {
        Self { address, config, life, alert: Alert::default() }
    }

    /// # Errors
    /// When it cannot be made in that time.
    pub(super) async fn dial(&self, within: Duration) -> Result<Dialled, DialError> {
        let address = || self.address.clone();
        let dialled = timeout(within, self.connect()).await;
        dialled.map_err(|_| DialError::Silent { address: address(), after: within })?
    }

    async fn connect(&self) -> Result<Dialled, DialError> {
        let address = || self.address.clone();
        let connected = TcpStream::connect(&self.address).await;
        let socket =
            connected.map_err(|source| DialError::Connect { address: address(), source })?;
        // What is said is said whole, and others wait for it.
        let _ = socket.set_nodelay(true);
        let connector = TlsConnector::from(self.config.clone());
        let from = socket.local_addr().ok().map(|from| from.ip().to_canonical());
        let stream = connector.connect(tls::server_name(), socket).await;
        let stream = stream.map_err(|error| self.tls(error))?;
        let stream = Watched { stream, life: self.life, alert: self.alert.clone() };
        let handshake = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_send_buffer_size(SEND_BUFFER_BYTES)
            .enable_push(false)
            .handshake(stream)
            .await;
        let (requests, driver) = handshake.map_err(|source| self.http(source))?;
        Ok(Dialled { from, requests, driver })
    }

    fn tls(&self, source: io::Error) -> DialError {
        let address = self.address.clone();
        if let Some(refusal) = Refusal::of_io(&source) {
            return DialError::Refused { address, refusal };
        }
        match refused_by_peer(&source, self.life) {
            Some(refusal) => DialError::RefusedByPeer { address, refusal },
            None => DialError::Tls { address, source },
        }
    }

    /// With TLS 1.3 the peer's refusal comes with what is read first.
    pub(super) fn http(&self, source: h2::Error) -> DialError {
        let address = self.address.clone();
        let alert = self.alert.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match alert {
            Some(refusal) => DialError::RefusedByPeer { address, refusal },
            None => DialError::Http { address, source },
        }
    }
}

fn refused_by_peer(error: &io::Error, life: Option<Life>) -> Option<RefusedByPeer> {
    let now = Moment::now();
    // Who shows no certificate is told so, whatever its life.
    RefusedByPeer::of_io(error, life.unwrap_or(Life { not_before: now, not_after: now }), now)
}

/// A stream that keeps why reading failed.
pub(super) struct Watched {
    stream: TlsStream<TcpStream>,
    life: Option<Life>,
    alert: Alert,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        if let Err(error) = &read
            && let Some(refusal) = refused_by_peer(error, self.life)
        {
            *self.alert.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
