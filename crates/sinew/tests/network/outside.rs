//! Members that talk to the world outside as servers of their kind do: from a port of their own
//! choice, over UDP. The outside is another network namespace at the end of a cable.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use crate::world::{World, eventually_or, tool};

const OUTSIDE: &str = "192.0.2.2";

/// Answers each query for an address with the one that the query came from.
const UPSTREAM: &str = r#"
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("192.0.2.2", 53))
print("bound", flush=True)
while True:
    query, who = s.recvfrom(512)
    end = query.index(0, 12) + 5
    wanted = query[end - 4:end - 2] == b"\0\1"
    head = query[:2] + b"\x81\x80\0\1\0" + (b"\1" if wanted else b"\0") + b"\0\0\0\0"
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(who[0]) if wanted else b""
    s.sendto(head + query[12:end] + answer, who)
"#;

/// A host at the other end of the cable; it goes with its last process.
struct Outside {
    host: Child,
    servers: Vec<Child>,
}

impl Outside {
    fn new() -> Self {
        let mut host = Command::new("unshare");
        host.args(["--net", "sh", "-c", "ip link set lo up; echo there; exec sleep 1000000"]);
        let mut host = host.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(host.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "there\n");
        let pid = host.id().to_string();
        let there = ["peer", "name", "there", "netns", &pid];
        tool("ip", &[&["link", "add", "here", "type", "veth"], &there[..]].concat());
        tool("ip", &["addr", "add", "192.0.2.1/24", "dev", "here"]);
        tool("ip", &["link", "set", "here", "up"]);
        let outside = Self { host, servers: Vec::new() };
        for words in
            [&["addr", "add", "192.0.2.2/24", "dev", "there"][..], &["link", "set", "there", "up"]]
        {
            assert!(outside.command("ip").args(words).status().unwrap().success());
        }
        outside
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.host.id().to_string(), "--net", program]);
        command
    }

    fn serve(&mut self, program: &str, arguments: &[&str]) {
        let mut server = self.command(program);
        server.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        self.servers.push(server.spawn().unwrap());
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        for child in self.servers.iter_mut().chain([&mut self.host]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The time server that `cargo xtask setup test` unpacks.
const CHRONYD: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/unpacked/usr/sbin/chronyd");

/// Serves the time and leaves the clock of the machine alone; each copy of it needs a file.
fn serves(world: &World) -> String {
    let file = world.path("chronyd");
    format!(
        "exec {CHRONYD} -d -x -u root 'local stratum 5' 'allow all' 'cmdport 0' \
         'bindcmdaddress /' 'pidfile {}'-$$",
        file.display()
    )
}

/// Asks once for the time, and sets no clock.
fn asks(world: &World, server: &str, port: &str) -> String {
    let file = world.path("asker");
    format!(
        "exec {CHRONYD} -Q -t 20 -u root 'server {server} iburst maxsamples 1' {port} \
         'cmdport 0' 'bindcmdaddress /' 'pidfile {}'-$$",
        file.display()
    )
}

/// One name server: the port that it asks from is not declared, so it is the host's, which two of
/// them cannot share.
fn services(world: &World) {
    let time = serde_json::json!(["sh", "-c", serves(world).replace("$$", "$$$$")]);
    world.file(&format!(
        r#"
name: outside
services:
  names:
    command: [dnsmasq, --keep-in-foreground, --no-hosts, --no-resolv, --user=root, --pid-file=,
      --listen-address=127.0.0.1, --bind-interfaces,
      --server=192.0.2.2, --query-port=5353, --cache-size=0, --address=/served.test/192.0.2.77]
    ports: [stream:53, datagrams:53/udp]
  time:
    command: {time}
    port: 123/udp
    replicas: 2
"#
    ));
    world.run(&["up", "-d"]);
}

/// Asked explicitly: a query to the host's own name servers would be answered by the resolver.
fn dig(world: &World, arguments: &[&str]) -> String {
    let server = world.json(&["services", "names"])["address4"].as_str().unwrap().to_owned();
    let at = format!("@{server}");
    let all = ["exec", "--", "dig", &at, "+short", "+tries=1", "+timeout=20"];
    world.run(&[&all[..], arguments].concat()).trim().to_owned()
}

#[test]
fn name_and_time_servers_are_reached_and_reach_the_outside() {
    let world = World::new();
    let mut outside = Outside::new();
    outside.serve("python3", &["-c", UPSTREAM]);
    outside.serve("sh", &["-c", &serves(&world)]);
    services(&world);

    // A name server of the network, over both protocols; what it forwards comes from its own port.
    assert_eq!(dig(&world, &["served.test", "A"]), "192.0.2.77");
    assert_eq!(dig(&world, &["+tcp", "served.test", "A"]), "192.0.2.77");
    assert_eq!(dig(&world, &["asked.test", "A"]), "192.0.2.1", "seen outside as the host");

    // A time server of the network, and one outside, which is asked from the port of such servers.
    let well = |what: &str, script: &str| {
        let ask = || world.try_run(&["exec", "--", "sh", "-c", script]);
        let told = || String::from_utf8_lossy(&ask().stderr).into_owned();
        eventually_or(what, told, || ask().status.success());
    };
    well("the time is told inside", &asks(&world, "time", ""));
    well("the time is told outside", &asks(&world, OUTSIDE, "'acquisitionport 123'"));
}
