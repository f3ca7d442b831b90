//! UDP services, names, and the resolver's place among the host's name servers.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, UdpSocket};

use sinew_datapath::{Datapath, Event, Resolver};
use sinew_model::Protocol;

use crate::world::World;

fn echo(word: &str) -> String {
    format!(
        r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("0.0.0.0", 5005))
print("ready")
while True:
    d, a = s.recvfrom(999)
    s.sendto(b"{word} " + a[0].encode(), a)
"#
    )
}

fn two() -> World {
    let mut world = World::new();
    world.service(1, 5005, Protocol::Udp, 2);
    world.client(2);
    for n in 0..2 {
        world.python_server(1, n, &echo(&format!("r{n}")));
        world.wait(
            |e| matches!(e, Event::Bound { instance, .. } if *instance == (1 << 32 | u64::from(n))),
        );
    }
    world
}

#[test]
fn connected_and_unconnected_sockets_see_the_service() {
    let world = two();
    let answer = world.python(
        2,
        0,
        r#"
import socket
A = ("127.64.0.1", 5005)
def take(connect):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3)
    if connect:
        s.connect(A); s.send(b"x"); print(s.getpeername() == A)
    else: s.sendto(b"x", A)
    d, a = s.recvfrom(99)
    assert a == A, a
    return d.decode()
seen = {take(i % 2 == 0) for i in range(40)}
print(sorted(seen))
"#,
    );
    assert!(answer.ends_with("['r0 127.80.2.1', 'r1 127.80.2.1']"), "{answer}");
    assert!(!answer.contains("False"), "{answer}");
}

#[test]
fn a_socket_keeps_its_peer() {
    let world = two();
    let answer = world.python(
        2,
        0,
        r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(3)
seen = set()
for i in range(20):
    s.sendto(b"x", ("127.64.0.1", 5005)); seen.add(s.recvfrom(99)[0])
print(len(seen))
"#,
    );
    assert_eq!(answer, "1");
}

#[test]
fn datagrams_over_ipv6() {
    let mut world = World::new();
    world.service(1, 5005, Protocol::Udp, 1);
    world.client(2);
    let server = r#"
import socket, threading
def serve(address):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.setsockopt(41, 26, 1); s.bind(address)
    def run():
        while True:
            d, a = s.recvfrom(99); s.sendto(b"from " + a[0].encode(), a)
    return threading.Thread(target=run)
threads = [serve(("::", 5005)), serve(("::1", 6006))]
for t in threads: t.start()
print("ready")
"#;
    world.python_server(1, 0, server);
    let answer = world.python(
        2,
        0,
        r#"
import socket
def ask(a):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.settimeout(2)
    try:
        s.sendto(b"x", a); d, f = s.recvfrom(99); return d.decode(), f[:2] == a
    except Exception as e: return type(e).__name__
print(ask(("fd53:696e:6577::1", 5005)))
print(ask(("fd53:696e:6577:1::1:1", 5005)))
print(ask(("fd53:696e:6577:2::1:1", 6006)))
"#,
    );
    assert_eq!(
        answer,
        "('from fd53:696e:6577:1::2:1', True)\n('from fd53:696e:6577:1::2:1', True)\nConnectionRefusedError"
    );
    let own = world.python(
        1,
        0,
        r#"
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.settimeout(2)
s.sendto(b"x", ("::1", 6006)); d, f = s.recvfrom(99); print(f[:2])
"#,
    );
    assert_eq!(own, "('::1', 6006)");
}

#[test]
fn a_forged_source_is_refused() {
    let world = two();
    let answer = world.python(
        2,
        0,
        r#"
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
info = struct.pack("=I4s4s", 0, socket.inet_aton("127.80.1.2"), b"\0" * 4)
try:
    s.sendmsg([b"x"], [(socket.IPPROTO_IP, 8, info)], 0, ("127.64.0.1", 5005)); print("sent")
except Exception as e: print(type(e).__name__)
"#,
    );
    assert_eq!(answer, "PermissionError");
}

