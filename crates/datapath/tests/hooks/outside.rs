//! A neighbour on the network, and that it meets nothing of the plan.

use std::{
    net::Ipv6Addr,
    path::Path,
    process::{Child, Command, Stdio},
};

use sinew_datapath::{Datapath as _, Event, TYPES};
use sinew_model::Protocol;

use crate::world::{World, eventually, instance6, run, service6};

/// A machine of its own, joined to the test's by a cable.
pub(crate) struct Outside {
    holder: Child,
}

/// Addresses of the test's end of the cable.
pub(crate) const HOST4: &str = "10.77.0.1";
pub(crate) const HOST6: &str = "fd77::1";
pub(crate) const OUT4: &str = "10.77.0.2";

impl Outside {
    pub(crate) fn new() -> Self {
        let mut holder = Command::new("unshare");
        let holder = holder.args(["--net", "sleep", "1000000"]).stdout(Stdio::null());
        let holder = holder.spawn().unwrap();
        let outside = Self { holder };
        let pid = outside.holder.id();
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        while std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap() == own {
            std::thread::yield_now();
        }
        let pid = pid.to_string();
        run("ip", &["link", "add", "host", "type", "veth", "peer", "name", "out", "netns", &pid]);
        run("ip", &["addr", "add", &format!("{HOST4}/24"), "dev", "host"]);
        run("ip", &["addr", "add", &format!("{HOST6}/64"), "dev", "host", "nodad"]);
        run("ip", &["link", "set", "host", "up"]);
        outside.run("ip", &["addr", "add", &format!("{OUT4}/24"), "dev", "out"]);
        outside.run("ip", &["addr", "add", "fd77::2/64", "dev", "out", "nodad"]);
        outside.run("ip", &["link", "set", "out", "up"]);
        outside
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let target = self.holder.id().to_string();
        let arguments: Vec<_> =
            ["--target", &target, "--net", program].iter().chain(arguments).copied().collect();
        run("nsenter", &arguments)
    }

    pub(crate) fn python(&self, script: &str) -> String {
        self.run("python3", &["-c", script]).trim().to_owned()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Listens on a declared port, on one that is not, and on localhost, and says who calls. UDP
/// wildcards stay the host's unless they are declared: they are told apart.
fn server(datagrams: &[(&str, u16)]) -> String {
    format!("at = {datagrams:?}\n{SERVER}")
}

const SERVER: &str = r#"
import select, socket
def bind(kind, address, port):
    s = socket.socket(socket.AF_INET6, kind)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, port))
    return s
streams, datagrams = [], []
for to in [("::", 7007), ("::", 7008), ("::1", 7009)]:
    streams.append(bind(socket.SOCK_STREAM, *to)); streams[-1].listen()
for to in at:
    datagrams.append(bind(socket.SOCK_DGRAM, *to))
print("ready")
while True:
    for s in select.select(streams + datagrams, [], [])[0]:
        if s in streams:
            c, a = s.accept(); c.sendall(a[0].encode()); c.close()
        else:
            b, a = s.recvfrom(99); s.sendto(a[0].encode(), a)
"#;

/// Prints who one is at the other end of each, over TCP and over UDP, or the kind of error.
fn ask(to: &[(Ipv6Addr, u16)]) -> String {
    let to: Vec<_> = to.iter().map(|(address, port)| (address.to_string(), port)).collect();
    format!(
        r#"
import socket
for to in {to:?}:
    for kind in [socket.SOCK_STREAM, socket.SOCK_DGRAM]:
        s = socket.socket(socket.AF_INET6, kind); s.settimeout(5)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.setsockopt(socket.IPPROTO_IPV6, 25, 1)  # IPV6_RECVERR: datagrams hear of it too
        try:
            s.connect(to); s.send(b"x"); print(s.recv(99).decode())
        except Exception as e: print(type(e).__name__, e)
"#
    )
}

/// What an answer says of a host that has no route.
const NO_ROUTE: &str = "OSError [Errno 101] Network is unreachable";

fn private6(s: u32, n: u32) -> Ipv6Addr {
    let mut segments = instance6(s, n).segments();
    segments[3] = sinew_abi::address::LOOPBACKS6;
    segments.into()
}

