//! Unmodified programs of every kind, three copies each on one port, called by name by unmodified
//! clients over both families.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::world::{World, eventually, eventually_or};

const NGINX: &str = r#"
error_log stderr; pid nginx-PID.pid; daemon off; events {}
http {
  access_log off;
  server { listen 8000; listen [::]:8000 ipv6only=on; return 200 "nginx\n"; }
}
"#;

const JAVA: &str = r#"
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
public class Server {
  public static void main(String[] arguments) throws Exception {
    HttpServer server = HttpServer.create(new InetSocketAddress(8000), 64);
    server.createContext("/", exchange -> {
      byte[] body = "java\n".getBytes();
      exchange.sendResponseHeaders(200, body.length);
      exchange.getResponseBody().write(body);
      exchange.close();
    });
    server.start();
  }
}
"#;

const NODE: &str = "require('http').createServer((q, r) => r.end('node\\n')).listen(8000)";

const GO: &str = include_str!("programs/http.go");

/// Services that speak HTTP on port 8000.
const HTTP: [&str; 5] = ["python", "nginx", "node", "java", "go"];

/// Builds the server and client in Go, as `http` in the world's directory: without cgo, so that
/// names are asked for by Go's own resolver.
fn build_go(world: &World) {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    fs::write(world.path("http.go"), GO).unwrap();
    // Without a version Go behaves as one of long ago.
    fs::write(world.path("go.mod"), "module http\ngo 1.27\n").unwrap();
    let mut go = Command::new(target.join("venv/bin/go"));
    go.args(["build", "-o", "http", "."]).current_dir(world.path(""));
    go.env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local");
    go.env("GOCACHE", target.join("go-cache")).env("XDG_CONFIG_HOME", world.path(""));
    assert!(go.status().expect("cargo xtask setup test installs Go").success());
}

/// Go listens with MPTCP unasked; a caller keeps it where the server and the kernel have it.
fn go_reaches_all(world: &World) {
    let on = fs::read_to_string("/proc/sys/net/mptcp/enabled").is_ok_and(|on| on.trim() == "1");
    let mut expected = String::new();
    for name in HTTP {
        for family in ["ip", "ip4", "ip6"] {
            let kept = on && name == "go";
            expected += &format!("{name} {family} 200 false 200 {kept}\n");
        }
    }
    assert_eq!(world.run(&[&["exec", "--", "./http"], &HTTP[..]].concat()), expected);
}

fn file() -> String {
    let http = |name: &str, command: &str| {
        format!("  {name}:\n    command: {command}\n    port: 8000\n    replicas: 3\n")
    };
    let mut text = String::from("name: programs\nservices:\n");
    text += &http("python", "[python3, -u, -m, http.server, '8000']");
    let nginx = "sed s/PID/$$/ nginx.conf >nginx-$$.conf; exec nginx -p . -c nginx-$$.conf";
    text += &http("nginx", &serde_json::json!(["sh", "-c", nginx]).to_string());
    text += &http("node", &serde_json::json!(["node", "-e", NODE]).to_string());
    text += &http("java", "[java, Server.java]");
    text += &http("go", "[./http]");
    text += r#"
  cache:
    command: [redis-server, --save, "", --protected-mode, "no"]
    port: 6379
    replicas: 3
  memory:
    command: [memcached, -u, root, -p, "11211", -U, "11211"]
    ports: [stream:11211, datagrams:11211/udp]
    replicas: 3
"#;
    text
}

fn endpoints(world: &World, service: &str) -> Vec<Value> {
    world.json(&["services", service])["endpoints"].as_array().unwrap().clone()
}

/// Calls until each copy was taken: which one is taken is not to be foreseen.
fn each_copy_is_taken(world: &World, service: &str, call: impl Fn()) {
    let counts = || -> Vec<u64> {
        endpoints(world, service).iter().map(|e| e["connections"].as_u64().unwrap()).collect()
    };
    let before = counts();
    assert!(before.len() >= 3, "{service}: {before:?}");
    eventually_or(
        &format!("every copy of {service} is called"),
        || format!("{before:?} {:?}", counts()),
        || {
            call();
            counts().iter().zip(&before).all(|(now, before)| now > before)
        },
    );
}

