//! Asking the host's name servers, with a client's own bytes.
//!
//! Servers are asked one after another, but within the time that a client gives one of them: after
//! its share of the time-out the next is asked too, and the first good answer wins. Clients would
//! otherwise give up on a dead first server just as we do, and ask us again, for ever. A server
//! that was silent goes to the end of the line for a while.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use hickory_proto::op::ResponseCode;
use rustix::{
    buffer::spare_capacity,
    net::{RecvFlags, recv},
    rand::{GetRandomFlags, getrandom},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpStream, UdpSocket},
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::debug;

use crate::{Transport, host::HostConfig, wire};

/// How long a silent server is asked last.
const SILENCE: Duration = Duration::from_secs(10);

/// Name servers and how to ask them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// First choice first.
    pub addresses: Vec<SocketAddr>,
    /// How long a server has to answer.
    pub timeout: Duration,
    /// Rounds over the servers.
    pub attempts: u32,
    /// Whether the servers take turns at being the first.
    pub rotate: bool,
}

impl From<&HostConfig> for Servers {
    fn from(host: &HostConfig) -> Self {
        Self {
            addresses: host.name_servers.iter().map(|&ip| SocketAddr::new(ip, 53)).collect(),
            timeout: host.timeout,
            attempts: host.attempts,
            rotate: host.rotate,
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No server is named, or none is where it should be: known at once.
    NoServer,
    /// A server was silent, or made no sense.
    NoAnswer,
}

/// The name servers that everything foreign is forwarded to.
#[derive(Debug)]
pub struct Upstream {
    source: Source,
    turn: AtomicUsize,
    silent: Mutex<HashMap<SocketAddr, Instant>>,
}

#[derive(Debug)]
enum Source {
    Fixed(Servers),
    Host(watch::Receiver<Arc<HostConfig>>),
}

impl Upstream {
    /// Always the same servers.
    #[must_use]
    pub fn fixed(servers: Servers) -> Self {
        Self::new(Source::Fixed(servers))
    }

    /// The host's servers, as [`follow_host`](crate::follow_host) sees them change.
    #[must_use]
    pub fn host(config: watch::Receiver<Arc<HostConfig>>) -> Self {
        Self::new(Source::Host(config))
    }

    fn new(source: Source) -> Self {
        Self { source, turn: AtomicUsize::new(0), silent: Mutex::default() }
    }

    fn servers(&self) -> Servers {
        match &self.source {
            Source::Fixed(servers) => servers.clone(),
            Source::Host(config) => Servers::from(&**config.borrow()),
        }
    }

    /// The reply of a server to `query`, with the query's id. Servers in `own` are passed over:
    /// asking ourselves would never end.
    pub(crate) async fn ask(
        &self,
        query: &[u8],
        transport: Transport,
        own: &[SocketAddr],
    ) -> Result<Vec<u8>, Failure> {
        let servers = self.servers();
        let order = self.order(&servers, own);
        let count = u32::try_from(order.len()).unwrap_or(u32::MAX).max(1);
        let patience = servers.timeout / count;
        let mut turns = order.iter().cycle().take(order.len() * servers.attempts as usize);
        let mut running = FuturesUnordered::new();
        let mut refusal = None;
        let mut failure = Failure::NoServer;
        let mut more = true;
        loop {
            let latest = turns.next().copied();
            match latest {
                Some(server) => running.push(exchange(server, query, transport, servers.timeout)),
                None => more = false,
            }
            tokio::select! {
                Some((server, outcome)) = running.next() => match outcome {
                    Ok(reply) => {
                        self.heard(server);
                        if !another_may_know(&reply) {
                            return Ok(finish(query, reply));
                        }
                        refusal.get_or_insert(reply);
                    }
                    Err(error) => {
                        debug!(%server, %error, "name server failed");
                        self.unheard(server);
                        if !nobody_there(&error) {
                            failure = Failure::NoAnswer;
                        }
                    }
                },
                () = sleep(patience), if more => latest.into_iter().for_each(|s| self.unheard(s)),
                else => return refusal.map(|r| finish(query, r)).ok_or(failure),
            }
        }
    }

    /// The servers in the order to ask them: those that were silent lately go last.
    fn order(&self, servers: &Servers, own: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut order: Vec<_> =
            servers.addresses.iter().copied().filter(|s| !own.contains(s)).collect();
        if servers.rotate && !order.is_empty() {
            let first = self.turn.fetch_add(1, Ordering::Relaxed) % order.len();
            order.rotate_left(first);
        }
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.retain(|_, since| since.elapsed() < SILENCE);
        order.sort_by_key(|server| silent.contains_key(server));
        order
    }

    fn heard(&self, server: SocketAddr) {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).remove(&server);
    }

    fn unheard(&self, server: SocketAddr) {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).insert(server, Instant::now());
    }
}

