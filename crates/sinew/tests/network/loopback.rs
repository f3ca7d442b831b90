//! The interface `lo` goes down and comes back: what was lost with it is there again, without a
//! restart.

use crate::{
    life::{WEB, calls},
    world::{World, eventually, tool},
};

const SIX: &str = r#"
name: trial
services:
  six:
    command: ["python3", "-u", "-c", "import http.server as h, socket; h.HTTPServer.address_family = socket.AF_INET6; h.HTTPServer.server_bind = lambda s: (s.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1), h.socketserver.TCPServer.server_bind(s)); h.HTTPServer(('::', 8000), h.SimpleHTTPRequestHandler).serve_forever()"]
    port: 8000
"#;

const CALL: &str = r#"
import socket
try:
    s = socket.socket(socket.AF_INET6); s.settimeout(5)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.connect(("six", 8000)); s.sendall(b"GET / HTTP/1.0\r\n\r\n")
    print(s.recv(12).decode())
except Exception as e: print(repr(e))
"#;

#[test]
fn ipv6_works_again_when_lo_comes_back() {
    let world = World::new();
    world.file(SIX);
    world.run(&["up", "-d"]);
    let answer = "HTTP/1.0 200";
    assert_eq!(world.member(CALL), answer);
    tool("ip", &["link", "set", "lo", "down"]);
    assert_ne!(world.member(CALL), answer);
    tool("ip", &["link", "set", "lo", "up"]);
    eventually("it works again", || world.member(CALL) == answer);
    world.run(&["restart", "six"]);
    assert_eq!(world.member(CALL), answer);
}

#[test]
fn an_agent_that_started_while_lo_was_down_works_when_it_is_up() {
    let world = World::new();
    tool("ip", &["link", "set", "lo", "down"]);
    world.start_agent();
    tool("ip", &["link", "set", "lo", "up"]);
    world.file(WEB);
    world.run(&["up", "-d"]);
    assert_eq!(world.member(&calls(5)), "{'ok': 5}");
    world.file(SIX);
    world.run(&["up", "-d"]);
    eventually("IPv6 is there as well", || world.member(CALL) == "HTTP/1.0 200");
}
