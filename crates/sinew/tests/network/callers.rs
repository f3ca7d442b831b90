//! Unmodified programs that call services by name, each with a resolver or a way to connect of its
//! own kind.

use std::fs;

use crate::world::World;

const SERVICES: &str = r#"
name: callers
services:
  web:
    command: [nginx, -p, ., -c, nginx.conf]
    port: 8000
    replicas: 1
  speed:
    command: [iperf3, --server]
    port: 5201
    balance: {policy: source, timeout: 1m}
    replicas: 3
"#;

const NGINX: &str = r#"
error_log stderr; pid nginx.pid; daemon off; events {}
http {
  access_log off;
  server { listen 8000; listen [::]:8000 ipv6only=on; return 200 "well\n"; }
}
"#;

fn world() -> World {
    let world = World::new();
    fs::write(world.path("nginx.conf"), NGINX).unwrap();
    world.file(SERVICES);
    world.run(&["up", "-d"]);
    world
}

fn member(world: &World, command: &[&str]) -> String {
    world.run(&[&["exec", "--"], command].concat())
}

const JAVA: &str = r#"
import java.net.*;
import java.net.http.*;
public class Client {
  public static void main(String[] names) throws Exception {
    HttpClient client = HttpClient.newHttpClient();
    for (String name : names) {
      HttpRequest request = HttpRequest.newBuilder(URI.create("http://" + name + ":8000/")).build();
      System.out.print(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
      for (InetAddress address : InetAddress.getAllByName(name)) {
        try (Socket socket = new Socket(address, 8000)) {
          boolean same = socket.getInetAddress().equals(address);
          System.out.println(address.getClass().getSimpleName() + " " + same);
        }
      }
    }
  }
}
"#;

#[test]
fn java_calls_over_both_families() {
    let world = world();
    fs::write(world.path("Client.java"), JAVA).unwrap();
    let told = member(&world, &["java", "Client.java", "web", "web.sinew.internal"]);
    let one = "well\nInet4Address true\nInet6Address true\n";
    assert_eq!(told, one.repeat(2));
}

/// Node's own queries are those of c-ares, which reads no LOCALDOMAIN and asks for what it is given.
const C_ARES: &str = r#"
const { resolve4, resolve6, resolveSrv } = require('dns').promises;
const net = require('net');
const connect = (port, host) => new Promise((well, badly) => {
  const socket = net.connect(port, host, () => socket.end('GET / HTTP/1.0\r\n\r\n'));
  let text = '';
  socket.on('data', (more) => text += more).on('end', () => well(text)).on('error', badly);
});
(async () => {
  for (const name of ['web', 'web.sinew.internal']) {
    for (const [address] of [await resolve4(name), await resolve6(name)]) {
      console.log((await connect(8000, address)).split('\n')[0].trim());
    }
  }
  const [{ port, name }] = await resolveSrv('_tcp-8000._tcp.web.sinew.internal');
  console.log(port, name);
  await resolve4('nobody.sinew.internal').catch((error) => console.log(error.code));
})();
"#;

#[test]
fn c_ares_finds_names_by_itself() {
    let told = member(&world(), &["node", "-e", C_ARES]);
    let answers = "HTTP/1.1 200 OK\n".repeat(4);
    assert_eq!(told, answers + "8000 web.sinew.internal\nENOTFOUND\n");
}

#[test]
fn wrk_keeps_many_connections() {
    let arguments = ["wrk", "-t2", "-c50", "-d1s", "--latency", "http://web:8000/"];
    let told = member(&world(), &arguments);
    // It tells of these only when there were some.
    assert!(!told.contains("Socket errors") && !told.contains("Non-2xx"), "{told}");
    let requests = told.lines().find_map(|line| line.trim().split_once(" requests in "));
    assert!(requests.is_some_and(|(count, _)| count.parse::<u64>().unwrap() > 0), "{told}");
}

/// A test has a connection that steers and others that measure: all have to meet in one copy.
#[test]
fn iperf3_measures_with_connections_that_belong_together() {
    let world = world();
    for family in ["-4", "-6"] {
        for kind in [&["--parallel", "3"][..], &["--reverse"], &["--bidir"]] {
            let fixed = ["iperf3", "--client", "speed", "--bytes", "64M", "--json", family];
            let told = member(&world, &[&fixed[..], kind].concat());
            let told: serde_json::Value = serde_json::from_str(&told).unwrap();
            assert_eq!(told.get("error"), None, "{family} {kind:?}");
            let received = told["end"]["sum_received"]["bytes"].as_u64();
            assert!(received.is_some_and(|bytes| bytes > 0), "{family} {kind:?}: {told}");
        }
    }
}