/// Whether a reply speaks of the server's own trouble, not of the name.
fn another_may_know(reply: &[u8]) -> bool {
    use ResponseCode::{NotImp, Refused, ServFail};
    matches!(wire::response_code(reply), ServFail | NotImp | Refused)
}

/// Whether an error says that there is no server at the address.
fn nobody_there(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
}

fn finish(query: &[u8], mut reply: Vec<u8>) -> Vec<u8> {
    wire::set_id(&mut reply, wire::id(query).unwrap_or_default());
    reply
}

/// Asks one server once, under an id and from a port that nobody can guess.
async fn exchange(
    server: SocketAddr,
    query: &[u8],
    transport: Transport,
    limit: Duration,
) -> (SocketAddr, io::Result<Vec<u8>>) {
    let attempt = async {
        let mut query = query.to_vec();
        wire::set_id(&mut query, random()?);
        match transport {
            Transport::Udp => by_udp(server, &query).await,
            Transport::Tcp => by_tcp(server, &query).await,
        }
    };
    (server, timeout(limit, attempt).await.unwrap_or_else(|late| Err(late.into())))
}

fn random() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u16::from_ne_bytes(bytes))
}

async fn by_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // The kernel passes only this server's datagrams on a connected socket.
    socket.connect(server).await?;
    socket.send(query).await?;
    loop {
        let reply = receive(&socket).await?;
        if wire::is_reply(query, &reply) {
            return Ok(reply);
        }
        debug!(%server, "passed over a datagram that answers something else");
    }
}

/// The next datagram, or the error that the kernel heard of: "nobody listens there" arrives without
/// making the socket readable. No memory is set aside while a query waits.
async fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let take = || {
        let mut datagram = Vec::with_capacity(usize::from(u16::MAX));
        recv(socket, spare_capacity(&mut datagram), RecvFlags::empty())?;
        Ok(datagram)
    };
    socket.async_io(Interest::READABLE | Interest::ERROR, take).await
}

async fn by_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&wire::framed(query)?).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await?;
    if wire::is_reply(query, &reply) {
        Ok(reply)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the reply answers something else"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Vec<SocketAddr> {
        (1..=3).map(|n| SocketAddr::from(([10, 0, 0, n], 53))).collect()
    }

    fn upstream(rotate: bool) -> (Upstream, Servers) {
        let servers = Servers {
            addresses: addresses(),
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate,
        };
        (Upstream::fixed(servers.clone()), servers)
    }

    #[test]
    fn silent_servers_go_last_until_heard() {
        let (upstream, servers) = upstream(false);
        let [a, b, c] = addresses()[..] else { panic!() };
        assert_eq!(upstream.order(&servers, &[]), [a, b, c]);
        upstream.unheard(a);
        assert_eq!(upstream.order(&servers, &[]), [b, c, a]);
        upstream.heard(a);
        assert_eq!(upstream.order(&servers, &[]), [a, b, c]);
        assert_eq!(upstream.order(&servers, &[b]), [a, c], "not ourselves");
    }

    #[test]
    fn rotation_takes_turns() {
        let (upstream, servers) = upstream(true);
        let firsts: Vec<_> = (0..4).map(|_| upstream.order(&servers, &[])[0]).collect();
        let all = addresses();
        assert_eq!(firsts, [all[0], all[1], all[2], all[0]]);
    }

    #[test]
    fn the_host_changes_its_servers() {
        let config = |text| Arc::new(crate::host_name_servers(text));
        let (sender, receiver) = watch::channel(config("nameserver 10.0.0.1"));
        let upstream = Upstream::host(receiver);
        assert_eq!(upstream.servers().addresses, addresses()[..1]);
        sender.send_replace(config("nameserver 10.0.0.2\noptions timeout:7 attempts:3 rotate"));
        let servers = upstream.servers();
        assert_eq!(servers.addresses, addresses()[1..2]);
        assert_eq!(servers.timeout, Duration::from_secs(7));
        assert_eq!((servers.attempts, servers.rotate), (3, true));
    }
}
