//! Callers that are no members, below a cgroup that was named: counted once, whoever else counts.

use std::{
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
};

use sinew_datapath::{Carrier, Datapath as _, Reach, Resolver};
use sinew_model::Protocol;

use crate::world::{World, instance4, service4, service6};

/// Answers TCP and UDP with the caller's address.
const SERVER: &str = r#"
import socket, threading
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("0.0.0.0", 8081))
l = socket.socket(); l.bind(("0.0.0.0", 8080)); l.listen(64)
print("ready")
def datagrams():
    while True:
        d, who = u.recvfrom(99); u.sendto(who[0].encode(), who)
threading.Thread(target=datagrams, daemon=True).start()
while True:
    c, who = l.accept(); c.sendall(who[0].encode()); c.close()
"#;

/// Calls over TCP, over connected UDP and over unconnected UDP; prints what it was known by, and
/// whether peers bear the names that were asked for.
const CALLS: &str = r#"
import socket
def say(call):
    try: print(call(), end=" ")
    except OSError as e: print(e.strerror, end=" ")
def tcp(name="127.64.0.1"):
    s = socket.create_connection((name, 8080), timeout=5)
    assert s.getpeername()[:2] == (name, 8080), s.getpeername()
    return s.recv(99).decode()
def udp():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
    s.connect(("127.64.0.2", 8081)); s.send(b"x"); return s.recv(99).decode()
def to():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
    s.sendto(b"x", ("127.64.0.2", 8081)); d, who = s.recvfrom(99)
    assert who == ("127.64.0.2", 8081), who
    return d.decode()
say(tcp); say(udp); say(to)
"#;

const STRANGER: &str = "No route to host No route to host No route to host";
const HOST: &str = "127.0.0.1 127.0.0.1 127.0.0.1";

/// Service 1 over TCP and service 2 over UDP, in one program; service 3 only calls.
fn served() -> World {
    let mut world = World::new();
    world.service(1, 8080, Protocol::Tcp, 1);
    world.service(2, 8081, Protocol::Udp, 0);
    let mut backend = world.wanted.services[&1].ports[0].backends[0].clone();
    (backend.key, backend.port, backend.address6) = (2 << 32, 8081, None);
    let mut two = (*world.wanted.services[&2]).clone();
    two.ports[0].backends.push(backend);
    world.wanted.set_service(two);
    let mut instance = (*world.wanted.instances[&(1 << 32)]).clone();
    instance.ports.push((Protocol::Udp, 8081));
    world.wanted.set_instance(instance);
    world.client(3);
    world.python_server(1, 0, SERVER);
    world.wait_listening(1, 0);
    world
}

fn reach(world: &World) -> Reach {
    Reach { cgroups: vec![world.base().to_owned()], resolver: world.outside("resolver") }
}

fn links(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.pins().join("links/reach")).unwrap();
    entries.flatten().map(|entry| entry.path()).collect()
}

/// (Connections that ended, of which open), from a service to another one.
fn counted(world: &World, source: u32, destination: u32) -> (u64, u64) {
    let edge = world.kernel_edges(source, destination);
    (edge.closed, edge.active)
}

#[test]
fn whoever_is_in_reach_calls_services_and_is_counted_once() {
    let mut world = served();
    let host = world.outside("host");
    assert_eq!(world.python_in(&host, CALLS), STRANGER);
    let reach = reach(&world);
    world.reopen_with(reach);
    assert!(world.kernel.missing_hooks(Carrier::Reach(world.base())).is_empty());
    assert_eq!(world.python_in(&host, CALLS), HOST);
    assert_eq!((counted(&world, 0, 1), counted(&world, 0, 2)), ((1, 0), (2, 0)));

    // A member runs both programs: its own first.
    let own = instance4(3, 0).to_string();
    assert_eq!(world.python(3, 0, CALLS), [&*own; 3].join(" "));
    assert_eq!((counted(&world, 3, 1), counted(&world, 3, 2)), ((1, 0), (2, 0)));
    // What its own refused is not refused again.
    let wrong = "import socket; print(socket.socket().connect_ex(('127.64.0.1', 9)))";
    assert_eq!(world.python(3, 0, wrong), "111");
    assert_eq!(world.kernel_edges(3, 0).no_backend, 1);

    // So does an adopted program.
    let adopted = world.outside("adopted");
    world.adopt_nothing(&adopted);
    let own = instance4(5, 0).to_string();
    assert_eq!(world.python_in(&adopted, CALLS), [&*own; 3].join(" "));
    assert_eq!((counted(&world, 5, 1), counted(&world, 5, 2)), ((1, 0), (2, 0)));
    assert_eq!((counted(&world, 0, 1), counted(&world, 0, 2)), ((1, 0), (2, 0)), "no host's");
    let stats = world.stats(1, 0, 8080);
    assert_eq!((stats.connections, stats.active), (3, 0));
}

