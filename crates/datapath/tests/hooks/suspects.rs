//! A host that is gone: calls go elsewhere long before each endpoint there is ejected for itself.

use std::sync::Arc;

use sinew_abi::Suspicion;
use sinew_datapath::{Datapath as _, Peer, Service};
use sinew_model::Protocol::Tcp;

use crate::{
    hosts::{Hosts, change, peer},
    world::{World, eventually},
};

/// Answers each call with the same word.
fn server(word: &str) -> String {
    format!(
        r#"
import socket, threading
s = socket.socket(); s.bind(("0.0.0.0", 7007)); s.listen(512)
kept = []
def serve(c):
    while c.recv(9): c.sendall(b"{word}\n")
print("ready")
while True:
    c, a = s.accept(); kept.append(c); threading.Thread(target=serve, args=(c,), daemon=True).start()
"#
    )
}

/// Who answers so many calls, one after the other; how many failed, and the longest time of one.
fn calls(count: u32) -> String {
    format!(
        r#"
import socket, collections, time
c = collections.Counter(); worst = 0
for i in range({count}):
    begun = time.monotonic()
    try:
        s = socket.create_connection(("127.64.0.1", 7007), timeout=20); s.send(b"x")
        c[s.recv(9).decode().strip()] += 1
    except OSError as e: c[type(e).__name__] += 1
    worst = max(worst, time.monotonic() - begun)
print(dict(sorted(c.items())), worst > 8)
"#
    )
}

/// A caller on host 1, and the service on hosts 2 and 3.
fn world() -> Hosts {
    let mut hosts = Hosts::new(3);
    for (host, word) in [(2, "two"), (3, "three")] {
        hosts.host(host).on(|world| {
            world.service(1, 7007, Tcp, 1);
            world.python_server(1, 0, &server(word));
            world.wait_listening(1, 0);
        });
    }
    hosts.host(1).on(|world| world.client(2));
    for host in 1..=3 {
        hosts.host(host).join(3);
    }
    for host in [2, 3] {
        hosts.host(1).elsewhere(1, Tcp, 7007, host);
    }
    // No endpoint is ejected for itself: what is passed over is passed over for its host.
    let never = |service: &mut Service| service.ports[0].outlier.consecutive_failures = 0;
    hosts.host(1).on(|world| change(world, 1, never));
    hosts
}

fn held(world: &World, host: u32) -> Suspicion {
    world.hash::<u32, Suspicion>("NODES").get(&peer(host).number, 0).unwrap()
}

fn connections(world: &World, host: u32) -> u64 {
    world.stats(1, 1000 * host, 7007).connections
}

/// Calls that begin in the background until a host is under suspicion.
fn until_suspect(hosts: &mut Hosts, host: u32) {
    hosts.host(1).on(|world| {
        let script = calls(30).replace("print(", "time.sleep(1000); print(");
        let script = format!("print('ready')\n{script}");
        world.python_server_in(&world.base().join("members/2-0"), &script);
        eventually("the host is under suspicion", || held(world, host).until_ns != 0);
    });
}

#[test]
fn calls_pass_over_a_host_that_is_cut_while_another_answers() {
    let mut hosts = world();
    let before = hosts.host(1).on(|world| world.python(2, 0, &calls(40)));
    assert!(before.contains("'three'") && before.contains("'two'"), "{before}");
    hosts.cut(2, true);
    until_suspect(&mut hosts, 2);
    hosts.host(1).on(|world| {
        assert!(world.stats(1, 2000, 7007).suspect && !world.stats(1, 3000, 7007).suspect);
        assert!(world.kernel.totals().unwrap().suspicions > 0);
    });
    // What tries it meanwhile is a probe, at most one a suspicion; the others never meet it.
    let (sent, rounds) =
        hosts.host(1).on(|world| (connections(world, 2), held(world, 2).suspicions));
    let answers = hosts.host(1).on(|world| world.python(2, 0, &calls(60)));
    let (sent_now, rounds_now) =
        hosts.host(1).on(|world| (connections(world, 2), held(world, 2).suspicions));
    assert!(sent_now - sent <= rounds_now - rounds + 1, "{sent} {sent_now} {rounds} {rounds_now}");
    let [all, most] = [60, 59].map(|n| answers.contains(&format!("'three': {n}")));
    assert!(all || most || sent_now - sent > 1, "{answers}");
    assert!(hosts.host(1).on(|world| world.kernel.totals().unwrap()).suspects_passed > 0);

    // It comes back, and a probe finds out.
    hosts.cut(2, false);
    hosts.host(1).on(|world| {
        eventually("an answer ends it", || {
            world.python(2, 0, &calls(4));
            held(world, 2).until_ns == 0
        });
        let answers = world.python(2, 0, &calls(40));
        assert!(answers.contains("'three'") && answers.contains("'two'"), "{answers}");
    });
}

