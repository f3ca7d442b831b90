//! An agent's end of the wire, for tests and benches: it joins, greets, says what it is told to and
//! hears what there is, and does nothing by itself.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use sinew_identity::{
    CertificateDer, Key, Moment, Role, Token,
    tls::{self, Credentials, Holder},
};
use sinew_model::{
    NodeName, ZoneName,
    fleet::{Generation, Network, Resources},
};
use sinew_proto::{
    Certificate, FrameCodec, FromAgent, FromControl, Hello, Join, PROTOCOL, Path, Renew, Welcome,
    bounds,
};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    client::{Grpc, GrpcService},
};

use crate::serve::for_tls;

const WINDOW_BYTES: u32 = 65_535;

/// Why the wire failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection, or no handshake; control may have refused the certificate.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came over the connection is not HTTP/2.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// Control refused, in gRPC's words.
    #[error("{0}")]
    Refused(#[from] Status),
    /// It said what the protocol does not know.
    #[error("{0}")]
    Message(String),
    /// It closed the stream.
    #[error("the stream is over")]
    Over,
}

impl Error {
    fn message(error: impl std::fmt::Display) -> Self {
        Self::Message(error.to_string())
    }

    /// What control said why it refused; empty, when it is no refusal.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Refused(status) => status.message(),
            _ => "",
        }
    }
}

/// A host that is a member.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub node: NodeName,
    /// What it shows.
    pub holder: Holder,
}

/// Joins a network.
///
/// # Errors
/// When control does not let it.
pub async fn join(at: SocketAddr, token: &str, node: &NodeName) -> Result<Member, Error> {
    join_with(at, token, node, &Key::generate().map_err(Error::message)?).await
}

/// The same with a key that is there.
///
/// # Errors
/// When control does not let it.
pub async fn join_with(
    at: SocketAddr,
    token: &str,
    node: &NodeName,
    key: &Key,
) -> Result<Member, Error> {
    let root = token.parse::<Token>().map_err(Error::message)?.root;
    let config = tls::first_contact(root, for_tls()).map_err(Error::message)?;
    let certificate_request = key.request().map_err(Error::message)?.to_vec().into();
    let join = Join { token: token.to_owned(), node: node.clone(), certificate_request };
    let answer = Wire::connect(at, config).await?.call(Path::Join, join.encode()).await?;
    let credentials = credentials(key, answer, node)?;
    Ok(Member { node: node.clone(), holder: Holder::new(credentials) })
}

fn credentials(key: &Key, answer: Bytes, node: &NodeName) -> Result<Credentials, Error> {
    let answer = Certificate::decode(answer).map_err(Error::message)?;
    let list = |list: Vec<Bytes>| -> Vec<CertificateDer<'static>> {
        list.into_iter().map(|one| CertificateDer::from(one.to_vec())).collect()
    };
    let (chain, roots) = (list(answer.chain), list(answer.authorities));
    let role = Role::Node(node.clone());
    Credentials::accept(key, chain, roots, &role, Moment::now()).map_err(Error::message)
}

impl Member {
    /// Connects to a replica.
    ///
    /// # Errors
    /// When there is none, or it does not know the host.
    pub async fn connect(&self, at: SocketAddr) -> Result<Wire, Error> {
        let config = tls::client(&self.holder, for_tls()).map_err(Error::message)?;
        Wire::connect(at, config).await
    }

    /// Gets the next certificate, and uses it from then on.
    ///
    /// # Errors
    /// When control gives none.
    pub async fn renew(&self, at: SocketAddr) -> Result<(), Error> {
        let key = Key::generate().map_err(Error::message)?;
        let certificate_request = key.request().map_err(Error::message)?.to_vec().into();
        let renew = Renew { certificate_request }.encode();
        let answer = self.connect(at).await?.call(Path::Renew, renew).await?;
        self.holder.replace(credentials(&key, answer, &self.node)?);
        Ok(())
    }

    /// What it says first.
    #[must_use]
    pub fn hello(&self, zone: ZoneName) -> Hello {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Hello {
            node: self.node.clone(),
            zone,
            labels: [].into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            boot_id: "b".to_owned(),
            wall_clock: since.unwrap_or_default(),
            known: [].into(),
            address4: None,
            address6: None,
            capacity: Resources::default(),
            lineage: None,
            newest: Generation(0),
        }
    }