const PYTHON: &str = r#"
import socket, sys
def talk(name, port, family, kind, say, expect, n):
    for i in range(n):
        address = socket.getaddrinfo(name, port, family, kind)[0][4]
        s = socket.socket(family, kind); s.settimeout(20)
        if kind == socket.SOCK_STREAM or i % 2:
            s.connect(address); assert s.getpeername()[:2] == address[:2], s.getpeername()
            s.sendall(say) if kind == socket.SOCK_STREAM else s.send(say)
            got = s.recv(4096)
        else:
            s.sendto(say, address); got, sender = s.recvfrom(4096)
            assert sender[:2] == address[:2], (sender, address)
        assert expect in got, (name, family, kind, got)
        s.close()
def both(*arguments):
    for family in [socket.AF_INET, socket.AF_INET6]: talk(arguments[0], arguments[1], family, *arguments[2:])
get = b"GET / HTTP/1.0\r\n\r\n"
for name in ["python", "nginx", "node", "java", "go"]:
    both(name, 8000, socket.SOCK_STREAM, get, b" 200 ", 6)
both("cache", 6379, socket.SOCK_STREAM, b"PING\r\n", b"+PONG", 6)
both("memory", 11211, socket.SOCK_STREAM, b"version\r\n", b"VERSION", 6)
both("memory", 11211, socket.SOCK_DGRAM, b"\0\1\0\0\0\1\0\0version\r\n", b"VERSION", 6)
print("well")
"#;

const NODE_CLIENT: &str = r#"
const http = require('http');
const get = (name) => new Promise((well, badly) =>
  http.get(`http://${name}:8000/`, (answer) => { answer.resume(); well(answer.statusCode); }).on('error', badly));
(async () => {
  const seen = [];
  for (const name of ['python', 'nginx', 'node', 'java', 'go']) seen.push(await get(name));
  console.log(seen.join(' '));
})();
"#;

fn clients_reach_all(world: &World) {
    assert_eq!(world.member(PYTHON), "well");
    let node = world.run(&["exec", "--", "node", "-e", NODE_CLIENT]);
    assert_eq!(node.trim(), "200 200 200 200 200");
    for name in HTTP {
        let url = format!("http://{name}:8000/");
        let format = "%{http_code} %{remote_ip}";
        let said = world.run(&["exec", "--", "curl", "-sS", "-o", "/dev/null", "-w", format, &url]);
        let (code, address) = said.split_once(' ').unwrap();
        assert_eq!(code, "200", "{name}");
        // It sees the address of the service, of either family, and no copy's.
        assert!(
            address.starts_with("127.6") || address.starts_with("127.7") || address.contains(':')
        );
        assert!(!address.contains("127.80") && !address.contains(":1::"), "{address}");
    }
    let pong = world.run(&["exec", "--", "redis-cli", "-h", "cache", "ping"]);
    assert_eq!(pong.trim(), "PONG");
    go_reaches_all(world);
}

#[test]
fn three_copies_of_every_program_share_a_port() {
    let world = World::new();
    fs::write(world.path("nginx.conf"), NGINX).unwrap();
    fs::write(world.path("Server.java"), JAVA).unwrap();
    build_go(&world);
    world.file(&file());
    world.run(&["up", "-d"]);
    clients_reach_all(&world);
    for service in HTTP.iter().chain(&["cache", "memory"]) {
        each_copy_is_taken(&world, service, || assert_eq!(world.member(PYTHON), "well"));
    }
    // Another agent finds what listens already.
    world.kill_agent(world.agent());
    world.start_agent();
    clients_reach_all(&world);
    eventually("every close was seen", || {
        HTTP.iter().all(|s| endpoints(&world, s).iter().all(|e| e["active"] == 0))
    });
}