fn world() -> (World, Outside) {
    let mut world = World::new();
    world.service(1, 7007, Protocol::Tcp, 1);
    world.service(3, 7007, Protocol::Udp, 1);
    world.client(2);
    world.python_server(1, 0, &server(&[("::1", 7009)]));
    world.python_server(3, 0, &server(&[("::", 7007), ("::1", 7009)]));
    world.wait_listening(1, 0);
    world.wait(|e| matches!(e, Event::Bound { instance, .. } if *instance == 3 << 32));
    let outside = Outside::new();
    // Each question is answered, even if with an error.
    run("sysctl", &["-qw", "net.ipv6.icmp.ratelimit=0"]);
    outside.run("ip", &["route", "add", "fd53:696e:6577::/48", "via", HOST6]);
    (world, outside)
}

/// Everything that the first replica of the service listens on.
fn all(service: u32) -> [(Ipv6Addr, u16); 4] {
    let (address, private) = (instance6(service, 0), private6(service, 0));
    [(address, 7007), (address, 7008), (address, 7009), (private, 7009)]
}

fn is_closed(outside: &Outside) {
    for service in [1, 3] {
        assert_eq!(outside.python(&ask(&all(service))), [NO_ROUTE; 8].join("\n"), "{service}");
    }
}

/// The kernel's routes to addresses of `lo`.
fn open() -> usize {
    let routes = run("ip", &["-6", "-o", "route", "show", "table", "local", "proto", "kernel"]);
    routes.matches("fd53:696e:6577").count()
}

fn is_open_to_members(world: &World) {
    let own = instance6(2, 0).to_string();
    for to in [[service6(1), service6(3)], [instance6(1, 0), instance6(3, 0)]] {
        let answers = world.python(2, 0, &ask(&to.map(|to| (to, 7007))));
        let answers: Vec<_> = answers.lines().collect();
        assert_eq!((answers[0], answers[3]), (own.as_str(), own.as_str()), "{to:?}: {answers:?}");
    }
    let own = world.python(1, 0, &ask(&[(Ipv6Addr::LOCALHOST, 7009)]));
    assert_eq!(own, vec![private6(1, 0).to_string(); 2].join("\n"), "one's own localhost");
}

#[test]
fn a_neighbour_with_a_route_meets_no_instance() {
    let (mut world, outside) = world();
    is_closed(&outside);
    is_open_to_members(&world);
    run("sysctl", &["-qw", "net.ipv6.conf.all.forwarding=1"]);
    is_closed(&outside);
    run("sysctl", &["-qw", "net.ipv6.conf.all.forwarding=0"]);

    world.reopen();
    is_closed(&outside);
    is_open_to_members(&world);

    // The route leads here: what is not Sinew's is met.
    run("ip", &["addr", "add", "fd53:696e:6577:77::1/128", "dev", "lo", "nodad"]);
    let other = "fd53:696e:6577:77::1".parse().unwrap();
    let refused = "ConnectionRefusedError [Errno 111] Connection refused";
    assert_eq!(outside.python(&ask(&[(other, 7007)])), [refused; 2].join("\n"));
}

#[test]
fn what_a_killed_agent_left_open_is_closed() {
    let (mut world, outside) = world();
    for address in [instance6(1, 0), private6(1, 0)] {
        let address = address.to_string();
        run(
            "ip",
            &["-6", "route", "add", "local", &address, "dev", "lo", "table", "local", "proto", "2"],
        );
    }
    run("ip", &["-6", "rule", "del", "pref", "53"]);
    assert_ne!(outside.python(&ask(&all(1)[..1])), [NO_ROUTE; 2].join("\n"), "open, as set up");
    world.reopen();
    is_closed(&outside);
    is_open_to_members(&world);
    let rules = run("ip", &["-6", "rule", "show"]);
    assert_eq!(rules.matches("fd53:696e:6577::/48").count(), 1, "{rules}");
}

/// What a look put back at `lo`.
fn mended(world: &mut World) -> Vec<&'static str> {
    let mended = world.kernel.mend();
    let errors: Vec<_> = mended.iter().filter_map(|m| m.error.as_ref()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert!(mended.iter().all(|m| m.cgroup == Path::new("lo")), "{mended:?}");
    mended.into_iter().flat_map(|mended| mended.hooks).collect()
}

