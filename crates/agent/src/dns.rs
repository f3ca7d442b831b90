//! The resolver of this host's members: bound before anything is launched, and shown to the kernel
//! as alive only while it really answers.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddrV4},
    path::Path,
    sync::Arc,
    time::Duration,
};

use sinew_datapath as datapath;
use sinew_dns::{HostConfig, Resolver, Upstream, Zone, follow_host};
use tokio::{net::UdpSocket, sync::watch, task::JoinSet, time::timeout};

use crate::{alloc, environment::DOMAIN, runtime::SharedDatapath};

/// From heartbeat to heartbeat.
const BEAT: Duration = Duration::from_millis(200);
/// A resolver that takes longer over its own zone is not well.
const ANSWER_LIMIT: Duration = Duration::from_millis(150);
/// From look to look at `resolv.conf`.
const FOLLOW: Duration = Duration::from_secs(1);

/// The runtime's side of the resolver.
pub(crate) struct Names {
    zone: watch::Sender<Arc<Zone>>,
    host: watch::Receiver<Arc<HostConfig>>,
    /// `None`: names are left to the host.
    bound: Option<(SocketAddrV4, Ipv6Addr)>,
}

impl Names {
    /// Shows the resolver what there is.
    pub(crate) fn publish(&self, zone: Zone) {
        self.zone.send_replace(Arc::new(zone));
    }

    /// Waits until the host's own name servers change.
    pub(crate) async fn changed(&mut self) {
        if self.host.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The host's own search domains.
    pub(crate) fn search(&self) -> Vec<String> {
        self.host.borrow().search.clone()
    }

    /// As the data path is told.
    pub(crate) fn resolver(&self) -> Option<datapath::Resolver> {
        let (address4, address6) = self.bound?;
        let name_servers: Vec<IpAddr> = self.host.borrow().name_servers.clone();
        Some(datapath::Resolver { address4, address6, name_servers })
    }
}

/// Binds the resolver and has it answer in `tasks`. When it cannot be bound, members still run, and
/// why names do not work is returned.
pub(crate) async fn start(
    resolv_conf: &Path,
    datapath: SharedDatapath,
    tasks: &mut JoinSet<()>,
) -> Result<(Names, Option<String>), sinew_dns::ZoneError> {
    let (zone, zones) = watch::channel(Arc::new(Zone::new(DOMAIN)?));
    let (host, follow) = follow_host(resolv_conf, FOLLOW);
    tasks.spawn(follow);
    let (bound, warning) = match bind(host.clone(), zones).await {
        Ok((resolver, address6)) => {
            let address4 = resolver.local_addr();
            tasks.spawn(resolver.serve(std::future::pending()));
            tasks.spawn(beat(address4, datapath));
            (Some((address4, address6)), None)
        }
        Err(error) => (None, Some(format!("services cannot be reached by name: {error}"))),
    };
    Ok((Names { zone, host, bound }, warning))
}

/// On the agent's address, and on `::1` where there is IPv6.
async fn bind(
    host: watch::Receiver<Arc<HostConfig>>,
    zones: watch::Receiver<Arc<Zone>>,
) -> Result<(Resolver, Ipv6Addr), sinew_dns::Error> {
    let v4 = SocketAddrV4::new(alloc::RESOLVER4, 0);
    let v6 = Ipv6Addr::LOCALHOST;
    let both = Resolver::bind(v4, Some(v6), Upstream::host(host.clone()), zones.clone()).await;
    match both {
        Ok(resolver) => Ok((resolver, v6)),
        Err(_) => {
            let resolver = Resolver::bind(v4, None, Upstream::host(host), zones).await?;
            Ok((resolver, Ipv6Addr::UNSPECIFIED))
        }
    }
}

/// Beats as long as the resolver answers. It asks over the very socket that members ask.
async fn beat(resolver: SocketAddrV4, datapath: SharedDatapath) {
    let mut ticks = tokio::time::interval(BEAT);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut id = 0u16;
    loop {
        ticks.tick().await;
        id = id.wrapping_add(1);
        if !matches!(timeout(ANSWER_LIMIT, ask(resolver, id)).await, Ok(Ok(()))) {
            tracing::debug!("the resolver does not answer");
            continue;
        }
        let datapath = datapath.clone();
        // Behind a long change of the maps the lock may have to be waited for.
        let beaten = tokio::task::spawn_blocking(move || datapath.lock().beat()).await;
        if let Ok(Err(error)) = beaten {
            tracing::debug!("the kernel does not take the heartbeat: {error}");
        }
    }
}

async fn ask(resolver: SocketAddrV4, id: u16) -> std::io::Result<()> {
    let socket = UdpSocket::bind((alloc::RESOLVER4, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(&query(id)).await?;
    let mut answer = [0; 512];
    loop {
        let length = socket.recv(&mut answer).await?;
        if length >= 12 && answer[..2] == id.to_be_bytes() {
            return Ok(());
        }
    }
}

/// A query for the SOA record of the domain.
fn query(id: u16) -> Vec<u8> {
    let mut query = Vec::from(id.to_be_bytes());
    query.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in DOMAIN.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 6, 0, 1]);
    query
}