#[test]
fn callers_are_spared_while_somebody_else_tries() {
    let mut hosts = world();
    hosts.cut(2, true);
    until_suspect(&mut hosts, 2);
    let node = peer(2).number;
    hosts.host(1).on(|world| {
        let callees = world.kernel.callees().unwrap();
        let suspects: Vec<_> = callees.iter().filter(|callee| callee.suspect).collect();
        assert_eq!(suspects.iter().map(|suspect| suspect.node).collect::<Vec<_>>(), [node]);
        assert_eq!((callees.len(), suspects[0].endpoint.port()), (2, 7007));
        let until_ns = held(world, 2).until_ns;
        world.kernel.tried(node, false).unwrap();
        assert!(held(world, 2).until_ns > until_ns, "put off");
    });
    hosts.cut(2, false);
    hosts.host(1).on(|world| {
        world.kernel.tried(node, true).unwrap();
        assert_eq!(held(world, 2).until_ns, 0);
        let callees = world.kernel.callees().unwrap();
        assert!(callees.iter().all(|callee| !callee.suspect));
        // The kernel there answers for all of its slice, and no program hears of it.
        let quiet = callees.iter().find(|callee| callee.node == node).unwrap().quiet.unwrap();
        let refused = std::net::TcpStream::connect(quiet).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        // Who says that a host is silent is believed.
        world.kernel.tried(node, false).unwrap();
        assert!(held(world, 2).until_ns != 0);
        world.kernel.tried(node, true).unwrap();
        let answers = world.python(2, 0, &calls(40));
        assert!(answers.contains("'three'") && answers.contains("'two'"), "{answers}");
    });
}

#[test]
fn a_call_to_hosts_that_are_all_gone_ends_in_seconds() {
    let mut hosts = world();
    hosts.cut(2, true);
    hosts.cut(3, true);
    let answers = hosts.host(1).on(|world| world.python(2, 0, &calls(2)));
    // The kernel's neighbour table may know it by then, and says so.
    let failed = ["{'TimeoutError': 2} False", "{'OSError': 2} False"];
    assert!(failed.contains(&&answers[..]), "{answers}");
    hosts.host(1).on(|world| {
        let stats = [2000, 3000].map(|n| world.stats(1, n, 7007));
        // What the neighbour table knows to be away is refused at once.
        let failed = stats.map(|stats| stats.timed_out + stats.refused);
        assert_eq!(failed.iter().sum::<u64>(), 2, "held against them");
    });
}

#[test]
fn a_program_that_gives_up_sooner_keeps_that() {
    let mut hosts = world();
    let script = r#"
import socket
for own in [None, 1]:
    s = socket.socket()
    if own: s.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, own)
    s.connect(("127.64.0.1", 7007))
    print(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT))
"#;
    assert_eq!(hosts.host(1).on(|world| world.python(2, 0, script)), "3\n1");
}

