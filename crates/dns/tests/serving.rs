//! Answers to real clients over UDP and TCP, on both kinds of address.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{net::SocketAddr, sync::Arc};

use common::{
    PATIENCE, ask, client, query, receive, receive_tcp, send_tcp, servers, silent, sinew, start,
    zone,
};
use hickory_proto::{op::ResponseCode, rr::RecordType};
use sinew_dns::{Resolver, Upstream, Zone};
use sinew_model::ServiceName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    sync::{oneshot, watch},
    time::timeout,
};

async fn dig(server: SocketAddr, arguments: &[&str]) -> Vec<String> {
    let output = Command::new("dig")
        .arg(format!("@{}", server.ip()))
        .args(["-p", &server.port().to_string(), "+norecurse", "+short", "+time=5"])
        .args(arguments)
        .output()
        .await
        .expect("dig, of the package dnsutils");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn dig_finds_services() {
    let resolver = sinew(Vec::new()).await;
    for server in [resolver.v4, resolver.v6] {
        for transport in ["+notcp", "+tcp"] {
            let dig = async |name, asked| dig(server, &[transport, name, asked]).await;
            assert_eq!(dig("orders.sinew.internal", "A").await, ["127.64.0.1"]);
            assert_eq!(dig("orders", "AAAA").await, ["fd12::1"]);
            let srv = dig("_http._tcp.orders.sinew.internal", "SRV").await;
            assert_eq!(srv, ["0 0 80 orders.sinew.internal."]);
            let pointer = dig("1.0.64.127.in-addr.arpa", "PTR").await;
            assert_eq!(pointer, ["orders.sinew.internal."]);
            assert!(dig("nosuch.sinew.internal", "A").await.is_empty());
        }
    }
}

#[tokio::test]
async fn a_changed_zone_is_seen_at_once() {
    let resolver = sinew(Vec::new()).await;
    let asked = query(1, "fresh.sinew.internal.", RecordType::A);
    assert_eq!(ask(resolver.v4, &asked).await.metadata.response_code, ResponseCode::NXDomain);
    resolver.zone.send_replace(Arc::new(zone("sinew.internal", &[("fresh", 2)])));
    assert_eq!(ask(resolver.v4, &asked).await.answers.len(), 1);
}

#[tokio::test]
async fn garbage_is_survived() {
    let resolver = sinew(Vec::new()).await;
    let socket = client(resolver.v4).await;
    // xorshift: the same bytes in each run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..10_000 {
        let length = usize::try_from(random() % 200).unwrap();
        let bytes: Vec<u8> = (0..length).map(|_| random().to_le_bytes()[0]).collect();
        socket.send(&bytes).await.unwrap();
    }
    let mut stream = TcpStream::connect(resolver.v4).await.unwrap();
    let bytes: Vec<u8> = (0..20_000).map(|_| random().to_le_bytes()[0]).collect();
    stream.write_all(&bytes).await.unwrap();
    let reply = ask(resolver.v4, &query(7, "orders.", RecordType::A)).await;
    assert_eq!(reply.answers.len(), 1);
}

#[tokio::test]
async fn pipelined_queries_are_answered_as_they_are_done() {
    let upstream = silent().await;
    let resolver = sinew(vec![upstream.address]).await;
    let mut stream = TcpStream::connect(resolver.v4).await.unwrap();
    let listener = tokio::net::TcpListener::bind(upstream.address).await.unwrap();
    send_tcp(&mut stream, &query(1, "slow.example.", RecordType::A)).await;
    let (mut asked, _) = listener.accept().await.unwrap();
    let slow = receive_tcp(&mut asked).await;
    for id in 2..=60 {
        send_tcp(&mut stream, &query(id, "orders.", RecordType::A)).await;
    }
    for id in 2..=60 {
        let reply = receive_tcp(&mut stream).await;
        assert_eq!((reply.metadata.id, reply.answers.len()), (id, 1));
    }
    send_tcp(&mut asked, &common::reply(&slow, 3)).await;
    let reply = receive_tcp(&mut stream).await;
    assert_eq!((reply.metadata.id, reply.answers.len()), (1, 3));
}

#[tokio::test]
async fn a_client_may_close_its_half_and_still_read() {
    let resolver = sinew(Vec::new()).await;
    let mut stream = TcpStream::connect(resolver.v6).await.unwrap();
    send_tcp(&mut stream, &query(1, "orders.", RecordType::A)).await;
    stream.shutdown().await.unwrap();
    assert_eq!(receive_tcp(&mut stream).await.answers.len(), 1);
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "then it is closed");
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed() {
    let resolver = sinew(Vec::new()).await;
    let mut stream = TcpStream::connect(resolver.v4).await.unwrap();
    stream.write_all(b"\0").await.unwrap();
    let mut byte = [0];
    let closed = timeout(PATIENCE, stream.read(&mut byte)).await.unwrap().unwrap();
    assert_eq!(closed, 0, "half a length is no query");
}

#[tokio::test]
async fn waiting_forwards_are_bounded_and_hold_up_nobody() {
    let upstream = silent().await;
    let resolver = sinew(vec![upstream.address]).await;
    let socket = client(resolver.v4).await;
    let forwarded = query(1, "slow.example.", RecordType::A).to_vec().unwrap();
    let mut seen = 0;
    for _ in 0..40 {
        for _ in 0..50 {
            socket.send(&forwarded).await.unwrap();
        }
        // An answer means that the datagrams before it were taken.
        socket.send(&query(2, "orders.", RecordType::A).to_vec().unwrap()).await.unwrap();
        receive(&socket).await;
        seen += upstream.seen();
    }
    seen += upstream.seen();
    assert!((1..=512).contains(&seen), "{seen} queries were forwarded of 2000");
}

