//! Instances of many hosts: they reach each other and nobody else does.

use std::{net::IpAddr, sync::Arc};

use sinew_datapath::{Datapath as _, Error, Event, Notice, Reach};
use sinew_model::Protocol::{self, Tcp, Udp};

use crate::{
    hosts::{Hosts, fleet, fleet4, fleet6, host4, host6, network, peer},
    world::{World, eventually, instance4, run, service4, service6},
};

/// Takes connections or datagrams at each of some places and answers who calls, and how it is called.
fn server(at: &[(&str, &str, u16)]) -> String {
    format!(
        r#"
import select, socket
all = []
for kind, address, port in {at:?}:
    six = ":" in address
    s = socket.socket(socket.AF_INET6 if six else socket.AF_INET, getattr(socket, "SOCK_" + kind))
    if six: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind((address, port))
    if kind == "STREAM": s.listen(64)
    all.append(s)
print("ready")
while True:
    for s in select.select(all, [], [])[0]:
        if s.type == socket.SOCK_STREAM:
            c, a = s.accept(); c.recv(1); c.sendall(("%s %s" % (a[0], c.getsockname()[0])).encode()); c.close()
        else:
            d, a = s.recvfrom(99); s.sendto(a[0].encode(), a)
"#
    )
}

/// Prints what each of some calls gets, or the kind of error; and whether the peer is shown as what was
/// asked for.
fn ask(kind: &str, to: &[(String, u16)]) -> String {
    format!(
        r#"
import socket
for to in {to:?}:
    s = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET, socket.SOCK_{kind}); s.settimeout(5)
    try:
        s.connect(to); shown = s.getpeername()[:2] == to; s.send(b"x")
        print(s.recv(99).decode(), "as asked" if shown else s.getpeername())
    except OSError as e: print(type(e).__name__ if type(e) != OSError else e)
"#
    )
}

fn to(address: impl Into<IpAddr>, port: u16) -> (String, u16) {
    (address.into().to_string(), port)
}

/// Two hosts: the first calls a service of the second.
fn two(protocol: Protocol, at: &[(&str, &str, u16)]) -> Hosts {
    let mut hosts = Hosts::new(2);
    hosts.host(2).on(|world| {
        world.service(1, 7007, protocol, 1);
        world.client(3);
        world.python_server(1, 0, &server(at));
        wait_serving(world, protocol);
    });
    hosts.host(1).on(|world| world.client(2));
    hosts.host(1).join(2);
    hosts.host(2).join(2);
    hosts.host(1).elsewhere(1, protocol, 7007, 2);
    hosts
}

fn wait_serving(world: &mut World, protocol: Protocol) {
    match protocol {
        Tcp => world.wait_listening(1, 0),
        Udp => {
            world.wait(|e| matches!(e, Event::Bound { instance, .. } if *instance == 1 << 32));
            world.apply();
        }
    }
}

const DUAL: (&str, &str, u16) = ("STREAM", "::", 7007);