#[test]
fn connections_with_a_host_that_is_gone_are_closed_at_both_ends_and_no_others() {
    let mut hosts = world();
    let caller = r#"
import socket
all = []
while len(all) < 40:
    s = socket.create_connection(("127.64.0.1", 7007)); s.send(b"x")
    all.append((s, s.recv(9).decode().strip()))
print("ready", flush=True)
ended = {"two": 0, "three": 0}
for s, who in all:
    s.settimeout(0.05 if who == "three" else 20)
    try: s.recv(9)
    except ConnectionAbortedError: ended[who] += 1
    except TimeoutError: pass
all = {who: sum(1 for _, w in all if w == who) for who in ended}
open("PLACE", "w").write("%s %s" % (ended["two"] == all["two"] > 0, ended["three"]))
"#;
    let place = std::env::temp_dir().join(format!("sinew-hooks-close-{}", std::process::id()));
    let script = caller.replace("PLACE", place.to_str().unwrap());
    hosts.host(1).on(|world| {
        world.python_server_in(&world.base().join("members/2-0"), &script);
        let closed = world.kernel.close_host(&peer(2)).unwrap();
        assert!(closed > 0);
        eventually("the caller has heard of it", || {
            std::fs::read_to_string(&place).is_ok_and(|said| said == "True 0")
        });
        assert_eq!(world.kernel.close_host(&peer(2)).unwrap(), 0);
    });
    let _ = std::fs::remove_file(&place);
    // The other end of those that were cut off.
    let closed = hosts.host(3).on(|world| world.kernel.close_host(&peer(1)).unwrap());
    assert!(closed > 0);
}

#[test]
fn datagram_sockets_that_are_connected_with_a_host_that_is_gone_hear_of_it() {
    let mut hosts = world();
    let slice = peer(2).slices[0];
    let caller = format!(
        r#"
import errno, os, select, socket
kept, lost = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in "ab")
kept.connect(("10.9.0.3", 7099)); lost.connect(("{}", 7099))
print("ready", flush=True)
select.select([lost], [], [])
codes = [s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for s in (lost, kept)]
open("PLACE", "w").write(str(codes == [errno.ECONNABORTED, 0]))
"#,
        slice.address()
    );
    let place = std::env::temp_dir().join(format!("sinew-hooks-udp-{}", std::process::id()));
    let script = caller.replace("PLACE", place.to_str().unwrap());
    hosts.host(1).on(|world| {
        world.python_server_in(&world.base().join("members/2-0"), &script);
        assert_eq!(world.kernel.close_host(&peer(2)).unwrap(), 1);
        eventually("the caller has heard of it", || {
            std::fs::read_to_string(&place).is_ok_and(|said| said == "True")
        });
    });
    let _ = std::fs::remove_file(&place);
}

#[test]
fn what_is_no_members_stays_open_when_a_host_is_closed_to() {
    let mut hosts = world();
    // A program of the host that is connected with the other host's own address.
    hosts.host(2).on(|world| {
        let outside = world.outside("other");
        world.python_server_in(&outside, &server("other").replace("7007", "7099"));
    });
    let call = r#"
import socket, time
s = socket.create_connection(("10.9.0.2", 7099)); s.send(b"x"); s.recv(9)
print("ready", flush=True)
time.sleep(1000)
"#;
    hosts.host(1).on(|world| {
        let outside = world.outside("mine");
        world.python_server_in(&outside, call);
        assert_eq!(world.kernel.close_host(&peer(2)).unwrap(), 0, "it is no member");
        world.python_server_in(&world.base().join("members/2-0"), call);
        let claimed = Peer { proven: Vec::new(), ..peer(2) };
        assert_eq!(world.kernel.close_host(&claimed).unwrap(), 0, "it only says that it is there");
        assert_eq!(world.kernel.close_host(&peer(2)).unwrap(), 1);
    });
}

#[test]
fn a_host_that_is_forgotten_is_under_no_suspicion() {
    let mut hosts = world();
    hosts.cut(2, true);
    until_suspect(&mut hosts, 2);
    hosts.host(1).on(|world| {
        let peers = &mut world.wanted.fleet.as_mut().unwrap().peers;
        let gone = peers.remove(&"h2".parse::<sinew_model::NodeName>().unwrap()).unwrap();
        world.apply();
        let peers = &mut world.wanted.fleet.as_mut().unwrap().peers;
        peers.insert("h2".parse().unwrap(), Arc::clone(&gone));
        world.apply();
        assert_eq!(held(world, 2).until_ns, 0);
    });
}
