//! TCP: names, choices, failures.

use std::io::BufRead as _;

use sinew_abi::verdict;
use sinew_datapath::{Datapath as _, Event};
use sinew_model::Protocol;

use crate::world::{World, eventually, instance6, run, service6, signal};

/// An HTTP server that answers with a word, one thread a connection, like many small services.
fn http(word: &str) -> String {
    format!(
        r#"
import http.server, socket
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"{word} from " + self.client_address[0].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
s = http.server.ThreadingHTTPServer(("0.0.0.0", 8080), H)
print("ready")
s.serve_forever()
"#
    )
}

const CALL: &str = r#"
import socket, collections
c = collections.Counter()
for i in range(N):
    try:
        s = socket.create_connection(("127.64.0.1", 8080), timeout=5)
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        b = b""
        while True:
            d = s.recv(4096)
            if not d: break
            b += d
        c[b.split(b"\r\n\r\n")[1].decode().split(" ")[0]] += 1
        s.close()
    except Exception as e:
        c[repr(e)] += 1
print(sorted(c.items()))
"#;

fn calls(n: u32) -> String {
    CALL.replace("range(N)", &format!("range({n})"))
}

fn three() -> (World, Vec<u32>) {
    let mut world = World::new();
    world.service(1, 8080, Protocol::Tcp, 3);
    world.client(2);
    let pids = (0..3).map(|n| world.python_server(1, n, &http(&format!("r{n}")))).collect();
    for n in 0..3 {
        world.wait_listening(1, n);
    }
    (world, pids)
}

#[test]
fn three_copies_share_a_port_and_the_calls() {
    let (world, _) = three();
    let answer = world.python(2, 0, &calls(300));
    for word in ["r0", "r1", "r2"] {
        assert!(answer.contains(word), "{answer}");
    }
    assert!(!answer.contains("Error"), "{answer}");
    assert_eq!(world.active(1, 3, 8080), 0, "every close was seen");
    let stats = world.stats(1, 0, 8080);
    assert!(stats.connections > 50 && stats.received_bytes > 1000, "{stats:?}");
    let edge = world.kernel_edges(2, 1);
    assert_eq!((edge.connects(), edge.active, edge.refused), (300, 0, 0));
    assert!(
        edge.connect_us.iter().sum::<u64>() == 300 && edge.duration_us.iter().sum::<u64>() == 300
    );
}

#[test]
fn curl_sees_its_own_address_as_the_caller() {
    let (world, _) = three();
    let answer = world.run(2, 0, "curl", &["-s", "http://127.64.0.1:8080/"]);
    assert!(answer.ends_with("from 127.80.2.1"), "{answer}");
}

