//! What is not ours goes to the host's name servers and comes back as it is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use common::{
    ask, client, corp, exchange, query, receive, receive_tcp, reply, send_tcp, servers, silent,
    sinew, start, zone,
};
use hickory_proto::{
    op::{Edns, Message, ResponseCode},
    rr::RecordType,
};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

async fn code(server: SocketAddr, name: &str) -> ResponseCode {
    ask(server, &query(1, name, RecordType::A)).await.metadata.response_code
}

/// An address where nobody listens.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 77, 7, 7)), 9);

#[tokio::test]
async fn bytes_pass_unchanged() {
    let corp = corp().await;
    let resolver = sinew(vec![corp.v4]).await;
    let mut asked = query(0xbeef, "mAiL.corp.EXAMPLE.", RecordType::ANY);
    let mut edns = Edns::new();
    edns.set_max_payload(1400).set_dnssec_ok(true);
    asked.set_edns(edns);
    let bytes = asked.to_vec().unwrap();
    let direct = exchange(corp.v4, &bytes).await;
    assert_eq!(exchange(resolver.v4, &bytes).await, direct);
    assert_eq!(exchange(resolver.v6, &bytes).await, direct);
    assert_eq!(Message::from_vec(&direct).unwrap().answers.len(), 2);
    let mut stream = TcpStream::connect(resolver.v4).await.unwrap();
    send_tcp(&mut stream, &asked).await;
    assert_eq!(receive_tcp(&mut stream).await, Message::from_vec(&direct).unwrap());
}

#[tokio::test]
async fn ids_and_ports_are_fresh_and_known_names_stay() {
    let upstream = silent().await;
    let resolver = sinew(vec![upstream.address]).await;
    let socket = client(resolver.v4).await;
    let mut seen = Vec::new();
    for id in 0..8 {
        let asked = query(id, "nosuch.", RecordType::A);
        socket.send(&query(99, "orders.", RecordType::MX).to_vec().unwrap()).await.unwrap();
        receive(&socket).await;
        socket.send(&asked.to_vec().unwrap()).await.unwrap();
        let (forwarded, from) = upstream.next().await;
        assert_eq!(forwarded.queries, asked.queries, "and nothing about orders");
        seen.push((forwarded.metadata.id, from.port()));
        let answer = reply(&forwarded, 1).to_vec().unwrap();
        upstream.socket.send_to(&answer, from).await.unwrap();
        assert_eq!(Message::from_vec(&receive(&socket).await).unwrap().metadata.id, id);
    }
    assert!(seen.iter().any(|s| s.0 != seen[0].0), "ids repeat: {seen:?}");
    assert!(seen.iter().any(|s| s.1 != seen[0].1), "ports repeat: {seen:?}");
}

#[tokio::test]
async fn forged_replies_are_passed_over() {
    let upstream = silent().await;
    let resolver = sinew(vec![upstream.address]).await;
    let socket = client(resolver.v4).await;
    socket.send(&query(5, "example.com.", RecordType::A).to_vec().unwrap()).await.unwrap();
    let (asked, from) = upstream.next().await;
    let good = reply(&asked, 2).to_vec().unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    other.send_to(&reply(&asked, 7).to_vec().unwrap(), from).await.unwrap();
    let mut wrong_id = reply(&asked, 7);
    wrong_id.metadata.id ^= 1;
    let wrong_name = reply(&query(asked.metadata.id, "example.org.", RecordType::A), 7);
    let wrong_type = reply(&query(asked.metadata.id, "example.com.", RecordType::AAAA), 7);
    for forged in [wrong_id, wrong_name, wrong_type, asked] {
        upstream.socket.send_to(&forged.to_vec().unwrap(), from).await.unwrap();
    }
    upstream.socket.send_to(&good, from).await.unwrap();
    assert_eq!(Message::from_vec(&receive(&socket).await).unwrap().answers.len(), 2);
}

#[tokio::test]
async fn a_dead_first_server_is_asked_once() {
    let (dead, corp) = (silent().await, corp().await);
    let resolver = sinew(vec![dead.address, corp.v4]).await;
    let asked = query(1, "mail.corp.example.", RecordType::A);
    assert_eq!(ask(resolver.v4, &asked).await.answers.len(), 1);
    assert_eq!(dead.seen(), 1);
    for _ in 0..5 {
        assert_eq!(ask(resolver.v4, &asked).await.answers.len(), 1);
    }
    assert_eq!(dead.seen(), 0, "it goes last now");
}

#[tokio::test]
async fn absent_and_troubled_servers_are_passed() {
    let corp = corp().await;
    let troubled = sinew(Vec::new()).await; // SERVFAIL for everything foreign
    for first in [NOBODY, troubled.v4] {
        let resolver = sinew(vec![first, corp.v4]).await;
        assert_eq!(code(resolver.v4, "mail.corp.example.").await, ResponseCode::NoError);
        assert_eq!(code(resolver.v4, "no.corp.example.").await, ResponseCode::NXDomain);
    }
    let resolver = sinew(vec![troubled.v4, NOBODY]).await;
    assert_eq!(code(resolver.v4, "mail.corp.example.").await, ResponseCode::ServFail);
}

#[tokio::test]
async fn without_servers_the_answer_comes_at_once() {
    for upstreams in [Vec::new(), vec![NOBODY]] {
        let resolver = sinew(upstreams).await;
        assert_eq!(code(resolver.v4, "example.com.").await, ResponseCode::ServFail);
        assert_eq!(code(resolver.v4, "nosuch.").await, ResponseCode::NXDomain);
        assert_eq!(code(resolver.v4, "orders.").await, ResponseCode::NoError);
        let mut stream = TcpStream::connect(resolver.v4).await.unwrap();
        send_tcp(&mut stream, &query(1, "example.com.", RecordType::A)).await;
        let failed = receive_tcp(&mut stream).await;
        assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
    }
}

#[tokio::test]
async fn silence_ends_as_servfail() {
    let upstream = silent().await;
    let quick = sinew_dns::Servers {
        timeout: Duration::from_millis(50),
        ..servers(vec![upstream.address])
    };
    let resolver = start(zone("sinew.internal", &[]), quick).await;
    assert_eq!(code(resolver.v4, "nosuch.").await, ResponseCode::ServFail);
    assert_eq!(upstream.seen(), 2, "both attempts");
}

#[tokio::test]
async fn truncated_answers_are_fetched_over_tcp() {
    let upstream = silent().await;
    let listener = TcpListener::bind(upstream.address).await.unwrap();
    let resolver = sinew(vec![upstream.address]).await;
    let asked = query(3, "big.example.", RecordType::A);

    let socket = client(resolver.v4).await;
    socket.send(&asked.to_vec().unwrap()).await.unwrap();
    let (forwarded, from) = upstream.next().await;
    let short = reply(&forwarded, 0).truncate();
    upstream.socket.send_to(&short.to_vec().unwrap(), from).await.unwrap();
    assert!(Message::from_vec(&receive(&socket).await).unwrap().metadata.truncation);

    let mut stream = TcpStream::connect(resolver.v4).await.unwrap();
    send_tcp(&mut stream, &asked).await;
    let (mut server, _) = listener.accept().await.unwrap();
    let forwarded = receive_tcp(&mut server).await;
    send_tcp(&mut server, &reply(&forwarded, 250)).await;
    let whole = receive_tcp(&mut stream).await;
    assert_eq!((whole.metadata.id, whole.answers.len()), (3, 250));
    assert_eq!(upstream.seen(), 0, "only TCP");
}