#[test]
fn a_call_goes_to_another_host_and_says_who_calls() {
    let mut hosts = two(Tcp, &[DUAL]);
    let (own4, own6) = (fleet4(1, 2, 0), fleet6(1, 2, 0));
    let (there4, there6) = (fleet4(2, 1, 0), fleet6(2, 1, 0));
    let names = [
        to(service4(1), 7007),
        to(service4(1).to_ipv6_mapped(), 7007),
        to(there4, 7007),
        to(there6, 7007),
    ];
    let answers = hosts.host(1).on(|world| world.python(2, 0, &ask("STREAM", &names)));
    let four = format!("::ffff:{own4} ::ffff:{there4} as asked");
    let six = format!("{own6} {there6} as asked");
    assert_eq!(answers, [&four[..], &four, &four, &six].join("\n"));
    // IPv4 is preferred of a socket that takes both; one of IPv6 alone has no choice.
    let only6 = ask("STREAM", &[to(service6(1), 7007)])
        .replace("s.settimeout(5)", "s.setsockopt(41, 26, 1); s.settimeout(5)");
    assert_eq!(hosts.host(1).on(|world| world.python(2, 0, &only6)), six);
    let both = hosts.host(1).on(|w| w.python(2, 0, &ask("STREAM", &[to(service6(1), 7007)])));
    assert_eq!(both, four);
    let totals = hosts.host(2).on(|world| world.kernel.totals().unwrap());
    assert_eq!((totals.fleet_accepted, totals.fleet_strangers, totals.fleet_unheard), (6, 0, 0));
    // Agents ask for signs of life there; elsewhere nobody does.
    let first = crate::hosts::slices(2).into_iter().map(|slice| (slice.address().to_string(), 9));
    let asked = first.chain([to(fleet4(2, 1, 0), 9)]).collect::<Vec<_>>();
    let answers = hosts.host(1).on(|world| world.python(2, 0, &ask("STREAM", &asked)));
    assert_eq!(answers, ["ConnectionRefusedError"; 3].join("\n"));
    let totals = hosts.host(2).on(|world| world.kernel.totals().unwrap());
    assert_eq!(totals.fleet_unheard, 1);
}

#[test]
fn datagrams_go_both_ways_under_the_instances_addresses() {
    for at in ["0.0.0.0", "::"] {
        let mut hosts = two(Udp, &[("DGRAM", at, 7007)]);
        let (own4, own6) = (fleet4(1, 2, 0), fleet6(1, 2, 0));
        let mapped = if at == "::" { "::ffff:" } else { "" };
        let call = |target: (String, u16)| {
            let sendto = ask("DGRAM", std::slice::from_ref(&target))
                .replace("s.connect(to); shown = s.getpeername()[:2] == to; s.send(b\"x\")", "s.sendto(b'x', to); shown = True")
                .replace("s.recv(99).decode(), \"as asked\" if shown", "(lambda m: (m[0].decode(), 'as asked' if m[1][:2] == to else m[1]))(s.recvfrom(99)) if shown");
            (ask("DGRAM", &[target]), sendto)
        };
        let targets = [to(service4(1), 7007), to(fleet4(2, 1, 0), 7007)];
        for target in targets {
            let (connected, not) = call(target);
            let answer = hosts.host(1).on(|world| world.python(2, 0, &connected));
            assert_eq!(answer, format!("{mapped}{own4} as asked"), "{at}");
            let answer = hosts.host(1).on(|world| world.python(2, 0, &not));
            assert_eq!(answer, format!("('{mapped}{own4}', 'as asked')"), "{at}");
        }
        if at == "0.0.0.0" {
            continue;
        }
        // A dual-stack socket is bound to an IPv4 address: it gets nothing over IPv6.
        let answer = hosts.host(1).on(|w| w.python(2, 0, &call(to(fleet6(2, 1, 0), 7007)).0));
        assert_eq!(answer, "ConnectionRefusedError");
        hosts.host(2).on(|world| {
            let only6 = server(&[("DGRAM", "::1", 7007)]);
            let pids: Vec<u32> = world.children().collect();
            world.kill(pids[0]);
            world.python_server(1, 0, &only6);
            wait_serving(world, Udp);
        });
        let (connected, not) = call(to(fleet6(2, 1, 0), 7007));
        let answer = hosts.host(1).on(|world| world.python(2, 0, &connected));
        assert_eq!(answer, format!("{own6} as asked"));
        let answer = hosts.host(1).on(|world| world.python(2, 0, &not));
        assert_eq!(answer, format!("('{own6}', 'as asked')"));
    }
}

