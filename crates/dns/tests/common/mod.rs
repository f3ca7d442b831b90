//! Resolvers on loopback, clients for them, and name servers that misbehave.
#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use sinew_dns::{Resolver, Servers, Upstream, Zone};
use sinew_model::{PortName, Protocol, ServiceName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::watch,
    task::JoinHandle,
};

/// Longer than any of this takes; only a hang is cut short by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A running resolver.
pub(crate) struct Running {
    pub(crate) v4: SocketAddr,
    pub(crate) v6: SocketAddr,
    pub(crate) zone: watch::Sender<Arc<Zone>>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn zone(domain: &str, services: &[(&str, u8)]) -> Zone {
    let mut zone = Zone::new(domain).unwrap();
    for (name, last) in services {
        let address6 = Ipv6Addr::new(0xfd12, 0, 0, 0, 0, 0, 0, (*last).into());
        let ports = vec![(PortName::new("http").unwrap(), 80, Protocol::Tcp)];
        let name = ServiceName::new(*name).unwrap();
        zone.insert(&name, Ipv4Addr::new(127, 64, 0, *last), address6, ports).unwrap();
    }
    zone
}

pub(crate) fn servers(addresses: Vec<SocketAddr>) -> Servers {
    Servers { addresses, timeout: Duration::from_secs(2), attempts: 2, rotate: false }
}

pub(crate) async fn start(zone: Zone, servers: Servers) -> Running {
    let (sender, receiver) = watch::channel(Arc::new(zone));
    let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    let upstream = Upstream::fixed(servers);
    let resolver =
        Resolver::bind(any, Some(Ipv6Addr::LOCALHOST), upstream, receiver).await.unwrap();
    let v4 = SocketAddr::from(resolver.local_addr());
    let task = tokio::spawn(resolver.serve(std::future::pending()));
    Running { v4, v6: (Ipv6Addr::LOCALHOST, v4.port()).into(), zone: sender, task }
}

/// The network's resolver with one service, `orders`.
pub(crate) async fn sinew(upstreams: Vec<SocketAddr>) -> Running {
    start(zone("sinew.internal", &[("orders", 1)]), servers(upstreams)).await
}

/// A name server of another domain.
pub(crate) async fn corp() -> Running {
    start(zone("corp.example", &[("mail", 9)]), servers(Vec::new())).await
}

pub(crate) fn query(id: u16, name: &str, asked: RecordType) -> Message {
    let mut query = Message::new(id, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), asked));
    query
}

/// The reply to `query`, over UDP.
pub(crate) async fn ask(server: SocketAddr, query: &Message) -> Message {
    let bytes = exchange(server, &query.to_vec().unwrap()).await;
    Message::from_vec(&bytes).unwrap()
}

pub(crate) async fn exchange(server: SocketAddr, query: &[u8]) -> Vec<u8> {
    let socket = client(server).await;
    socket.send(query).await.unwrap();
    receive(&socket).await
}

pub(crate) async fn client(server: SocketAddr) -> UdpSocket {
    let local = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(local).await.unwrap();
    socket.connect(server).await.unwrap();
    socket
}

pub(crate) async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut reply = vec![0; 65_535];
    let length = tokio::time::timeout(PATIENCE, socket.recv(&mut reply)).await.unwrap().unwrap();
    reply.truncate(length);
    reply
}

pub(crate) async fn send_tcp(stream: &mut TcpStream, query: &Message) {
    let bytes = query.to_vec().unwrap();
    let length = u16::try_from(bytes.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes(), bytes.as_slice()].concat()).await.unwrap();
}

pub(crate) async fn receive_tcp(stream: &mut TcpStream) -> Message {
    let read = async {
        let mut reply = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut reply).await.unwrap();
        Message::from_vec(&reply).unwrap()
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap()
}

/// A good reply to `query` with addresses.
pub(crate) fn reply(query: &Message, addresses: u8) -> Message {
    let mut reply = Message::response(query.metadata.id, OpCode::Query);
    reply.add_query(query.queries[0].clone());
    for n in 0..addresses {
        let data = RData::A(A(Ipv4Addr::new(192, 0, 2, n)));
        reply.add_answer(Record::from_rdata(query.queries[0].name().clone(), 60, data));
    }
    reply
}

/// A name server that only takes notes.
pub(crate) struct Silent {
    pub(crate) address: SocketAddr,
    pub(crate) socket: UdpSocket,
}

pub(crate) async fn silent() -> Silent {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    Silent { address: socket.local_addr().unwrap(), socket }
}

impl Silent {
    /// The datagrams that have come so far.
    pub(crate) fn seen(&self) -> usize {
        let mut buffer = [0; 2048];
        std::iter::from_fn(|| self.socket.try_recv(&mut buffer).ok()).count()
    }

    /// The next query, and who asks.
    pub(crate) async fn next(&self) -> (Message, SocketAddr) {
        let mut buffer = [0; 2048];
        let receive = self.socket.recv_from(&mut buffer);
        let (length, from) = tokio::time::timeout(PATIENCE, receive).await.unwrap().unwrap();
        (Message::from_vec(&buffer[..length]).unwrap(), from)
    }
}
