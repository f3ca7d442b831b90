//! Published ports: callers of the host, from itself and from elsewhere.

use sinew_datapath::{Published, Service};
use sinew_model::Protocol;

use crate::{
    outside::{HOST4, HOST6, OUT4, Outside},
    world::{World, run, signal},
};

/// A server that answers with its number and with both ends of the connection.
fn server(n: u32, make: &str) -> String {
    format!(
        r#"
import socket
{make}
s.listen(64)
print("ready")
while True:
    c, a = s.accept(); c.sendall(("%d %s %s %d" % ({n}, a[0], *c.getsockname()[:2])).encode()); c.close()
"#
    )
}

const V4: &str = "s = socket.socket(); s.bind(('0.0.0.0', 7007))";
const DUAL: &str =
    "s = socket.socket(socket.AF_INET6); s.setsockopt(41, 26, 0); s.bind(('::', 7007))";
const ONLY6: &str =
    "s = socket.socket(socket.AF_INET6); s.setsockopt(41, 26, 1); s.bind(('::', 7007))";

/// Prints what each of some calls gets: an answer or the kind of error.
fn ask(to: &[&str], port: u16) -> String {
    format!(
        r#"
import socket
for to in {to:?}:
    try:
        s = socket.create_connection((to, {port}), timeout=5)
        print(s.recv(200).decode())
    except Exception as e: print(type(e).__name__)
"#
    )
}

/// Prints how many of 300 calls each replica answered.
fn shares(to: &str) -> String {
    format!(
        r#"
import socket, collections
c = collections.Counter()
for i in range(300):
    try:
        s = socket.create_connection(("{to}", 8000), timeout=5)
        c[s.recv(200).decode().split(" ")[0]] += 1
    except Exception as e: c[type(e).__name__] += 1
print(*["%s=%d" % x for x in sorted(c.items())])
"#
    )
}

fn counts(text: &str) -> Vec<(String, u32)> {
    let pairs = text.split_whitespace().map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(who, n)| (who.to_owned(), n.parse().unwrap())).collect()
}

/// Publishes the service there and nowhere else.
fn publish(world: &mut World, hosts: &[&str]) {
    let at = |host: &&str| Published { host: host.parse().unwrap(), port: 7007 };
    change(world, |service| service.published = hosts.iter().map(at).collect());
}

fn change(world: &mut World, change: impl FnOnce(&mut Service)) {
    let mut service = (*world.wanted.services[&1]).clone();
    change(&mut service);
    world.wanted.set_service(service);
    world.apply();
}

fn world(servers: &[&str], at: &str) -> (World, Vec<u32>) {
    let mut world = World::new();
    world.service(1, 7007, Protocol::Tcp, servers.len() as u32);
    world.client(2);
    let pids = (0..).zip(servers).map(|(n, make)| world.python_server(1, n, &server(n, make)));
    let pids = pids.collect::<Vec<_>>();
    for n in 0..servers.len() as u32 {
        world.wait_listening(1, n);
    }
    publish(&mut world, &[at]);
    (world, pids)
}

#[test]
fn callers_from_everywhere_share_the_replicas() {
    let (world, _) = world(&[V4, V4, V4], "0.0.0.0:8000");
    let outside = Outside::new();
    for answer in [outside.python(&shares(HOST4)), run("python3", &["-c", &shares("127.0.0.1")])] {
        let counts = counts(&answer);
        let replicas: Vec<&str> = counts.iter().map(|(who, _)| who.as_str()).collect();
        assert_eq!(replicas, ["0", "1", "2"], "{answer}");
        assert!(counts.iter().all(|(_, n)| *n > 50), "{answer}");
    }
    let member = world.python(2, 0, &shares(HOST4));
    assert_eq!(counts(&member).len(), 3, "a member that calls the host: {member}");
    let stats: u64 = (0..3).map(|n| world.stats(1, n, 7007).connections).sum();
    assert_eq!(stats, 900);
    let edge = world.kernel_edges(sinew_abi::OUTSIDE, 1);
    assert_eq!((edge.connects(), edge.no_backend), (900, 0));
    assert_eq!(world.active(1, 3, 7007), 0, "connections of strangers are not counted in flight");
}

#[test]
fn both_ends_bear_the_addresses_that_were_called() {
    let (_world, _) = world(&[V4], "0.0.0.0:8000");
    let outside = Outside::new();
    assert_eq!(outside.python(&ask(&[HOST4], 8000)), format!("0 {OUT4} {HOST4} 8000"));
}