#[test]
fn what_is_bound_to_localhost_or_not_declared_is_not_reached_from_another_host() {
    let places = [
        ("STREAM", "0.0.0.0", 7007),
        ("STREAM", "0.0.0.0", 7008),
        ("STREAM", "127.0.0.1", 7009),
        ("STREAM", "::1", 7009),
        ("DGRAM", "0.0.0.0", 7010),
        ("DGRAM", "127.0.0.1", 7009),
    ];
    let mut hosts = two(Tcp, &places);
    let ask_all = |kind, ports: &[u16]| {
        let all = ports.iter().flat_map(|port| {
            [to(fleet4(2, 1, 0), *port), to(fleet6(2, 1, 0), *port), to(instance4(1, 0), *port)]
        });
        ask(kind, &all.collect::<Vec<_>>())
    };
    let streams = hosts.host(1).on(|world| world.python(2, 0, &ask_all("STREAM", &[7008, 7009])));
    assert_eq!(streams, ["ConnectionRefusedError"; 6].join("\n"));
    let datagrams = hosts.host(1).on(|world| world.python(2, 0, &ask_all("DGRAM", &[7009, 7010])));
    assert_eq!(datagrams, ["ConnectionRefusedError"; 6].join("\n"));
    let declared =
        hosts.host(1).on(|w| w.python(2, 0, &ask("STREAM", &[to(fleet4(2, 1, 0), 7007)])));
    assert!(declared.ends_with("as asked"), "{declared}");
}

#[test]
fn a_program_of_the_host_is_not_reached_at_the_addresses_of_instances() {
    let mut hosts = two(Tcp, &[DUAL]);
    hosts.host(2).on(|world| {
        let outside = world.outside("sshd");
        let at = [("STREAM", "::", 22), ("DGRAM", "::", 53), ("DGRAM", "0.0.0.0", 54)];
        world.python_server_in(&outside, &server(&at));
    });
    let at =
        |port| [to(fleet4(2, 1, 0), port), to(fleet6(2, 1, 0), port), to(fleet4(2, 9, 9), port)];
    let refused = ["ConnectionRefusedError"; 3].join("\n");
    for (kind, port) in [("STREAM", 22), ("DGRAM", 53), ("DGRAM", 54)] {
        let answers = hosts.host(1).on(|world| world.python(2, 0, &ask(kind, &at(port))));
        assert_eq!(answers, refused, "{kind} {port}");
        assert_eq!(hosts.stranger(&ask(kind, &at(port))), refused, "{kind} {port}");
    }
    let own = hosts.host(1).on(|world| world.python(2, 0, &ask("STREAM", &[to(host4(2), 22)])));
    assert!(own.ends_with("as asked"), "the host's own address is the host's: {own}");
    let unheard = hosts.host(2).on(|world| world.kernel.totals().unwrap());
    assert!(unheard.fleet_unheard >= 9 && unheard.fleet_strangers >= 9, "{unheard:?}");
}

#[test]
fn a_host_that_is_no_member_reaches_no_instance() {
    let mut hosts = two(Tcp, &[DUAL]);
    let targets = [to(fleet4(2, 1, 0), 7007), to(fleet6(2, 1, 0), 7007)];
    assert_eq!(hosts.stranger(&ask("STREAM", &targets)), ["ConnectionRefusedError"; 2].join("\n"));
    let totals = hosts.host(2).on(|world| world.kernel.totals().unwrap());
    assert_eq!((totals.fleet_accepted, totals.fleet_strangers), (0, 2));
    // Of a member that leaves nobody is let in either.
    hosts.host(2).on(|world| {
        world.wanted.fleet.as_mut().unwrap().peers.clear();
        world.apply();
    });
    let answers = hosts.host(1).on(|w| w.python(2, 0, &ask("STREAM", &[to(service4(1), 7007)])));
    assert_ne!(answers.split(' ').next_back(), Some("asked"), "{answers}");
}

#[test]
fn calls_to_instances_of_the_same_host_go_over_loopback() {
    let mut hosts = two(Tcp, &[DUAL]);
    let targets = [to(service4(1), 7007), to(fleet4(2, 1, 0), 7007), to(fleet6(2, 1, 0), 7007)];
    let answers = hosts.host(2).on(|world| world.python(3, 0, &ask("STREAM", &targets)));
    let (own, there) = (instance4(3, 0), instance4(1, 0));
    let by_name = format!("::ffff:{own} ::ffff:{there} as asked");
    let four = format!("::ffff:{} ::ffff:{} as asked", fleet4(2, 3, 0), fleet4(2, 1, 0));
    let six = format!("{} {} as asked", fleet6(2, 3, 0), fleet6(2, 1, 0));
    assert_eq!(answers, [by_name, four, six].join("\n"));
    let host = hosts.host(2).on(|_| run("python3", &["-c", &ask("STREAM", &targets[1..2])]));
    assert!(host.trim().ends_with("as asked"), "who is no member: {host}");
}

