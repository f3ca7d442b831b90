//! `sinew explain` held against what the kernel then does with real connections.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStdout, Stdio},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::world::{World, eventually_or, kill};

/// Says which replica it is, and keeps the connection until its caller leaves. It resets callers
/// while there is `bad-REPLICA`, and says nothing while there is `mute-REPLICA`; SIGUSR1 closes its listener, SIGUSR2 opens it again.
const SERVER: &str = r#"
import os, signal, socket, struct, threading
me = os.environ["SINEW_REPLICA"]
def serve(c):
    if os.path.exists("bad-" + me):
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    else:
        try:
            if not os.path.exists("mute-" + me): c.sendall(me.encode())
            c.recv(1)
        except OSError: pass
    c.close()
def accept(l):
    while True:
        try: c = l.accept()[0]
        except OSError: return
        threading.Thread(target=serve, args=(c,), daemon=True).start()
def listen():
    global l
    l = socket.create_server(("0.0.0.0", 8000), backlog=128)
    threading.Thread(target=accept, args=(l,), daemon=True).start()
def close(*_):
    l.shutdown(socket.SHUT_RDWR); l.close()
signal.signal(signal.SIGUSR1, close)
signal.signal(signal.SIGUSR2, lambda *_: listen())
listen()
while True: signal.pause()
"#;

/// A drawn one is taken whatever its load is, so that every fit one is met by enough calls.
fn file(replicas: u32, outlier: &str) -> String {
    format!(
        "
name: trial
services:
  web:
    command: [python3, server.py]
    port: 8000
    replicas: {replicas}
    balance: random
    outlier: {outlier}
    health: {{exec: 'test ! -e \"sick-$$SINEW_REPLICA\"', interval: 100ms, timeout: 20s, unhealthy_threshold: 2}}
"
    )
}

fn up(replicas: u32, outlier: &str) -> World {
    let world = World::new();
    fs::write(world.path("server.py"), SERVER).unwrap();
    world.file(&file(replicas, outlier));
    world.run(&["up", "-d"]);
    world
}

fn explain(world: &World) -> Value {
    world.json(&["explain", "exec", "web"])
}