fn standing() -> [String; 4] {
    let show = |arguments: &[&str]| {
        let mut lines: Vec<_> = run("ip", arguments).lines().map(str::to_owned).collect();
        lines.sort();
        lines.join("\n")
    };
    [
        show(&["-6", "-o", "addr", "show", "lo", "scope", "global"]),
        show(&["-o", "route", "show", "table", "all", "proto", "83"]),
        show(&["-6", "-o", "route", "show", "table", "all", "proto", "83"]),
        show(&["-6", "-o", "rule", "show"]),
    ]
}

#[test]
fn what_lo_loses_when_it_goes_down_comes_back() {
    let (mut world, outside) = world();
    let before = standing();
    assert_eq!(mended(&mut world), [""; 0], "what it made itself is no news");
    for (keep, lost) in [("0", &["routes", "addresses"][..]), ("1", &["routes"])] {
        run("sysctl", &["-qw", &format!("net.ipv6.conf.all.keep_addr_on_down={keep}")]);
        run("ip", &["link", "set", "lo", "down"]);
        assert_eq!(mended(&mut world), [""; 0], "there is no way to while it is down");
        run("ip", &["link", "set", "lo", "up"]);
        assert_eq!(mended(&mut world), lost);
        assert_eq!(standing(), before);
        // The kernel makes routes to addresses that `lo` kept a little later.
        eventually("what was opened is closed", || mended(&mut world).is_empty() && open() == 0);
        is_closed(&outside);
        is_open_to_members(&world);
    }
    // As late as it likes.
    let late = instance6(1, 0).to_string();
    let route = ["local", &late, "dev", "lo", "table", "local", "proto", "kernel"];
    run("ip", &[&["-6", "route", "add"], &route[..]].concat());
    assert_eq!(open(), 1);
    assert_eq!(mended(&mut world), [""; 0]);
    assert_eq!(open(), 0);
}

#[test]
fn routes_and_addresses_that_somebody_removes_come_back() {
    let (mut world, outside) = world();
    let before = standing();
    let address = format!("{}/128", instance6(1, 0));
    let cases: [(&[&str], &str); 5] = [
        (&["-6", "addr", "del", &address, "dev", "lo"], "addresses"),
        (&["-6", "rule", "del", "pref", "53"], "routes"),
        (&["route", "flush", "table", "local", "proto", "83"], "routes"),
        (&["-6", "route", "flush", "table", "local", "proto", "83"], "routes"),
        (&["-6", "route", "flush", "table", "1399418469"], "routes"),
    ];
    for (removal, lost) in cases {
        run("ip", removal);
        assert_ne!(standing(), before, "{removal:?}");
        assert_eq!(mended(&mut world), [lost], "{removal:?}");
        assert_eq!(standing(), before, "{removal:?}");
    }
    is_closed(&outside);
    is_open_to_members(&world);
    // Who leaves takes its addresses along.
    world.wanted.instances.remove(&(2 << 32));
    world.apply();
    assert_eq!(mended(&mut world), [""; 0]);
    assert!(!standing()[0].contains(&instance6(2, 0).to_string()));
}

#[test]
fn what_begins_while_lo_is_down_is_there_when_it_comes_up() {
    let mut world =
        World::on(Path::new(TYPES), || drop(run("ip", &["link", "set", "lo", "down"]))).unwrap();
    world.service(1, 7007, Protocol::Tcp, 1);
    world.client(2);
    assert_eq!(mended(&mut world), [""; 0]);
    run("ip", &["link", "set", "lo", "up"]);
    assert_eq!(mended(&mut world), ["routes", "addresses"]);
    run("sysctl", &["-qw", "net.ipv6.conf.all.keep_addr_on_down=1"]);
    run("ip", &["link", "set", "lo", "down"]);
    world.wanted.instances.remove(&(1 << 32));
    world.client(3);
    run("ip", &["link", "set", "lo", "up"]);
    assert_eq!(mended(&mut world), ["routes", "addresses"]);
    let standing = standing();
    assert!(!standing[0].contains(&instance6(1, 0).to_string()), "{standing:?}");
    assert!(standing[0].contains(&instance6(3, 0).to_string()), "{standing:?}");
    assert!(standing[0].contains(&instance6(2, 0).to_string()), "{standing:?}");
    world.reopen();
    assert_eq!(mended(&mut world), [""; 0]);
    assert_eq!(self::standing(), standing);
}
