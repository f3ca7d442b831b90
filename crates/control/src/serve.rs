//! A replica of control on the network: agents connect, each has a session, and what they say is
//! written to the store that all replicas share.
//!
//! A replica keeps nothing that another does not have too. When the store is away, sessions stay and
//! the newest that they say waits; when the replica ends, it says goodbye, and agents go on with what
//! they know until they have found another one.

mod authority;
mod call;
mod clock;
mod connection;
mod desk;
mod duty;
mod health;
mod heard;
mod presence;
mod refusal;
mod rivals;
mod sessions;
mod shared;
mod stream;
mod writer;

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use sinew_identity::tls::{self, Clients, Holder, Unsupported};
use sinew_model::ControlName;
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};

use crate::{
    identity::{self, Authority},
    store::{self, Store, lineage},
};

#[cfg(feature = "testing")]
pub(crate) use clock::for_tls;
pub use desk::{Done, NotDone};
pub use sessions::Seen;
use shared::Shared;

/// The port that agents connect to unless told otherwise.
pub const PORT: u16 = 7443;

/// How long sessions may take to say goodbye and be written off.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How long connections may take after that.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// How a replica serves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name: what its certificate says.
    pub name: ControlName,
    /// Where agents connect.
    pub listen: SocketAddr,
    /// Where hosts are told to connect, host and port; without it the address that is listened at,
    /// or where that is any, this host's own.
    pub advertise: Option<String>,
    /// How much of snapshots is given out, in bytes a second.
    pub snapshot_bytes_per_s: u32,
    /// How long its lease lasts: who has its sessions is known to be gone after that.
    pub lease: Duration,
    /// For how long what the store has had before can be watched: who has not heard of it by then is
    /// told everything anew. Without an end the store would fill up.
    pub past: Duration,
}

impl Options {
    /// The usual bounds.
    #[must_use]
    pub fn new(name: ControlName, listen: SocketAddr) -> Self {
        Self {
            name,
            listen,
            advertise: None,
            snapshot_bytes_per_s: 64 << 20,
            lease: Duration::from_secs(5),
            past: Duration::from_secs(300),
        }
    }
}

/// Where hosts reach what listens there: on any address, that by which this host reaches others.
fn advertised(listen: SocketAddr) -> String {
    let port = listen.port();
    if !listen.ip().is_unspecified() {
        return listen.to_string();
    }
    // Nothing is sent: the kernel only looks for a route.
    let own = |any: &str, far: &str| {
        let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
        socket.connect((far, 9)).ok()?;
        let address = socket.local_addr().ok()?.ip();
        (!address.is_unspecified() && !address.is_loopback()).then_some(address)
    };
    let address: Option<IpAddr> = own("0.0.0.0", "192.0.2.1").or_else(|| own("::", "2001:db8::1"));
    match address {
        Some(address) => SocketAddr::new(address, port).to_string(),
        None => {
            let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
            format!("{name}:{port}")
        }
    }
}

/// Why a replica does not serve, or serves no more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody could connect.
    #[error("cannot listen for agents at {address} (--listen): {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The authority gives no certificate.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The store does not work, or is another one than it was.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// This build lacks something.
    #[error(transparent)]
    Tls(#[from] Unsupported),
}

/// A replica that listens.
pub struct Control {
    shared: Arc<Shared>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    jobs: writer::Jobs,
    gone: mpsc::Receiver<()>,
}

/// Looks into a replica, and has it do things.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Control {
    /// Binds the address, and gets a certificate to serve with.
    ///
    /// # Errors
    /// When the address is taken, the store is away, or the authority cannot sign.
    pub async fn bind(
        store: Arc<dyn Store>,
        authority: Arc<Authority>,
        options: Options,
    ) -> Result<Self, Error> {
        let address = options.listen;
        let listener =
            TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        lineage::open(&*store).await?;
        let credentials = authority.credentials(&options.name, clock::moment()).await?;
        let holder = Holder::new(credentials);
        let tls = tls::server(&holder, Clients::MayJoin, clock::for_tls())?;
        let (writer, jobs) = writer::channel();
        let at = listener.local_addr().unwrap_or(address);
        let advertise = options.advertise.clone().unwrap_or_else(|| advertised(at));
        let (shared, gone) = Shared::new(store, authority, holder, writer, options, advertise);
        Ok(Self { shared: Arc::new(shared), listener, tls: Arc::new(tls), jobs, gone })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As the system does.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// To look into it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// Serves until `stop`, then says goodbye to all agents.
    ///
    /// # Errors
    /// When the store fails in a way that no retry helps, or is another one than before: what this
    /// replica knows is of no use then, and it is to be started again.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let Self { shared, listener, tls, jobs, mut gone } = self;
        let store = Arc::clone(&shared.store);
        let mut tasks = JoinSet::new();
        let writer =
            tokio::spawn(writer::run(Arc::clone(&store), Arc::clone(&shared.health), jobs));
        tasks.spawn(authority::keep(Arc::clone(&shared)));
        tasks.spawn(presence::keep(Arc::clone(&shared)));
        tasks.spawn(duty::keep(Arc::clone(&shared)));
        let connections = tokio::spawn(connection::accept(listener, tls, Arc::clone(&shared)));
        let following = shared.follow();
        let ended = tokio::select! {
            () = stop => Ok(()),
            error = following => Err(error.into()),
        };
        if let Err(error) = &ended {
            tracing::error!(%error, "this replica of control cannot go on");
        }
        shared.stop();
        // Each session holds a sender until it is written off.
        shared.release();
        let _ = tokio::time::timeout(LAST_WORDS, gone.recv()).await;
        tasks.shutdown().await;
        // The last messages may be on their way.
        let last = connections.abort_handle();
        let _ = tokio::time::timeout(LAST_BYTES, connections).await;
        last.abort();
        duty::release(&shared).await;
        presence::end(&shared).await;
        writer.abort();
        ended
    }
}

impl Handle {
    /// Where hosts reach the replicas that run, this one first.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let own = &self.shared.advertise;
        let registry = self.shared.registry();
        let others = registry.config().replicas().values().map(|it| &it.advertise);
        std::iter::once(own).chain(others.filter(|it| *it != own)).cloned().collect()
    }

    /// Why the store does not take what it is told; `None`: it does.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.health.words()
    }

    /// Up to which revision of the store it knows everything.
    #[must_use]
    pub fn revision(&self) -> store::Revision {
        self.shared.registry().revision()
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.shared.store)
    }
}