#[test]
fn each_kind_of_listener_takes_what_it_can() {
    let targets = [HOST4, HOST6, "127.0.0.1", "::1"];
    for (make, wanted) in [
        (V4, ["0 10.77.0.2 10.77.0.1 8000", "ConnectionRefusedError"]),
        (DUAL, ["0 ::ffff:10.77.0.2 ::ffff:10.77.0.1 8000", "0 fd77::2 fd77::1 8000"]),
        (ONLY6, ["ConnectionRefusedError", "0 fd77::2 fd77::1 8000"]),
    ] {
        let (_world, _) = world(&[make], "[::]:8000");
        let outside = Outside::new();
        assert_eq!(outside.python(&ask(&targets[..2], 8000)), wanted.join("\n"), "{make}");
        let own = run("python3", &["-c", &ask(&targets[2..], 8000)]);
        let answered = |line: &str| line.starts_with("0 ");
        let own: Vec<bool> = own.lines().map(answered).collect();
        assert_eq!(own, wanted.map(answered), "{make}, over loopback");
    }
}

#[test]
fn the_address_that_is_published_and_no_other() {
    let (mut world, _) = world(&[V4], "127.0.0.1:8000");
    let outside = Outside::new();
    let local = |to: &str| run("python3", &["-c", &ask(&[to], 8000)]);
    assert!(local("127.0.0.1").starts_with("0 "));
    assert_eq!(local(HOST4).trim(), "ConnectionRefusedError");
    assert_eq!(outside.python(&ask(&[HOST4], 8000)), "ConnectionRefusedError");
    publish(&mut world, &[&format!("{HOST4}:8000")]);
    assert_eq!(local("127.0.0.1").trim(), "ConnectionRefusedError");
    assert!(outside.python(&ask(&[HOST4], 8000)).starts_with("0 "));
    publish(&mut world, &["0.0.0.0:8000"]);
    let instance = local("127.80.1.1");
    assert_eq!(instance.trim(), "ConnectionRefusedError", "instances' addresses are their own");
    world.reopen();
    assert!(outside.python(&ask(&[HOST4], 8000)).starts_with("0 "), "taken up by the next agent");
    assert!(world.pins().join("links/published").exists());
    publish(&mut world, &[]);
    assert_eq!(outside.python(&ask(&[HOST4], 8000)), "ConnectionRefusedError");
    assert!(!world.pins().join("links/published").exists(), "nobody pays any more");
}

#[test]
fn killed_replicas_are_not_met_and_none_is_a_refusal() {
    let (mut world, pids) = world(&[V4, V4, V4], "0.0.0.0:8000");
    let outside = Outside::new();
    world.kill(pids[1]);
    let left = outside.python(&shares(HOST4));
    let names: Vec<_> = counts(&left).into_iter().map(|(who, _)| who).collect();
    assert_eq!(names, ["0", "2"], "{left}");
    world.kill(pids[0]);
    world.kill(pids[2]);
    assert_eq!(outside.python(&ask(&[HOST4], 8000)), "ConnectionRefusedError");
    assert_eq!(world.kernel_edges(sinew_abi::OUTSIDE, 1).no_backend, 1);
    // The service leaves the choice altogether.
    change(&mut world, |service| service.ports[0].backends.clear());
    assert_eq!(outside.python(&ask(&[HOST4], 8000)), "ConnectionRefusedError");
}

#[test]
fn a_listener_that_came_unwatched_is_found() {
    let mut world = World::new();
    world.service(1, 7007, Protocol::Tcp, 1);
    publish(&mut world, &["127.0.0.1:8000"]);
    let watch = |world: &mut World, on: bool| {
        let mut instance = (*world.wanted.instances[&(1 << 32)]).clone();
        instance.watch_listen = on;
        world.wanted.set_instance(instance);
        world.apply();
    };
    watch(&mut world, false);
    world.python_server(1, 0, &server(0, V4));
    let call = || run("python3", &["-c", &ask(&["127.0.0.1"], 8000)]);
    assert_eq!(call().trim(), "ConnectionRefusedError", "the kernel was not told of it");
    watch(&mut world, true);
    assert!(call().starts_with("0 "));
}

#[test]
fn a_hung_replica_is_passed_over() {
    let (world, pids) = world(&[V4, V4, V4], "0.0.0.0:8000");
    let outside = Outside::new();
    signal(pids[1], rustix::process::Signal::STOP);
    // What it swallows teaches the kernel; each of these waits for the time-out.
    let lesson =
        shares(HOST4).replace("range(300)", "range(40)").replace("timeout=5", "timeout=0.2");
    outside.python(&lesson);
    let left = outside.python(&shares(HOST4));
    let names: Vec<_> = counts(&left).into_iter().map(|(who, _)| who).collect();
    assert_eq!(names, ["0", "2"], "{left}");
    signal(pids[1], rustix::process::Signal::CONT);
    drop(world);
}

#[test]
fn a_source_keeps_its_replica() {
    let (mut world, _) = world(&[V4, V4, V4], "0.0.0.0:8000");
    let timeout = std::time::Duration::from_secs(60);
    let source = sinew_model::Balance::Source { timeout };
    change(&mut world, |service| service.ports[0].balance = source);
    let outside = Outside::new();
    assert_eq!(counts(&outside.python(&shares(HOST4))).len(), 1);
}
