//! Requests through sockets.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::server::{Client, Upstream, engine, ok, read, route};

#[test]
fn many_clients_get_their_own_answers_over_connections_that_are_used_again() {
    let upstream = Upstream::answering(|request| ok(request.line.as_bytes()));
    let engine = engine(route(&[upstream.address], |_| {}), |options| options.threads = 2);
    thread::scope(|scope| {
        for client in 0..20 {
            let engine = &engine;
            scope.spawn(move || {
                let mut connection = Client::of(engine);
                for request in 0..50 {
                    let path = format!("/{client}/{request}");
                    let answer = connection.get(&path);
                    assert_eq!(answer.line, "HTTP/1.1 200 OK");
                    assert_eq!(answer.body, format!("GET {path} HTTP/1.1").as_bytes());
                }
            });
        }
    });
    let connections = upstream.connections.load(Ordering::SeqCst);
    assert!(connections <= 20, "{connections} for 1000 requests of 20 clients");
}

#[test]
fn great_bodies_go_both_ways_and_wait_for_who_reads() {
    let upstream = Upstream::answering(|request| ok(&request.body));
    let engine = engine(route(&[upstream.address], |_| {}), |_| {});
    let body: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 251) as u8).collect();
    let mut client = Client::of(&engine);
    let mut writer = client.stream.try_clone().unwrap();
    let head = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(head.as_bytes()).unwrap();
            writer.write_all(&body).unwrap();
        });
        assert!(client.answer().body == body);
    });
}

#[test]
fn a_client_that_does_not_read_stops_its_upstream() {
    const ALL: usize = 400_000_000;
    let (tell, stopped) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |mut stream| {
        read(&mut std::io::BufReader::new(stream.try_clone().unwrap())).unwrap();
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {ALL}\r\n\r\n").as_bytes())
            .unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let (chunk, mut sent) = (vec![7; 100_000], 0);
        while sent < ALL {
            match stream.write(&chunk[..chunk.len().min(ALL - sent)]) {
                Ok(bytes) => sent += bytes,
                // Until the client goes on.
                Err(_) => {
                    let _ = tell.send(sent);
                    stream.set_write_timeout(None).unwrap();
                }
            }
        }
    });
    let engine = engine(route(&[upstream.address], |_| {}), |_| {});
    let mut client = Client::of(&engine);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let sent = stopped.recv().unwrap();
    assert!(sent < ALL / 4, "{sent} bytes are in buffers");
    let answer = client.answer();
    assert!(answer.body.len() == ALL && answer.body.iter().all(|byte| *byte == 7));
}

#[test]
fn a_tunnel_carries_what_both_sides_say() {
    let upstream = Upstream::start(|stream| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        let request = read(&mut reader).unwrap();
        assert!(request.head.contains("upgrade: websocket\r\nconnection: upgrade\r\n"));
        let switch = "HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        stream.write_all(switch.as_bytes()).unwrap();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all.reverse();
        stream.write_all(&all).unwrap();
    });
    let engine = engine(route(&[upstream.address], |_| {}), |_| {});
    let mut client = Client::of(&engine);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.answer().line, "HTTP/1.1 101 Go");
    let said: Vec<u8> = (0..300_000_u32).map(|at| (at % 249) as u8).collect();
    client.send(&said);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let back: Vec<u8> = said.iter().rev().copied().collect();
    assert!(client.rest().unwrap() == back);
}

#[test]
fn an_answer_that_breaks_off_is_reset() {
    let upstream = Upstream::start(|mut stream| {
        read(&mut std::io::BufReader::new(stream.try_clone().unwrap())).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello")
            .unwrap();
    });
    let engine = engine(route(&[upstream.address], |_| {}), |_| {});
    let mut client = Client::of(&engine);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.rest(), None);
}

#[test]
fn who_is_not_there_is_told_of_and_another_one_is_asked() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let engine_of_none = engine(route(&[nobody], |_| {}), |_| {});
    let answer = Client::of(&engine_of_none).get("/");
    assert_eq!(answer.line, "HTTP/1.1 502 Bad Gateway");
    assert!(answer.head.contains("x-sinew-fault: upstream; not-connected"), "{}", answer.head);

    let upstream = Upstream::answering(|_| ok(b"here"));
    let engine = engine(route(&[nobody, upstream.address], |_| {}), |_| {});
    let mut client = Client::of(&engine);
    for _ in 0..20 {
        assert_eq!(client.get("/").body, b"here");
    }
}

#[test]
fn an_upstream_that_closes_idle_connections_costs_nobody_an_answer() {
    // It answers, and closes as if it had been idle for long: each next request meets the close.
    let upstream = Upstream::start(|mut stream| {
        let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
        let request = read(&mut reader).unwrap();
        stream.write_all(&ok(request.line.as_bytes())).unwrap();
    });
    let engine = engine(route(&[upstream.address], |_| {}), |_| {});
    let mut client = Client::of(&engine);
    for number in 0..200 {
        let answer = client.get(&format!("/{number}"));
        assert_eq!(answer.line, "HTTP/1.1 200 OK", "{}", answer.head);
    }
}

#[test]
fn who_is_late_is_given_up() {
    let upstream = Upstream::start(|mut stream| {
        // It hears, and says nothing.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let route = route(&[upstream.address], |route| {
        route.times.stall = Duration::from_millis(50);
        route.retry.tries = 1;
    });
    let engine = engine(route, |_| {});
    let answer = Client::of(&engine).get("/");
    assert!(answer.head.contains("x-sinew-fault: upstream; late"), "{}", answer.head);
}