#[test]
fn names_are_what_was_asked_for() {
    let (world, _) = three();
    let answer = world.python(
        2,
        0,
        r#"
import socket
s = socket.create_connection(("127.64.0.1", 8080))
print(s.getpeername(), s.getsockname()[0])
l = socket.socket(); l.bind(("0.0.0.0", 9999)); l.listen()
print(l.getsockname())
l6 = socket.socket(socket.AF_INET6); l6.bind(("::", 9998)); l6.listen()
print(l6.getsockname()[:2])
late, late6 = socket.socket(), socket.socket(socket.AF_INET6)
for s, at in (late, "127.0.0.1"), (late6, "::1"):
    try: s.bind((at, 7777)); s.listen(); t = socket.socket(s.family); t.bind((at, 7777))
    except OSError: print(s.getsockname()[:2], t.getsockname()[:2])
"#,
    );
    let expected = [
        "('127.64.0.1', 8080) 127.80.2.1",
        "('0.0.0.0', 9999)",
        "('::', 9998)",
        // A second one on the same port is bound to nothing.
        "('127.0.0.1', 7777) ('0.0.0.0', 0)",
        "('::1', 7777) ('::', 0)",
    ];
    assert_eq!(answer.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_killed_replica_is_not_chosen_again() {
    let (mut world, pids) = three();
    world.kill(pids[1]);
    let answer = world.python(2, 0, &calls(200));
    assert!(!answer.contains("Error") && !answer.contains("r1"), "{answer}");
    world.kill(pids[0]);
    world.kill(pids[2]);
    let answer = world.python(2, 0, &calls(3));
    assert!(answer.contains("ConnectionRefusedError") && answer.contains(", 3)"), "{answer}");
}

#[test]
fn a_stopped_replica_is_passed_over_and_comes_back() {
    let (world, pids) = three();
    signal(pids[1], rustix::process::Signal::STOP);
    // The first calls that it swallows teach the kernel; each waits for the time-out.
    let script = calls(60).replace("timeout=5", "timeout=0.3");
    let answer = world.python(2, 0, &script);
    let lost: u32 = answer
        .split("(\"TimeoutError")
        .nth(1)
        .or(answer.split("timed out").nth(1))
        .and_then(|t| t.split("\", ").nth(1).or(t.split("', ").nth(1)).or(t.split("\"), ").nth(1)))
        .map_or(0, |t| {
            t.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(99)
        });
    assert!(lost <= 2, "{answer}");
    signal(pids[1], rustix::process::Signal::CONT);
    let answer = world.python(2, 0, &calls(200));
    assert!(answer.contains("r1"), "{answer}");
}

#[test]
fn private_ports_and_foreign_addresses() {
    let (mut world, _) = three();
    world.python_server(
        1,
        0,
        r#"
import socket, time
a = socket.socket(); a.bind(("127.0.0.1", 6060)); a.listen()
print("ready")
while True:
    c, p = a.accept(); c.sendall(b"mine " + p[0].encode()); c.close()
"#,
    );
    let own = r#"
import socket
def ask(a):
    try:
        s = socket.create_connection(a, timeout=2); return s.recv(99).decode()
    except Exception as e: return type(e).__name__
print(ask(("127.0.0.1", 6060)), ask(("127.80.1.1", 6060)), ask(("127.96.1.1", 6060)))
for a in ["127.80.1.2", "127.64.0.1", "127.96.1.2"]:
    s = socket.socket()
    for p in (0, 7000):
        try: s.bind((a, p)); print("bound", a, p)
        except Exception as e: print(type(e).__name__)
"#;
    let answer = world.python(1, 0, own);
    let denied = ["PermissionError"; 6].join("\n");
    assert_eq!(answer, format!("mine 127.0.0.1 ConnectionRefusedError mine 127.0.0.1\n{denied}"));
    let other = world.python(1, 1, own);
    assert!(
        other.starts_with("ConnectionRefusedError ConnectionRefusedError ConnectionRefusedError"),
        "{other}"
    );
}

#[test]
fn a_service_address_is_nobody_elses() {
    let (world, _) = three();
    // A port that the service does not have is refused, though the host listens on all addresses.
    let host = std::net::TcpListener::bind("0.0.0.0:9000").unwrap();
    let answer = world.run(2, 0, "curl", &["-sS", "-m", "3", "http://127.64.0.1:9000/"]);
    assert!(answer.contains("Couldn't connect"), "{answer}");
    drop(host);
    // The host itself, no member, cannot reach it at all.
    let outside = std::process::Command::new("curl")
        .args(["-sS", "-m", "3", "http://127.64.0.1:8080/"])
        .output()
        .unwrap();
    assert!(!outside.status.success());
}

#[test]
fn a_restarted_loader_goes_on_with_what_is_pinned() {
    let (mut world, _) = three();
    world.python(2, 0, &calls(30));
    let before = world.stats(1, 0, 8080).connections;
    world.reopen();
    assert_eq!(world.stats(1, 0, 8080).connections, before, "counters were kept");
    let answer = world.python(2, 0, &calls(30));
    assert!(!answer.contains("Error"), "{answer}");
    assert_eq!(world.active(1, 3, 8080), 0);
}

#[test]
fn failures_eject_and_a_probe_brings_back() {
    let (mut world, _) = three();
    // A backend that is not looked at (as one of another host is) and that nobody serves.
    let mut service = (*world.wanted.services[&1]).clone();
    let backend = &mut service.ports[0].backends[1];
    backend.local = false;
    backend.port = 8081;
    backend.address6 = None;
    world.wanted.set_service(service);
    world.apply();
    let answer = world.python(2, 0, &calls(100));
    let stats = world.stats(1, 1, 8080);
    assert!(stats.refused >= 3 && stats.refused < 20 && stats.ejections >= 1, "{stats:?} {answer}");
    assert!(stats.ejected_now, "{stats:?}");
    let edge = world.kernel_edges(2, 1);
    assert_eq!(edge.ejected, stats.ejections, "the calls of one service ejected it");

    world.python_server(1, 1, &http("back").replace("8080", "8081"));
    eventually("its probe is due", || world.stats(1, 1, 8080).awaits_probe);
    // Whoever draws it first probes it; from then on it is one of three again.
    let answer = world.python(2, 0, &calls(200));
    let stats = world.stats(1, 1, 8080);
    assert!(!answer.contains("Error") && count(&answer, "back") >= 20, "{stats:?} {answer}");
    assert!(!stats.ejected_now && !stats.awaits_probe, "{stats:?}");
    assert_eq!(stats.failures_in_a_row, 0, "{stats:?}");
}

/// How often `word` answered, by what [`CALL`] printed.
fn count(answer: &str, word: &str) -> u32 {
    let behind = answer.split_once(&format!("('{word}', ")).map_or("0", |(_, behind)| behind);
    behind.split(')').next().unwrap().parse().unwrap()
}

/// One replica that is not looked at, as one of another host, and serves as the script says.
fn unlooked(server: &str) -> World {
    let mut world = World::new();
    world.service(1, 8080, Protocol::Tcp, 1);
    let mut service = (*world.wanted.services[&1]).clone();
    service.ports[0].backends[0].local = false;
    world.wanted.set_service(service);
    world.client(2);
    world.python_server(1, 0, server);
    world.kernel.sample_flows(1);
    world
}

/// Verdicts of the next connections that end, in their order.
fn verdicts(world: &mut World, n: usize) -> Vec<u32> {
    let mut next = || match world.wait(|event| matches!(event, Event::Flow(_))) {
        Event::Flow(flow) => flow.verdict,
        other => panic!("{other:?}"),
    };
    (0..n).map(|_| next()).collect()
}

#[test]
fn a_reset_is_the_backends_fault_unless_it_answered() {
    let mut world = unlooked(
        r#"
import socket, struct
l = socket.create_server(("0.0.0.0", 8080))
print("ready")
while True:
    c = l.accept()[0]
    if c.recv(9) == b"answer": c.sendall(b"well"); c.recv(9)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); c.close()
"#,
    );
    let script = r#"
import socket
def reset(say):
    s = socket.create_connection(("127.64.0.1", 8080), timeout=20); s.sendall(say)
    if say == b"answer": s.recv(9); s.sendall(b"more")
    try: s.recv(9); print("no reset")
    except ConnectionResetError: s.close()
reset(b"nothing"); reset(b"answer")
"#;
    assert_eq!(world.python(2, 0, script), "");
    assert_eq!(verdicts(&mut world, 2), [verdict::RESET; 2]);
    assert_eq!(world.kernel_edges(2, 1).reset, 2);
    let stats = world.stats(1, 0, 8080);
    assert_eq!((stats.reset, stats.failures_in_a_row, stats.active), (2, 1, 0), "{stats:?}");
}

#[test]
fn giving_up_is_the_callers_fault_until_it_has_asked_again() {
    // Its queue has place for one: whoever comes later is not answered.
    let mut world = unlooked(
        r#"
import socket, time
l = socket.socket(); l.bind(("0.0.0.0", 8080)); l.listen(0)
print("ready")
time.sleep(1000)
"#,
    );
    let script = r#"
import socket
first = socket.create_connection(("127.64.0.1", 8080), timeout=20)
def begin():
    s = socket.socket(); s.setblocking(False)
    try: s.connect(("127.64.0.1", 8080)); print("connected")
    except BlockingIOError: return s
begin().close()
retried = begin()
# `tcpi_retransmits`
while retried.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[2] == 0: pass
retried.close()
"#;
    assert_eq!(world.python(2, 0, script), "");
    assert_eq!(verdicts(&mut world, 2), [verdict::CANCELLED, verdict::TIMED_OUT]);
    let edge = world.kernel_edges(2, 1);
    assert_eq!((edge.cancelled, edge.timed_out, edge.reset), (1, 1, 0));
    let stats = world.stats(1, 0, 8080);
    assert_eq!((stats.timed_out, stats.active), (1, 0), "{stats:?}");
}

#[test]
fn redis_runs_unchanged_on_both_families() {
    let mut world = World::new();
    world.service(1, 6379, Protocol::Tcp, 2);
    world.client(2);
    for n in 0..2 {
        // Protected mode takes 127.0.0.1 alone for local.
        let arguments = ["--save", "", "--bind", "0.0.0.0", "::", "--protected-mode", "no"];
        world.start(1, n, "redis-server", &arguments);
        world.wait_listening(1, n);
    }
    for address in ["127.64.0.1", "fd53:696e:6577::1"] {
        for _ in 0..10 {
            let answer = world.run(2, 0, "redis-cli", &["-h", address, "ping"]);
            assert_eq!(answer, "PONG", "over {address}");
        }
    }
}

#[test]
fn what_a_caller_does_to_its_own_sockets_is_not_the_backends_fault() {
    let (world, _) = three();
    let script = r#"
import ctypes, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
for i in range(60):
    s = socket.create_connection(("127.64.0.1", 8080))
    assert libc.connect(s.fileno(), struct.pack("H14x", 0), 16) == 0
    if i % 2: s.listen()
    s.close()
print("done")
"#;
    assert_eq!(world.python(2, 0, script), "done");
    assert_eq!(world.active(1, 3, 8080), 0, "no record stays behind");
    for n in 0..3 {
        assert_eq!(world.stats(1, n, 8080).ejections, 0, "replica {n}");
    }
}

#[test]
fn nothing_stays_behind() {
    let pins;
    let routes = || run("ip", &["route", "show", "table", "local"]);
    let six = || {
        ["addr", "rule", "route show table all"].map(|what| {
            let arguments: Vec<_> = ["-6"].into_iter().chain(what.split(' ')).collect();
            run("ip", &arguments).matches("fd53:696e:6577:").count()
        })
    };
    {
        let (world, _) = three();
        pins = world.pins().to_owned();
        assert!(pins.exists());
        assert!(routes().contains("unreachable 127.64.0.0/12"));
        assert_eq!(six(), [8, 1, 3], "none for an address");
    }
    assert!(!pins.exists());
    assert!(!routes().contains("127.64") && !routes().contains("127.80"), "{}", routes());
    assert_eq!(six(), [0, 0, 0]);
}

#[test]
fn the_wildcard_is_ones_own_localhost() {
    let mut world = World::new();
    world.client(2);
    let answer = world.python(
        2,
        0,
        r#"
import socket
l = socket.socket(); l.bind(("127.0.0.1", 7777)); l.listen()
l6 = socket.socket(socket.AF_INET6); l6.bind(("::1", 7778)); l6.listen()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 7779))
for family, address, port in [
    (socket.AF_INET, "0.0.0.0", 7777), (socket.AF_INET6, "::ffff:0.0.0.0", 7777), (socket.AF_INET6, "::", 7778),
]:
    s = socket.socket(family); s.settimeout(5)
    try: s.connect((address, port)); print(s.getpeername()[0])
    except OSError as e: print(address, e)
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
c.sendto(b"hello", ("0.0.0.0", 7779))
u.settimeout(5)
print(u.recv(9))
"#,
    );
    assert_eq!(answer, "127.0.0.1\n::ffff:127.0.0.1\n::1\nb'hello'");
}

