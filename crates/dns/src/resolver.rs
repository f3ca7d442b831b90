//! The sockets: queries in, replies out, everything bounded.

mod tcp;
mod udp;

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{Semaphore, watch},
    time::timeout,
};
use tracing::debug;

use crate::{Decision, Transport, Upstream, Zone, answer, reply};

/// Forwarded queries under way at once; beyond that clients meet silence and ask again later.
const FORWARDS: usize = 512;
/// Queries for services that cannot be called yet that wait at once; beyond that they are answered
/// without a wait. What others ask the host's name servers has its own bound, and goes on.
const HOLDS: usize = 512;
/// How long the answer for a service is held back that cannot be called yet. After that it is given
/// all the same: the address is the right one for ever, and calls of it fail fast until it leads
/// somewhere.
const HOLD: Duration = Duration::from_secs(1);
/// Attempts to find a port that is free for UDP and TCP, on both addresses.
const PORT_ATTEMPTS: usize = 32;

/// A resolver that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on.
    #[error("cannot listen for DNS on {address} ({protocol}): {source}; is another program there?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// `udp` or `tcp`.
        protocol: &'static str,
        /// What the kernel says.
        source: io::Error,
    },
}

/// Hears of lookups of services that [`Zone::hear`] names.
pub trait Lookups: Send + Sync + std::fmt::Debug {
    /// Somebody looked it up. It must not block.
    fn looked_up(&self, service: &str, ready: bool);
}

/// The resolver, bound to its addresses.
#[derive(Debug)]
pub struct Resolver {
    address: SocketAddrV4,
    listeners: Vec<Listener>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Listener {
    address: SocketAddr,
    udp: UdpSocket,
    tcp: TcpListener,
}

#[derive(Debug)]
struct Shared {
    zone: watch::Receiver<Arc<Zone>>,
    upstream: Upstream,
    own: Vec<SocketAddr>,
    forwards: Semaphore,
    holds: Semaphore,
    received: AtomicU64,
    lookups: Option<Arc<dyn Lookups>>,
}

/// What is done about a query.
enum Step {
    Decided(Decision),
    /// The service cannot be called yet.
    Held,
}

/// What a resolver has to do, for whoever wants to end it without a loss.
#[derive(Clone, Debug)]
pub struct Load(Arc<Shared>);

impl Load {
    /// Queries so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.0.received.load(Ordering::Relaxed)
    }

    /// Queries that wait for the host's name servers, or for services that cannot be called yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let forwarded = FORWARDS.saturating_sub(self.0.forwards.available_permits());
        forwarded + HOLDS.saturating_sub(self.0.holds.available_permits())
    }
}

impl Resolver {
    /// Listens on `v4`, and on `v6` with the same port; port 0 takes one that is free everywhere.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub async fn bind(
        v4: SocketAddrV4,
        v6: Option<Ipv6Addr>,
        upstream: Upstream,
        zone: watch::Receiver<Arc<Zone>>,
    ) -> Result<Self, Error> {
        let listeners = bind_all(v4, v6).await?;
        let own: Vec<_> = listeners.iter().map(|l| l.address).collect();
        let port = own.first().map_or(v4.port(), SocketAddr::port);
        Ok(Self {
            address: SocketAddrV4::new(*v4.ip(), port),
            listeners,
            shared: Arc::new(Shared {
                zone,
                upstream,
                own,
                forwards: Semaphore::new(FORWARDS),
                holds: Semaphore::new(HOLDS),
                received: AtomicU64::new(0),
                lookups: None,
            }),
        })
    }

    /// Has lookups told.
    #[must_use]
    pub fn telling(mut self, lookups: Arc<dyn Lookups>) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            shared.lookups = Some(lookups);
        }
        self
    }

    /// The IPv4 address; the IPv6 one has the same port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddrV4 {
        self.address
    }

    /// What it has to do, also while it serves.
    #[must_use]
    pub fn load(&self) -> Load {
        Load(self.shared.clone())
    }

    /// Answers until `shutdown` completes. Queries still under way then are dropped: their clients
    /// ask again.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let serving = self.listeners.into_iter().map(|listener| {
            let shared = self.shared.clone();
            async move {
                tokio::join!(
                    udp::serve(shared.clone(), Arc::new(listener.udp)),
                    tcp::serve(shared, listener.tcp)
                )
            }
        });
        tokio::select! {
            () = shutdown => {}
            _ = join_all(serving) => {}
        }
    }
}

async fn bind_all(v4: SocketAddrV4, v6: Option<Ipv6Addr>) -> Result<Vec<Listener>, Error> {
    let mut attempt = 1;
    loop {
        match bind_once(v4, v6).await {
            Err(Error::Bind { source, .. })
                if v4.port() == 0
                    && attempt < PORT_ATTEMPTS
                    && source.kind() == io::ErrorKind::AddrInUse =>
            {
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

async fn bind_once(v4: SocketAddrV4, v6: Option<Ipv6Addr>) -> Result<Vec<Listener>, Error> {
    let first = bind(v4.into()).await?;
    let port = first.address.port();
    let mut listeners = vec![first];
    if let Some(v6) = v6 {
        listeners.push(bind((v6, port).into()).await?);
    }
    Ok(listeners)
}

async fn bind(mut address: SocketAddr) -> Result<Listener, Error> {
    let wrong = |address, protocol| move |source| Error::Bind { address, protocol, source };
    let udp = UdpSocket::bind(address).await.map_err(wrong(address, "udp"))?;
    address.set_port(udp.local_addr().map_err(wrong(address, "udp"))?.port());
    let tcp = TcpListener::bind(address).await.map_err(wrong(address, "tcp"))?;
    Ok(Listener { address, udp, tcp })
}

impl Shared {
    fn decide(&self, query: &[u8], transport: Transport) -> Step {
        self.received.fetch_add(1, Ordering::Relaxed);
        let zone = self.zone.borrow().clone();
        if let (Some(lookups), Some((service, ready))) = (&self.lookups, zone.heard(query)) {
            lookups.looked_up(service, ready);
            if !ready {
                return Step::Held;
            }
        }
        Step::Decided(answer(&zone, query, transport))
    }

    /// Answers once the service can be called, or has not been for too long.
    async fn held(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        if let Ok(_permit) = self.holds.try_acquire() {
            let mut zone = self.zone.clone();
            let is_ready = |zone: &Arc<Zone>| zone.heard(query).is_none_or(|(_, ready)| ready);
            let _ = timeout(HOLD, zone.wait_for(is_ready)).await;
        }
        let zone = self.zone.borrow().clone();
        match answer(&zone, query, transport) {
            Decision::Reply(reply) => Some(reply),
            Decision::Forward | Decision::Drop => None,
        }
    }

    /// What the host's name servers say; `None`: nothing is to be sent.
    async fn forward(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let Ok(_permit) = self.forwards.try_acquire() else {
            debug!("dropped a query: {FORWARDS} others wait for name servers");
            return None;
        };
        match self.upstream.ask(query, transport, &self.own).await {
            Ok(reply) => Some(reply),
            Err(failure) => reply::failure(query, failure),
        }
    }
}
