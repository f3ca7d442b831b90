//! What an engine keeps, and how it begins and ends.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use crate::server::{Client, PATIENCE, Upstream, engine, ok, read, route, until};

#[test]
fn a_connection_without_a_request_has_no_buffer() {
    let upstream = Upstream::answering(|_| ok(b"x"));
    let engine = engine(route(&[upstream.address], |_| {}), |_| {});
    let mut clients: Vec<Client> = (0..50).map(|_| Client::of(&engine)).collect();
    for client in &mut clients {
        client.get("/");
    }
    until("all rest", || engine.status().working == 0 && engine.status().connections == 50);
    assert!(engine.status().pooled >= 1);
    clients[0].send("GET / HTTP/1.1\r\n");
    until("half a head is kept", || engine.status().working == 1);
    drop(clients);
    until("all have gone", || engine.status().connections == 0 && engine.status().working == 0);
}

#[test]
fn what_is_idle_for_too_long_is_closed() {
    let upstream = Upstream::answering(|_| ok(b"x"));
    let route = route(&[upstream.address], |route| route.times.idle = Duration::from_millis(50));
    let engine = engine(route, |_| {});
    let mut client = Client::of(&engine);
    client.get("/");
    assert_eq!(client.rest(), Some(vec![]), "an end, not a reset");
}

#[test]
fn the_route_of_a_request_is_the_one_when_it_began() {
    let (held, go) = (Upstream::start(held_back()), Upstream::answering(|_| ok(b"new")));
    let engine = engine(route(&[held.address], |_| {}), |_| {});
    let mut client = Client::of(&engine);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it is under way", || held.connections.load(std::sync::atomic::Ordering::SeqCst) == 1);
    engine.set_route(route(&[go.address], |_| {}));
    // The old one answers when it hears of another connection.
    drop(TcpStream::connect(held.address).unwrap());
    assert_eq!(client.answer().body, b"old");
    assert_eq!(client.get("/").body, b"new", "of the same client");
}

/// Answers once a second connection was made.
fn held_back() -> impl Fn(TcpStream) + Send + Sync + 'static {
    let (tell, told) = mpsc::channel();
    let told = Arc::new(std::sync::Mutex::new((tell.clone(), told)));
    move |mut stream| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        match read(&mut reader) {
            Some(_) => {
                let receive = told.lock().unwrap();
                receive.1.recv().unwrap();
                stream.write_all(&ok(b"old")).unwrap();
            }
            None => tell.send(()).unwrap(),
        }
    }
}

#[test]
fn who_drains_answers_what_is_under_way_and_ends() {
    let held = Upstream::start(held_back());
    let engine = engine(route(&[held.address], |_| {}), |options| options.threads = 2);
    let (mut busy, mut idle) = (Client::of(&engine), Client::of(&engine));
    busy.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("it is under way", || held.connections.load(std::sync::atomic::Ordering::SeqCst) == 1);
    until("both are there", || engine.status().connections == 2);
    engine.drain();
    assert_eq!(idle.rest(), Some(vec![]), "an end, not a reset");
    assert!(!engine.is_drained());
    until("nobody is let in", || TcpStream::connect(engine.address()).is_err());
    drop(TcpStream::connect(held.address).unwrap());
    let answer = busy.answer();
    assert_eq!(
        (answer.body.as_slice(), answer.head.contains("connection: close")),
        (&b"old"[..], true)
    );
    assert_eq!(busy.rest(), Some(vec![]));
    drop((busy, idle));
    until("the threads end", || engine.is_drained());
    engine.join();
}

#[test]
fn clients_that_are_too_many_wait() {
    let upstream = Upstream::answering(|_| ok(b"x"));
    let engine = engine(route(&[upstream.address], |_| {}), |options| options.connections = 2);
    let (mut one, mut two) = (Client::of(&engine), Client::of(&engine));
    one.get("/");
    two.get("/");
    let mut three = Client::of(&engine);
    three.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    one.get("/");
    assert_eq!(engine.status().connections, 2);
    drop(two);
    assert_eq!(three.answer().body, b"x");
}

#[test]
fn a_thread_without_anything_to_do_shows_that_it_lives() {
    let engine = engine(route(&[], |_| {}), |options| options.threads = 2);
    for _ in 0..3 {
        until("a beat", || engine.status().slowest_beat < Duration::from_millis(20));
        until("the next one is awaited", || {
            engine.status().slowest_beat > Duration::from_millis(20)
        });
    }
    assert!(engine.status().slowest_beat < PATIENCE);
}