/// A process that is no member and listens where replica 1 of service 1 would.
struct Stranger(std::process::Child);

impl Stranger {
    fn start() -> Self {
        let script = format!(
            r#"
import socket
four = socket.socket(); four.bind(("127.80.1.2", 8080)); four.listen()
six = socket.socket(socket.AF_INET6); six.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
six.bind(("{}", 8080)); six.listen()
own = socket.socket(); own.bind(("127.80.2.1", 9090)); own.listen()
print("listening", flush=True)
import select
while True:
    for s in select.select([four, six, own], [], [])[0]:
        c = s.accept()[0]; c.sendall(b"HTTP/1.0 200 OK\r\n\r\nstranger"); c.close()
"#,
            instance6(1, 1)
        );
        let mut child = std::process::Command::new("python3")
            .args(["-c", &script])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "listening\n");
        Self(child)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stranger_at_a_members_address_is_not_taken_for_it() {
    let (mut world, pids) = three();
    world.kill(pids[1]);
    let _stranger = Stranger::start();
    let nobody_meets_it = |world: &World| {
        for address in ["127.64.0.1".to_owned(), service6(1).to_string()] {
            let answer = world.python(2, 0, &calls(100).replace("127.64.0.1", &address));
            assert!(!answer.contains("stranger") && !answer.contains("Error"), "{answer}");
        }
        let own = world.python(
            2,
            0,
            r#"
import socket
try: socket.create_connection(("127.0.0.1", 9090)); print("connected")
except OSError as e: print(type(e).__name__)
"#,
        );
        assert_eq!(own, "ConnectionRefusedError", "own localhost");
    };
    nobody_meets_it(&world);
    // The scan of a restart meets its sockets.
    world.reopen();
    nobody_meets_it(&world);
}

#[test]
fn a_listener_in_a_cgroup_of_the_programs_own_is_found() {
    let mut world = World::new();
    world.service(1, 8080, Protocol::Tcp, 1);
    // Then the look-up has to find it.
    let instance = world.wanted.instances[&(1 << 32)].as_ref().clone();
    world.wanted.set_instance(sinew_datapath::Instance { watch_listen: false, ..instance });
    world.client(2);
    world.python_server(
        1,
        0,
        r#"
import os, socket
def own():
    line = [l for l in open("/proc/self/cgroup") if l.startswith("0::")][0]
    mounts = [l.split() for l in open("/proc/self/mountinfo") if " - cgroup2 " in l]
    return mounts[0][4] + line[3:].strip()
at = own() + "/a/b"
os.makedirs(at)
open(at + "/cgroup.procs", "w").write("0")
l = socket.socket(); l.bind(("0.0.0.0", 8080)); l.listen()
open(os.path.dirname(os.path.dirname(at)) + "/cgroup.procs", "w").write("0")
os.rmdir(at); os.rmdir(os.path.dirname(at))
print("ready")
while True: l.accept()[0].sendall(b"nested")
"#,
    );
    let call = r#"
import socket
print(socket.create_connection(("127.64.0.1", 8080), timeout=5).recv(9))
"#;
    assert_eq!(world.python(2, 0, call), "b'nested'");
    world.reopen();
    assert_eq!(world.python(2, 0, call), "b'nested'");
}
