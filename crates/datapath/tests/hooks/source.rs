//! `balance: source`, for members: a caller keeps its backend, whichever socket it calls with.

use std::{net::Ipv4Addr, time::Duration};

use sinew_datapath::{Datapath as _, Event};
use sinew_model::{Balance, Protocol};

use crate::world::{World, eventually, instance4};

const TCP: &str = r#"
import socket, threading
l = socket.create_server(("0.0.0.0", 8080))
print("ready")
def serve(c):
    c.sendall(b"WORD"); c.recv(9); c.close()
while True: threading.Thread(target=serve, args=(l.accept()[0],)).start()
"#;

const UDP: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 8080))
print("ready")
while True: s.sendto(b"WORD", s.recvfrom(9)[1])
"#;

/// Two replicas and two callers, services 2 and 3.
fn world(protocol: Protocol, server: &str) -> World {
    let mut world = World::new();
    world.service(1, 8080, protocol, 2);
    forget_after(&mut world, Duration::from_secs(600));
    world.client(2);
    world.client(3);
    for n in 0..2 {
        world.python_server(1, n, &server.replace("WORD", &format!("r{n}")));
        let wanted = 1 << 32 | u64::from(n);
        world.wait(|e| match e {
            Event::Listening { instance, .. } => *instance == wanted,
            Event::Bound { instance, protocol: bound, .. } => {
                *instance == wanted && *bound == Protocol::Udp
            }
            Event::Flow(_) => false,
        });
    }
    world
}

fn forget_after(world: &mut World, timeout: Duration) {
    let mut service = (*world.wanted.services[&1]).clone();
    service.ports[0].balance = Balance::Source { timeout };
    world.wanted.set_service(service);
    world.apply();
}

/// Who answers 10 connections of a caller, held open together.
const CONNECT: &str = r#"
import socket
held = [socket.create_connection(("127.64.0.1", 8080), timeout=20) for i in range(10)]
print(sorted({s.recv(9).decode() for s in held}))
"#;

fn one(answer: &str) -> String {
    let names = answer.trim_matches(['[', ']']);
    assert!(["'r0'", "'r1'"].contains(&names), "{answer}");
    names.to_owned()
}

/// A caller that holds 10 connections until it is told otherwise, and who answered them.
fn hold(world: &mut World, service: u32) -> String {
    let script = format!("{CONNECT}\nimport time\ntime.sleep(1000)");
    one(&world.python_caller(service, &script))
}

#[test]
fn a_caller_keeps_its_backend_and_the_next_takes_the_lighter_one() {
    let mut world = world(Protocol::Tcp, TCP);
    let first = hold(&mut world, 2);
    let second = hold(&mut world, 3);
    assert_ne!(first, second, "the one that had fewer connections");
    // Whatever the load, and whichever process calls.
    for _ in 0..3 {
        assert_eq!(one(&world.python(2, 0, CONNECT)), first);
        assert_eq!(one(&world.python(3, 0, CONNECT)), second);
    }
    let kept = |world: &World, caller| kept(world, caller, Protocol::Tcp);
    assert_ne!(kept(&world, 2).unwrap(), kept(&world, 3).unwrap());
}

/// Key of the backend that a caller keeps.
fn kept(world: &World, caller: u32, protocol: Protocol) -> Option<u64> {
    let source: Ipv4Addr = instance4(caller, 0);
    world.kernel.affinity(source, 1, (protocol, 8080)).unwrap().map(|affinity| affinity.backend)
}

#[test]
fn a_caller_that_was_away_is_given_the_lighter_one() {
    let mut world = world(Protocol::Tcp, TCP);
    let first = hold(&mut world, 2);
    forget_after(&mut world, Duration::from_millis(50));
    assert_eq!(one(&world.python(2, 0, ONCE)), first, "it is remembered so far");
    eventually("it is forgotten", || kept(&world, 2, Protocol::Tcp).is_none());
    assert_ne!(one(&world.python(2, 0, ONCE)), first, "which has ten connections");
}

const ONCE: &str = r#"
import socket
print("[" + repr(socket.create_connection(("127.64.0.1", 8080), timeout=20).recv(9).decode()) + "]")
"#;

/// Who answers datagrams of 40 sockets of a caller, half of them connected.
const ASK: &str = r#"
import socket
def ask(connect):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)
    if connect: s.connect(("127.64.0.1", 8080)); s.send(b"x")
    else: s.sendto(b"x", ("127.64.0.1", 8080))
    return s.recv(9).decode()
print(sorted({ask(i % 2) for i in range(40)}))
"#;

#[test]
fn datagrams_of_a_caller_keep_their_backend_until_it_is_forgotten() {
    let mut world = world(Protocol::Udp, UDP);
    let first = one(&world.python(2, 0, ASK));
    for _ in 0..3 {
        assert_eq!(one(&world.python(2, 0, ASK)), first);
    }
    forget_after(&mut world, Duration::from_millis(1));
    assert_eq!(one(&world.python(2, 0, &ASK.replace("40", "1"))), first, "it is remembered so far");
    // Each time either may be drawn.
    eventually("another is taken", || {
        eventually("it is forgotten", || kept(&world, 2, Protocol::Udp).is_none());
        one(&world.python(2, 0, &ASK.replace("40", "1"))) != first
    });
}