fn routes() -> String {
    let show = |family| run("ip", &[family, "-o", "route", "show", "table", "all"]);
    let both = ["-4", "-6"].map(show).concat();
    // Of link-local addresses, and of what the link is doing, nobody here knows.
    let both = both.replace(" linkdown", "");
    let mut lines: Vec<_> = both.lines().filter(|line| !line.contains("fe80:")).collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
fn a_restarted_agent_keeps_what_is_there_and_a_host_that_leaves_keeps_nothing() {
    let mut hosts = two(Tcp, &[DUAL]);
    let call = ask("STREAM", &[to(service4(1), 7007), to(fleet6(2, 1, 0), 7007)]);
    let says = |hosts: &mut Hosts| hosts.host(1).on(|world| world.python(2, 0, &call));
    let (first, joined) = (says(&mut hosts), hosts.host(2).on(|_| routes()));
    assert_eq!(first.matches("as asked").count(), 2, "{first}");
    for host in [1, 2] {
        hosts.host(host).on(World::reopen);
        assert_eq!(says(&mut hosts), first);
    }
    assert_eq!(hosts.host(2).on(|_| routes()), joined);
    // What the kernel holds works while nobody runs, and the routes lead nowhere else afterwards.
    hosts.host(2).on(|world| {
        world.wanted.fleet = None;
        for instance in world.wanted.instances.values_mut() {
            let instance = Arc::make_mut(instance);
            (instance.fleet4, instance.fleet6) = (None, None);
        }
        world.apply();
        let links = world.pins().join("links");
        assert!(!links.join("published").exists() && !links.join("sock_ops").exists());
        assert!(!routes().contains("10.111.") && !routes().contains("fd01:"), "{}", routes());
        let addresses = run("ip", &["-6", "addr", "show", "lo"]);
        assert!(!addresses.contains("fd01:"), "{addresses}");
    });
    hosts.host(1).on(|world| {
        world.kernel.detach().unwrap();
        let left = routes();
        assert!(!left.contains("10.111.") && !left.contains("fd01:"), "{left}");
        assert!(!world.pins().exists());
    });
}

#[test]
fn networks_that_the_host_has_already_are_refused_as_a_whole() {
    let mut hosts = Hosts::new(1);
    hosts.host(1).on(|world| world.client(2));
    let cases: [(&[&str], &str); 4] = [
        (
            &["addr", "add", "10.111.7.1/24", "dev", "eth0"],
            "10.111.0.0/16 overlaps the address 10.111.7.1 of eth0",
        ),
        (
            &["route", "add", "10.111.128.0/17", "via", "10.9.0.2"],
            "the route to 10.111.128.0/17 via 10.9.0.2 of eth0",
        ),
        (&["route", "add", "10.96.0.0/12", "dev", "eth0"], "the route to 10.96.0.0/12 of eth0"),
        (
            &["-6", "route", "add", "fd01::/32", "dev", "eth0"],
            "fd01::/48 overlaps the route to fd01::/32 of eth0",
        ),
    ];
    for (case, said) in cases {
        hosts.host(1).on(|world| {
            run("ip", case);
            let before = routes();
            world.wanted.fleet = Some(fleet(1, 2));
            let error = world.kernel.apply(&world.wanted).unwrap_err();
            assert!(
                matches!(error, Error::Overlap { .. }) && error.to_string().contains(said),
                "{error}"
            );
            assert_eq!(routes(), before, "nothing is half done");
            assert!(!world.pins().join("links/published").exists());
            world.wanted.fleet = None;
            world.apply();
            let undone: Vec<&str> =
                case.iter().map(|w| if *w == "add" { "del" } else { w }).collect();
            run("ip", &undone);
        });
    }
    // The way to everything, and to more than the network, is none to it.
    hosts.host(1).on(|world| {
        run("ip", &["route", "add", "10.0.0.0/8", "via", "10.9.0.2"]);
        run("ip", &["route", "add", "default", "via", "10.9.0.2"]);
        world.wanted.fleet = Some(fleet(1, 2));
        world.apply();
        assert!(routes().contains("10.111.2.0/24 via 10.9.0.2"), "{}", routes());
    });
}

#[test]
fn a_host_on_no_network_of_this_one_is_told_and_routed_to_when_it_is() {
    let mut hosts = Hosts::new(1);
    hosts.host(1).on(|world| {
        let mut far = peer(3);
        (far.address4, far.address6) = (Some("10.8.0.3".parse().unwrap()), None);
        let mut fleet = fleet(1, 2);
        fleet.peers.insert("far".parse().unwrap(), Arc::new(far));
        run("ip", &["route", "add", "10.111.2.0/24", "via", "10.9.0.77"]);
        let taken = routes();
        world.wanted.fleet = Some(fleet.clone());
        // Somebody's route to the same slice overlaps as long as nothing was checked.
        world.kernel.apply(&world.wanted).unwrap_err();
        assert_eq!(routes(), taken);
        run("ip", &["route", "del", "10.111.2.0/24"]);
        world.apply();
        let off = Notice::OffNetwork {
            host: "far".parse().unwrap(),
            address: "10.8.0.3".parse().unwrap(),
        };
        let none =
            Notice::NoAddress { host: "far".parse().unwrap(), slice: network("fd01:0:0:3::/64") };
        assert_eq!(world.kernel.notices(), [off.clone(), none.clone()]);
        let said = "host far at 10.8.0.3 is on no network of this host";
        assert!(off.to_string().starts_with(said), "{off}");
        run("ip", &["addr", "add", "10.8.0.1/24", "dev", "eth0"]);
        eventually("it is heard of", || {
            world.kernel.mend();
            world.kernel.notices() == [none.clone()]
        });
        assert!(routes().contains("10.111.3.0/24 via 10.8.0.3 dev eth0"), "{}", routes());
        // They are lost with the interface, and come back with it.
        run("sysctl", &["-qw", "net.ipv6.conf.all.keep_addr_on_down=1"]);
        let before = routes();
        run("ip", &["link", "set", "eth0", "down"]);
        run("ip", &["link", "set", "eth0", "up"]);
        assert!(!routes().contains("10.111.3.0/24"), "lost, as set up");
        eventually("they come back", || {
            world.kernel.mend();
            routes().contains("10.111.3.0/24") && routes().contains("10.111.2.0/24")
        });
        assert_eq!(before.matches("proto 83").count(), routes().matches("proto 83").count());
        // A route of somebody else stands, and goes when its owner takes it.
        fleet.peers.clear();
        world.wanted.fleet = Some(fleet);
        world.apply();
        run("ip", &["route", "add", "10.111.2.0/24", "via", "10.9.0.77"]);
        world.wanted.fleet = Some(crate::hosts::fleet(1, 2));
        world.apply();
        assert!(matches!(&world.kernel.notices()[..], [Notice::RouteTaken { .. }]));
        world.kernel.detach().unwrap();
        assert!(routes().contains("10.111.2.0/24 via 10.9.0.77"));
    });
}

#[test]
fn callers_without_an_address_keep_their_hosts() {
    let mut hosts = two(Tcp, &[DUAL]);
    let call = ask("STREAM", &[to(service4(1), 7007), to(fleet6(2, 1, 0), 7007)]);
    let wanted = format!(
        "::ffff:{} ::ffff:{} as asked\n{} {} as asked",
        host4(1),
        fleet4(2, 1, 0),
        host6(1),
        fleet6(2, 1, 0)
    );
    hosts.host(1).on(|world| {
        let (adopted, reached) = (world.outside("adopted"), world.outside("reached"));
        world.adopt_nothing(&adopted);
        assert_eq!(world.python_in(&adopted, &call), wanted);
        let reach = Reach { cgroups: vec![reached.clone()], ..Reach::default() };
        world.reopen_with(reach);
        assert_eq!(world.python_in(&reached, &call), wanted);
        assert!(world.pins().join("links/watch").read_dir().unwrap().next().is_some());
    });
}

#[test]
fn an_instance_binds_its_own_address_and_nobody_elses() {
    let mut hosts = two(Tcp, &[("STREAM", "127.0.0.1", 7007)]);
    let (own, other) = (fleet4(2, 1, 0).to_string(), fleet4(2, 3, 0).to_string());
    let (own6, other6) = (fleet6(2, 1, 0).to_string(), fleet6(2, 3, 0).to_string());
    hosts.host(2).on(|world| {
        let first = world.children().next().unwrap();
        world.kill(first);
        let at = [("STREAM", own.as_str(), 7007), ("STREAM", own6.as_str(), 7007)];
        world.python_server(1, 0, &server(&at));
    });
    let call = ask("STREAM", &[to(fleet4(2, 1, 0), 7007), to(fleet6(2, 1, 0), 7007)]);
    let answers = hosts.host(1).on(|world| world.python(2, 0, &call));
    assert_eq!(answers.matches("as asked").count(), 2, "{answers}");
    let local = ask("STREAM", &[to(service4(1), 7007)]);
    let local = hosts.host(2).on(|world| world.python(3, 0, &local));
    assert!(local.ends_with("as asked"), "{local}");
    let bind = format!(
        r#"
import socket
for kind, to in [(socket.AF_INET, "{other}"), (socket.AF_INET6, "{other6}"), (socket.AF_INET6, "::ffff:{other}")]:
    try: socket.socket(kind).bind((to, 7007)); print("bound")
    except OSError as e: print(e.errno)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for source in ["0.0.0.0", "{own}", "{other}"]:
    try: s.sendmsg([b"x"], [(0, 8, bytes(4) + socket.inet_aton(source) + bytes(4))], 0, ("10.111.1.21", 9)); print("sent")
    except OSError as e: print(e.errno)
"#
    );
    let bound = hosts.host(2).on(|world| world.python(1, 0, &bind));
    assert_eq!(bound, "13\n13\n13\nsent\nsent\n13");
}

#[test]
fn who_left_while_no_agent_ran_keeps_nothing() {
    let mut hosts = two(Tcp, &[DUAL]);
    hosts.host(2).on(|world| {
        world.wanted.fleet = None;
        world.reopen();
        assert!(!routes().contains("10.111.") && !routes().contains("fd01:"), "{}", routes());
        let addresses = run("ip", &["-6", "addr", "show", "lo"]);
        assert!(!addresses.contains("fd01:"), "{addresses}");
        assert!(addresses.contains("::1/128"), "others are left alone: {addresses}");
    });
}

#[test]
fn without_ipv6_the_hosts_reach_each_other_over_ipv4() {
    let mut hosts = Hosts::new(2);
    for number in [1, 2] {
        hosts.host(number).on(|world| {
            run("sysctl", &["-qw", "net.ipv6.conf.all.disable_ipv6=1"]);
            world.reopen();
            world.service(1, 7007, Tcp, 1);
            world.client(2);
            if number == 2 {
                world.python_server(1, 0, &server(&[("STREAM", "0.0.0.0", 7007)]));
                world.wait_listening(1, 0);
            }
        });
        hosts.host(number).join(2);
    }
    let call = ask("STREAM", &[to(fleet4(2, 1, 0), 7007)]);
    let answer = hosts.host(1).on(|world| world.python(2, 0, &call));
    assert!(answer.ends_with("as asked"), "{answer}");
    assert_eq!(hosts.host(1).on(|world| world.kernel.notices()), []);
}
