//! IPv6, dual-stack, IPv6-only and MPTCP sockets on both sides.

use sinew_model::Protocol;

use crate::world::World;

/// A TCP server on a socket that `make` builds, which answers with its peer's address.
fn server(make: &str) -> String {
    format!(
        r#"
import socket
{make}
s.listen()
print("ready")
while True:
    c, a = s.accept(); c.sendall(a[0].encode()); c.close()
"#
    )
}

const V4: &str = "s = socket.socket(); s.bind(('0.0.0.0', 7007))";
const DUAL: &str =
    "s = socket.socket(socket.AF_INET6); s.setsockopt(41, 26, 0); s.bind(('::', 7007))";
const ONLY6: &str =
    "s = socket.socket(socket.AF_INET6); s.setsockopt(41, 26, 1); s.bind(('::', 7007))";
const MPTCP: &str =
    "s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262); s.bind(('0.0.0.0', 7007))";

const CLIENTS: &str = r#"
import socket
def ask(kind, proto, only, to):
    s = socket.socket(kind, socket.SOCK_STREAM, proto); s.settimeout(3)
    if only: s.setsockopt(41, 26, 1)
    try:
        s.connect((to, 7007)); d = b""
        while True:
            b = s.recv(99)
            if not b: return d.decode() or "empty"
            d += b
    except Exception as e: return type(e).__name__
print(ask(2, 0, 0, "127.64.0.1"))
print(ask(10, 0, 0, "::ffff:127.64.0.1"))
print(ask(10, 0, 0, "fd53:696e:6577::1"))
print(ask(10, 0, 1, "fd53:696e:6577::1"))
print(ask(2, 262, 0, "127.64.0.1"))
"#;

/// What callers over IPv4, mapped IPv4, IPv6, IPv6 only, and MPTCP get.
fn callers_of(make: &str) -> Vec<String> {
    let mut world = World::new();
    world.service(1, 7007, Protocol::Tcp, 1);
    world.client(2);
    world.python_server(1, 0, &server(make));
    world.wait_listening(1, 0);
    let answer = world.python(2, 0, CLIENTS);
    assert_eq!(world.active(1, 1, 7007), 0, "every close was seen");
    answer.lines().map(str::to_owned).collect()
}

const ME4: &str = "127.80.2.1";
const MAPPED: &str = "::ffff:127.80.2.1";
const ME6: &str = "fd53:696e:6577:1::2:1";
const REFUSED: &str = "ConnectionRefusedError";

#[test]
fn an_ipv4_server() {
    assert_eq!(callers_of(V4), [ME4, ME4, ME4, REFUSED, ME4]);
}

#[test]
fn a_dual_stack_server() {
    assert_eq!(callers_of(DUAL), [MAPPED, MAPPED, MAPPED, REFUSED, MAPPED]);
}

#[test]
fn an_ipv6_only_server() {
    assert_eq!(callers_of(ONLY6), [REFUSED, REFUSED, ME6, ME6, REFUSED]);
}

#[test]
fn an_mptcp_server() {
    assert_eq!(callers_of(MPTCP), [ME4, ME4, ME4, REFUSED, ME4]);
}