#[test]
fn a_port_that_is_not_there_and_addresses_of_six_are_as_for_members() {
    let mut world = served();
    let host = world.outside("host");
    let reach = reach(&world);
    world.reopen_with(reach);
    let call = |world: &World, address: &str, port: u16| {
        let script = format!(
            "import socket\ntry: s = socket.create_connection(('{address}', {port}), timeout=5); \
             print(s.getpeername()[0], s.recv(99).decode())\nexcept OSError as e: print(e.strerror)"
        );
        world.python_in(&host, &script)
    };
    assert_eq!(call(&world, &service4(1).to_string(), 8079), "Connection refused");
    assert_eq!(call(&world, &service6(1).to_string(), 8079), "Connection refused");
    // It listens on IPv4 alone.
    let six = service6(1).to_string();
    assert_eq!(call(&world, &six, 8080), format!("{six} 127.0.0.1"));
    let mapped = format!("::ffff:{}", service4(1));
    assert_eq!(call(&world, &mapped, 8080), format!("{mapped} 127.0.0.1"));
}

#[test]
fn reach_ends_with_the_option_and_comes_back_whole() {
    let mut world = served();
    let host = world.outside("host");
    let with = reach(&world);
    world.reopen_with(with.clone());
    let pinned = links(&world);
    assert_eq!(pinned.len(), 1);
    // Another loader takes it up; a link that somebody removed is made anew.
    fs::remove_file(pinned[0].join("reach_connect4")).unwrap();
    assert_eq!(
        world.kernel.missing_hooks(Carrier::Reach(world.base())),
        ["reach_connect4"],
        "the kernel lets go of it"
    );
    world.reopen();
    assert_eq!(links(&world), pinned);
    assert_eq!(world.python_in(&host, CALLS), HOST);

    world.reopen_with(Reach::default());
    assert_eq!(links(&world), Vec::<PathBuf>::new());
    assert_eq!(world.python_in(&host, CALLS), STRANGER);

    world.reopen_with(with);
    assert_eq!(world.python_in(&host, CALLS), HOST);
    world.kernel.detach().unwrap();
    assert!(!world.pins().exists());
    assert!(!world.python_in(&host, CALLS).contains("127.0.0.1"), "a purge leaves none");
}

#[test]
fn another_network_has_other_addresses() {
    let mut world = served();
    let host = world.outside("host");
    let reach = reach(&world);
    world.reopen_with(reach);
    let script = "import ctypes, socket, subprocess
assert ctypes.CDLL(None).unshare(0x40000000) == 0
subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
l = socket.create_server(('127.64.0.1', 8080))
c = socket.create_connection(('127.64.0.1', 8080), timeout=5)
print(l.accept()[0].getpeername() == c.getsockname())
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(('127.64.0.2', 8081)); u.settimeout(5)
c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); c.sendto(b'here', ('127.64.0.2', 8081))
print(u.recv(9))";
    let own = "True\nb'here'";
    assert_eq!(world.python_in(&host, script), own, "a container is left alone");
}

#[test]
fn queries_are_led_to_the_resolver_but_for_its_own() {
    let mut world = served();
    let host = world.outside("host");
    let with = reach(&world);
    let own = with.resolver.clone();
    world.reopen_with(with);
    let resolver = UdpSocket::bind("127.80.0.1:0").unwrap();
    let upstream = UdpSocket::bind("127.80.0.53:53").unwrap();
    let std::net::SocketAddr::V4(address4) = resolver.local_addr().unwrap() else { panic!() };
    world.resolver(Resolver {
        address4,
        address6: "::1".parse().unwrap(),
        name_servers: vec!["127.80.0.53".parse().unwrap()],
    });
    let answer = |socket: UdpSocket, name: &'static [u8]| {
        std::thread::spawn(move || {
            let mut query = [0; 99];
            while let Ok((_, who)) = socket.recv_from(&mut query) {
                socket.send_to(name, who).unwrap();
            }
        })
    };
    answer(resolver, b"resolver");
    answer(upstream, b"upstream");
    let ask = "import socket
for connected in (True, False):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)
    there = ('127.80.0.53', 53)
    if connected: s.connect(there); s.send(b'?')
    else: s.sendto(b'?', there)
    d, who = s.recvfrom(99); assert who == there; print(d.decode())";
    let asked = |world: &mut World, cgroup: &Path| {
        world.kernel.beat().unwrap();
        world.python_in(cgroup, ask)
    };
    assert_eq!(asked(&mut world, &host), "resolver\nresolver");
    assert_eq!(asked(&mut world, &own), "upstream\nupstream", "it does not ask itself");
    // Another one of its kind, in a cgroup made anew.
    fs::remove_dir(&own).unwrap();
    fs::create_dir(&own).unwrap();
    world.apply();
    assert_eq!(asked(&mut world, &own), "upstream\nupstream", "nor after it was replaced");
}