    /// Opens a session with that greeting.
    ///
    /// # Errors
    /// When control does not.
    pub async fn open(&self, at: SocketAddr, hello: Hello) -> Result<(Talk, Welcome), Error> {
        let mut talk = self.connect(at).await?.talk().await?;
        talk.say(FromAgent::Hello(hello)).await?;
        match talk.hear().await? {
            FromControl::Welcome(welcome) => {
                talk.slice = welcome.instances4;
                Ok((talk, welcome))
            }
            FromControl::Goodbye { reason, .. } => Err(Status::aborted(reason).into()),
            other => Err(Error::message(format!("{other:?} and no welcome"))),
        }
    }
}

/// Nobody looks at it: control is known by its certificate.
fn origin() -> http::Uri {
    http::Uri::from_static("https://control")
}

/// A connection.
#[derive(Clone)]
pub struct Wire(SendRequest<tonic::body::Body>);

impl Wire {
    /// Connects with that configuration of TLS.
    ///
    /// # Errors
    /// When there is nobody, or one side refuses the other.
    pub async fn connect(at: SocketAddr, config: ClientConfig) -> Result<Self, Error> {
        let socket = TcpStream::connect(at).await?;
        socket.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(tls::server_name(), socket).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(2))
            // What is not read is to be the other side's to keep.
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// Calls a method of one message and one answer.
    ///
    /// # Errors
    /// When control refuses.
    pub async fn call(&mut self, path: Path, message: Bytes) -> Result<Bytes, Error> {
        let path = http::uri::PathAndQuery::from_static(path.as_str());
        let mut grpc = Grpc::with_origin(self.clone(), origin());
        grpc.ready().await?;
        Ok(grpc.unary(Request::new(message), path, FrameCodec).await?.into_inner())
    }

    /// Opens a stream of a session, without a greeting.
    ///
    /// # Errors
    /// When control refuses.
    pub async fn talk(self) -> Result<Talk, Error> {
        let path = http::uri::PathAndQuery::from_static(Path::Session.as_str());
        let (say, said) = mpsc::channel(16);
        let mut grpc =
            Grpc::with_origin(self, origin()).max_decoding_message_size(bounds::MAX_MESSAGE_BYTES);
        grpc.ready().await?;
        let request = Request::new(ReceiverStream::new(said));
        let hear = grpc.streaming(request, path, FrameCodec).await?.into_inner();
        Ok(Talk { say, hear, slice: None })
    }
}

impl GrpcService<tonic::body::Body> for Wire {
    type ResponseBody = hyper::body::Incoming;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<http::Response<Self::ResponseBody>, hyper::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// A session's stream.
pub struct Talk {
    say: mpsc::Sender<Bytes>,
    hear: Streaming<Bytes>,
    slice: Option<Network>,
}

impl Talk {
    /// Where an instance of the host may be, of IPv4; `None`: the host has no slice.
    #[must_use]
    pub fn address(&self, instance: u32) -> Option<Ipv4Addr> {
        match self.slice?.nth(instance.into())? {
            IpAddr::V4(four) => Some(four),
            IpAddr::V6(_) => None,
        }
    }

    /// Says something.
    ///
    /// # Errors
    /// When the stream is over.
    pub async fn say(&self, message: FromAgent) -> Result<(), Error> {
        self.say_bytes(message.encode()).await
    }

    /// Says what may be no message at all.
    ///
    /// # Errors
    /// When the stream is over.
    pub async fn say_bytes(&self, bytes: Bytes) -> Result<(), Error> {
        self.say.send(bytes).await.map_err(|_| Error::Over)
    }

    /// The next message.
    ///
    /// # Errors
    /// When there is none any more, and why, if control says it.
    pub async fn hear(&mut self) -> Result<FromControl, Error> {
        let bytes = self.hear.message().await?.ok_or(Error::Over)?;
        FromControl::decode(bytes).map_err(Error::message)
    }

    /// The next message that `wanted` makes something of; others are passed over.
    ///
    /// # Errors
    /// When the stream ends before.
    pub async fn hear_until<T>(
        &mut self,
        mut wanted: impl FnMut(FromControl) -> Option<T>,
    ) -> Result<T, Error> {
        loop {
            if let Some(found) = wanted(self.hear().await?) {
                return Ok(found);
            }
        }
    }
}