/// A service that cannot be called yet, and everybody wants it.
#[tokio::test]
async fn held_answers_are_bounded_and_hold_up_no_forward() {
    let far: ServiceName = "far".parse().unwrap();
    let mut zone = zone("sinew.internal", &[("orders", 1)]);
    zone.insert(&far, [127, 64, 0, 9].into(), "fd00::9".parse().unwrap(), Vec::new()).unwrap();
    zone.hear(&far, false);
    let (_sender, zones) = watch::channel(Arc::new(zone));
    let upstream = silent().await;
    let servers = Upstream::fixed(servers(vec![upstream.address]));
    let resolver = Resolver::bind("127.0.0.1:0".parse().unwrap(), None, servers, zones);
    let resolver = resolver.await.unwrap().telling(Arc::new(Told::default()));
    let server = resolver.local_addr().into();
    tokio::spawn(resolver.serve(std::future::pending()));
    let mut clients = Vec::new();
    for _ in 0..12 {
        let socket = client(server).await;
        for id in 0..50 {
            socket.send(&query(id, "far.", RecordType::A).to_vec().unwrap()).await.unwrap();
        }
        // An answer means that the datagrams before it were taken.
        assert_eq!(ask(server, &query(1, "orders.", RecordType::A)).await.answers.len(), 1);
        clients.push(socket);
    }
    let outside = query(7, "example.com.", RecordType::A);
    let asking = ask(server, &outside);
    let forwarding = async {
        let (asked, from) = timeout(PATIENCE, upstream.next()).await.expect("it is forwarded");
        let said = common::reply(&asked, 3).to_vec().unwrap();
        upstream.socket.send_to(&said, from).await.unwrap();
    };
    let (reply, ()) = tokio::join!(asking, forwarding);
    assert_eq!(reply.answers.len(), 3);
    for socket in clients {
        for _ in 0..50 {
            receive(&socket).await;
        }
    }
}

#[tokio::test]
async fn shutdown_frees_the_port() {
    let (_sender, zone) = watch::channel(Arc::new(zone("sinew.internal", &[])));
    let bind = |port| {
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        Resolver::bind(address, None, Upstream::fixed(servers(Vec::new())), zone.clone())
    };
    let first = bind(0).await.unwrap();
    let port = first.local_addr().port();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(first.serve(async move {
        let _ = stopped.await;
    }));
    let taken = bind(port).await.unwrap_err().to_string();
    assert!(taken.contains(&format!("127.0.0.1:{port} (udp)")), "{taken}");
    stop.send(()).unwrap();
    task.await.unwrap();
    bind(port).await.unwrap();
}

#[tokio::test]
async fn nobody_forwards_to_himself() {
    // The port is known only after the bind, so a first resolver finds it.
    let first = start(zone("sinew.internal", &[]), servers(Vec::new())).await;
    let address = first.v4;
    drop(first);
    let (_sender, zone) = watch::channel(Arc::new(zone("sinew.internal", &[])));
    let SocketAddr::V4(v4) = address else { panic!() };
    let resolver = loop {
        // The first one's sockets close with its task.
        let upstream = Upstream::fixed(servers(vec![address]));
        match Resolver::bind(v4, None, upstream, zone.clone()).await {
            Ok(resolver) => break resolver,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let task = tokio::spawn(resolver.serve(std::future::pending()));
    let reply = ask(address, &query(1, "example.com.", RecordType::A)).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    task.abort();
}

/// What is told of lookups.
#[derive(Debug, Default)]
struct Told(std::sync::Mutex<Vec<(String, bool)>>);

impl sinew_dns::Lookups for Told {
    fn looked_up(&self, service: &str, ready: bool) {
        self.0.lock().unwrap().push((service.to_owned(), ready));
    }
}

#[tokio::test]
async fn the_answer_for_a_service_that_cannot_be_called_yet_is_held_back_and_then_given() {
    let far: ServiceName = "far".parse().unwrap();
    let zone = |ready: Option<bool>| {
        let mut zone = Zone::new("sinew.internal").unwrap();
        zone.insert(&far, [127, 64, 0, 9].into(), "fd00::9".parse().unwrap(), Vec::new()).unwrap();
        if let Some(ready) = ready {
            zone.hear(&far, ready);
        }
        Arc::new(zone)
    };
    let (sender, zones) = watch::channel(zone(Some(false)));
    let upstream = Upstream::fixed(servers(Vec::new()));
    let resolver = Resolver::bind("127.0.0.1:0".parse().unwrap(), None, upstream, zones);
    let told = Arc::new(Told::default());
    let resolver = resolver.await.unwrap().telling(told.clone());
    let server = resolver.local_addr().into();
    tokio::spawn(resolver.serve(std::future::pending()));
    let query = query(1, "far.", RecordType::A);
    // Nobody gets it ready: the address is given all the same.
    assert_eq!(ask(server, &query).await.answers.len(), 1);
    let asking = ask(server, &query);
    let readying = async {
        while told.0.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        sender.send_replace(zone(Some(true)));
    };
    let (reply, ()) = tokio::join!(asking, readying);
    assert_eq!(reply.answers.len(), 1);
    ask(server, &query).await;
    sender.send_replace(zone(None));
    ask(server, &query).await;
    let seen: Vec<bool> = told.0.lock().unwrap().iter().map(|(_, ready)| *ready).collect();
    assert_eq!(seen, [false, false, true]);
    assert!(told.0.lock().unwrap().iter().all(|(service, _)| service == "far"));
}