fn codes(answer: &Value) -> BTreeMap<String, String> {
    let endpoints = answer["endpoints"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    endpoints.map(|e| (text(&e["workload"]), text(&e["code"]))).collect()
}

/// Waits until this is what is found of a replica.
fn found(world: &World, replica: u32, code: &str, mut provoke: impl FnMut()) {
    let say = || world.run(&["explain", "exec", "web"]);
    eventually_or(&format!("web/{replica} is {code}"), say, || {
        provoke();
        codes(&explain(world))[&format!("web/{replica}")] == code
    });
}

/// Calls so many times, and tells who answered; what fails is told by its name.
fn answers(world: &World, calls: u32) -> BTreeSet<String> {
    let script = format!(
        r#"
import socket
for i in range({calls}):
    try:
        s = socket.create_connection(("web", 8000), timeout=20)
        print("web/" + s.recv(9).decode())
        s.close()
    except Exception as e: print(type(e).__name__)
"#
    );
    world.member(&script).lines().map(str::to_owned).collect()
}

/// The kernel takes those that are said to be taken, and nobody else. On a busy machine one may take
/// a moment to accept who came last.
#[track_caller]
fn agrees(world: &World, takes: &[&str]) {
    let say = || world.run(&["explain", "exec", "web"]);
    eventually_or(&format!("{takes:?} are taken"), say, || {
        let answer = explain(world);
        let told = answer["takes"].as_array().unwrap().iter().map(|w| w.as_str().unwrap());
        told.eq(takes.iter().copied())
    });
    assert_eq!(answers(world, 300), takes.iter().map(|&name| name.to_owned()).collect());
}

/// A caller that holds what it opened, and reads when its input ends.
struct Holder {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Holder {
    fn open(world: &World, connections: u32) -> Self {
        let script = format!(
            r#"
import socket, sys
held = [socket.create_connection(("web", 8000), timeout=60) for i in range({connections})]
print("open", flush=True)
sys.stdin.read()
for s in held: print("web/" + s.recv(9).decode(), flush=True)
"#
        );
        let mut child = world.sinew(&["exec", "--", "python3", "-c", &script]);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut holder = Self { child, lines };
        assert_eq!(holder.lines.next().unwrap().unwrap(), "open");
        holder
    }

    /// Who has them.
    fn read(mut self) -> BTreeSet<String> {
        drop(self.child.stdin.take());
        self.lines.by_ref().map(Result::unwrap).collect()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn signal(world: &World, replica: u64, signal: Signal) {
    kill(world.pid("web", replica), signal).unwrap();
}

#[test]
fn each_is_found_as_the_kernel_treats_it() {
    let world = up(7, "{consecutive_failures: 2, base: 10m, max: 10m}");
    let all: Vec<String> = (0..7).map(|n| format!("web/{n}")).collect();
    agrees(&world, &all.iter().map(String::as_str).collect::<Vec<_>>());

    fs::write(world.path("bad-2"), "").unwrap();
    found(&world, 2, "ejected", || drop(answers(&world, 20)));
    fs::write(world.path("sick-4"), "").unwrap();
    found(&world, 4, "unhealthy", || ());
    signal(&world, 5, Signal::USR1);
    found(&world, 5, "no-listener", || ());
    let held = Holder::open(&world, 60);
    world.run(&["drain", "web/3", "--no-wait"]);
    // Those that it swallows leave a queue.
    signal(&world, 1, Signal::STOP);
    found(&world, 1, "hung", || drop(Holder::open(&world, 20)));

    agrees(&world, &["web/0", "web/6"]);
    let answer = explain(&world);
    let expected = ["fit", "hung", "ejected", "draining", "unhealthy", "no-listener", "fit"]
        .map(str::to_owned);
    assert_eq!(codes(&answer), all.iter().cloned().zip(expected).collect(), "{answer:#}");
    assert_eq!(answer["decision"], "fit");
    let text = world.run(&["explain", "exec", "web"]);
    assert!(text.contains("takes   one of web/0, web/6"), "{text}");

    signal(&world, 1, Signal::CONT);
    found(&world, 1, "fit", || ());
    fs::remove_file(world.path("sick-4")).unwrap();
    found(&world, 4, "fit", || ());
    signal(&world, 5, Signal::USR2);
    found(&world, 5, "fit", || ());
    drop(held);
    fs::remove_file(world.path("bad-2")).unwrap();
    agrees(&world, &["web/0", "web/1", "web/4", "web/5", "web/6"]);
}

#[test]
fn with_nobody_fit_it_tells_of_panic_and_of_refusal() {
    let world = up(2, "{}");
    assert_eq!(answers(&world, 40).len(), 2, "each of them was seen to keep up");
    for replica in [0, 1] {
        signal(&world, replica, Signal::STOP);
        let replica = u32::try_from(replica).unwrap();
        found(&world, replica, "hung", || drop(Holder::open(&world, 10)));
    }
    let answer = explain(&world);
    assert_eq!(answer["decision"], "panic", "{answer:#}");
    assert_eq!(answer["takes"].as_array().unwrap().len(), 2, "{answer:#}");
    let held = Holder::open(&world, 20);
    for replica in [0, 1] {
        signal(&world, replica, Signal::CONT);
    }
    assert_eq!(held.read().len(), 2, "both were taken");

    for replica in [0, 1] {
        signal(&world, replica, Signal::USR1);
        found(&world, u32::try_from(replica).unwrap(), "no-listener", || ());
    }
    let answer = explain(&world);
    assert_eq!(
        (&answer["decision"], &answer["takes"]),
        (&"no-backend".into(), &Value::Array(vec![]))
    );
    assert_eq!(answers(&world, 1), ["ConnectionRefusedError".to_owned()].into());
}

#[test]
fn an_ejection_that_ended_waits_for_its_probe() {
    let world = up(2, "{consecutive_failures: 1, base: 100ms, max: 100ms}");
    fs::write(world.path("bad-1"), "").unwrap();
    found(&world, 1, "probe-due", || drop(answers(&world, 4)));
    fs::remove_file(world.path("bad-1")).unwrap();
    // Until who probes closes its connection nobody knows how it went.
    let mut held = Vec::new();
    found(&world, 1, "probing", || held.push(Holder::open(&world, 20)));
    drop(held);
    found(&world, 1, "fit", || drop(answers(&world, 20)));
    agrees(&world, &["web/0", "web/1"]);
}

#[test]
fn an_ejection_is_counted_where_people_look() {
    let world = up(2, "{consecutive_failures: 2, base: 10m, max: 10m}");
    fs::write(world.path("bad-1"), "").unwrap();
    found(&world, 1, "ejected", || drop(answers(&world, 10)));
    let frame = world.json(&["top", "--once"]);
    let edge = frame["edges"].as_array().unwrap().iter().find(|edge| edge["to"] == "web").unwrap();
    assert_eq!((&edge["from"], &edge["ejections"]), (&"exec".into(), &1.into()), "{frame:#}");
    let [well, bad] = frame["endpoints"].as_array().unwrap().as_slice() else {
        panic!("{frame:#}")
    };
    assert_eq!((&well["ejected"], &well["ejections"]), (&false.into(), &0.into()), "{frame:#}");
    assert_eq!((&bad["ejected"], &bad["ejections"]), (&true.into(), &1.into()), "{frame:#}");
    // A failed connection counts when its caller closes it, which may be after the next one began.
    assert!(bad["failures"].as_u64().unwrap() >= 2, "{frame:#}");
    let text = world.run(&["top", "--once"]);
    assert!(text.lines().any(|line| line.starts_with("web/1:8000  up, ejected ")), "{text}");

    let page = world.text("/v1/metrics");
    let value = |series: &str| {
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{series}: {page}")).parse::<u64>().unwrap()
    };
    assert_eq!(value(r#"sinew_edge_ejections_total{source="none",destination="web"}"#), 1);
    let of = |workload: &str| {
        format!(r#"{{service="web",workload="{workload}",port="8000",protocol="tcp"}}"#)
    };
    assert_eq!(value(&format!("sinew_backend_ejections_total{}", of("web/1"))), 1);
    for workload in ["web/0", "web/1"] {
        let connections = value(&format!("sinew_backend_connections_total{}", of(workload)));
        for histogram in ["connect", "connection_duration"] {
            let count = format!("sinew_backend_{histogram}_seconds_count{}", of(workload));
            assert_eq!(value(&count), connections, "{page}");
        }
    }
}

#[test]
fn who_accepts_and_never_answers_is_not_noticed() {
    let world = up(2, "{consecutive_failures: 1}");
    fs::write(world.path("mute-1"), "").unwrap();
    // Callers give up; how many of them met it is chance.
    let gives_up = "
import socket
for i in range(40):
    s = socket.create_connection(('web', 8000)); s.settimeout(0.02)
    try: print('web/' + s.recv(9).decode())
    except TimeoutError: print('nothing')
    s.close()";
    assert!(world.member(gives_up).contains("nothing"));
    eventually_or(
        "both are taken",
        || world.run(&["explain", "exec", "web"]),
        || explain(&world)["outcome"] == "one of web/0, web/1",
    );
    let answer = explain(&world);
    assert_eq!(codes(&answer)["web/1"], "fit", "docs/datapath.md says so: {answer:#}");
    assert_eq!(answer["endpoints"][1]["failures_in_a_row"], 0, "{answer:#}");
}