#[test]
fn queries_go_to_the_resolver_while_it_lives() {
    let mut world = World::new();
    world.client(2);
    let name_server = Ipv4Addr::new(127, 0, 0, 53);
    let resolver = UdpSocket::bind("127.80.0.1:0").unwrap();
    let upstream = UdpSocket::bind((name_server, 53)).unwrap();
    world.resolver(Resolver {
        address4: SocketAddrV4::new(
            Ipv4Addr::new(127, 80, 0, 1),
            resolver.local_addr().unwrap().port(),
        ),
        address6: Ipv6Addr::LOCALHOST,
        name_servers: vec![name_server.into()],
    });
    let echo = |socket: UdpSocket, word: &'static str| {
        std::thread::spawn(move || {
            let mut buffer = [0; 99];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(word.as_bytes(), from);
            }
        })
    };
    echo(resolver, "sinew");
    echo(upstream, "host");
    let ask = r#"
import socket
for connect in (True, False):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)
    if connect: s.connect(("127.0.0.53", 53)); s.send(b"q")
    else: s.sendto(b"q", ("127.0.0.53", 53))
    d, a = s.recvfrom(99); print(d.decode(), a)
"#;
    world.kernel.beat().unwrap();
    assert_eq!(world.python(2, 0, ask), "sinew ('127.0.0.53', 53)\nsinew ('127.0.0.53', 53)");
    // A heartbeat of long ago: waiting for it to grow old is what is tested.
    std::thread::sleep(std::time::Duration::from_millis(1200));
    assert_eq!(world.python(2, 0, ask), "host ('127.0.0.53', 53)\nhost ('127.0.0.53', 53)");
    let totals = world.kernel.totals().unwrap();
    assert!(totals.queries >= 2 && totals.queries_bypassed >= 2, "{totals:?}");
}

#[test]
fn a_socket_that_asks_for_a_route_is_no_call() {
    let world = two();
    let connect = |kind: &str| {
        let script = format!(
            r#"
import socket
for family, address in [(socket.AF_INET, "127.64.0.1"), (socket.AF_INET6, "{}")]:
    s = socket.socket(family, socket.SOCK_{kind})
    try: s.connect((address, 9)); print("connected")
    except OSError as e: print(type(e).__name__)
"#,
            crate::world::service6(1)
        );
        world.python(2, 0, &script)
    };
    let refused = || {
        let edges = world.kernel.edges().unwrap();
        let edges = edges.iter().filter(|e| (e.source, e.destination) == (2, 0));
        edges.map(|e| e.counters.no_backend).sum::<u64>()
    };
    assert_eq!(connect("DGRAM"), "ConnectionRefusedError\nConnectionRefusedError");
    assert_eq!(refused(), 0, "as getaddrinfo() does to rank addresses");
    assert_eq!(connect("STREAM"), "ConnectionRefusedError\nConnectionRefusedError");
    assert_eq!(refused(), 2);
    world.python(
        2,
        0,
        r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try: s.sendto(b"x", ("127.64.0.1", 9))
except OSError: pass
"#,
    );
    assert_eq!(refused(), 3, "a datagram is meant");
}

#[test]
fn a_port_is_declared_for_its_protocol() {
    let mut world = World::new();
    world.service(1, 5005, Protocol::Tcp, 1);
    world.client(2);
    // Its UDP port of the same number stays private, and so does nothing of the declared one.
    world.python_server(
        1,
        0,
        r#"
import socket
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 5005))
u6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u6.bind(("::1", 5005))
t = socket.socket(); t.bind(("127.0.0.1", 5005)); t.listen()
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); c.sendto(b"own", ("127.0.0.1", 5005))
assert u.recv(9) == b"own"
print("ready")
import select
while True:
    for s in select.select([u, u6, t], [], [])[0]:
        if s is t: s.accept()[0].sendall(b"tcp")
        else: d, a = s.recvfrom(9); s.sendto(b"udp", a)
"#,
    );
    let answer = world.python(
        2,
        0,
        &format!(
            r#"
import socket
def datagram(family, address):
    s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(5)
    try: s.connect((address, 5005)); s.send(b"x"); print(s.recv(9))
    except OSError as e: print(type(e).__name__)
datagram(socket.AF_INET, "127.80.1.1")
datagram(socket.AF_INET6, "{}")
print(socket.create_connection(("127.80.1.1", 5005), timeout=5).recv(9))
"#,
            crate::world::instance6(1, 0)
        ),
    );
    assert_eq!(answer, "ConnectionRefusedError\nConnectionRefusedError\nb'tcp'");
}
