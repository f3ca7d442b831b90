//! Several hosts, each a world in a network namespace of its own, joined by a switch.

use std::{
    fs::File,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::AsFd as _,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use sinew_datapath::{Backend, Fleet, Peer, Service, backend_key};
use sinew_model::{Protocol, fleet::Network};

use crate::world::{World, run};

pub(crate) fn network(text: &str) -> Network {
    text.parse().unwrap()
}

/// A host's own addresses.
pub(crate) fn host4(host: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, host as u8)
}

pub(crate) fn host6(host: u32) -> Ipv6Addr {
    Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, host as u16)
}

/// Addresses, among those of all hosts, of replica `n` (from 0) of service `s`.
pub(crate) fn fleet4(host: u32, s: u32, n: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 111, host as u8, (s * 10 + n + 1) as u8)
}

pub(crate) fn fleet6(host: u32, s: u32, n: u32) -> Ipv6Addr {
    Ipv6Addr::new(0xfd01, 0, 0, host as u16, 0, 0, s as u16, n as u16 + 1)
}

pub(crate) fn slices(host: u32) -> Vec<Network> {
    vec![network(&format!("10.111.{host}.0/24")), network(&format!("fd01:0:0:{host}::/64"))]
}

pub(crate) fn peer(host: u32) -> Peer {
    Peer {
        number: 1000 + host,
        address4: Some(host4(host)),
        address6: Some(host6(host)),
        proven: vec![host4(host).into(), host6(host).into()],
        slices: slices(host),
    }
}

/// What host `host` of `count` knows of the others.
pub(crate) fn fleet(host: u32, count: u32) -> Fleet {
    let others = (1..=count).filter(|other| *other != host);
    Fleet {
        networks: vec![network("10.111.0.0/16"), network("fd01::/48")],
        slices: slices(host),
        peers: others.map(|n| (format!("h{n}").parse().unwrap(), Arc::new(peer(n)))).collect(),
    }
}

pub(crate) struct Host {
    pub(crate) number: u32,
    world: Option<World>,
    namespace: File,
}

impl Host {
    /// Does something on this host: the calling thread is in its network from then on.
    pub(crate) fn on<T>(&mut self, act: impl FnOnce(&mut World) -> T) -> T {
        enter(&self.namespace);
        act(self.world.as_mut().unwrap())
    }

    /// Gives every instance that is there its addresses among those of all hosts, and joins.
    pub(crate) fn join(&mut self, count: u32) {
        let number = self.number;
        self.on(|world| {
            let all: Vec<_> = world.wanted.instances.values().cloned().collect();
            for instance in all {
                let mut instance = (*instance).clone();
                let n = instance.id as u32;
                instance.fleet4 = Some(fleet4(number, instance.service, n));
                instance.fleet6 = Some(fleet6(number, instance.service, n));
                world.wanted.set_instance(instance);
            }
            world.wanted.fleet = Some(fleet(number, count));
            world.apply();
        });
    }

    /// Lets a service have a backend on another host.
    pub(crate) fn elsewhere(&mut self, service: u32, protocol: Protocol, port: u16, host: u32) {
        self.on(|world| {
            if !world.wanted.services.contains_key(&service) {
                world.service(service, port, protocol, 0);
            }
            let backend = Backend {
                key: backend_key(service, 1000 * host, port, protocol, 0),
                address4: Some(fleet4(host, service, 0)),
                address6: Some(fleet6(host, service, 0)),
                port,
                weight: 256,
                local: false,
                node: 1000 + host,
                zone: 0,
                wildcard: Default::default(),
                in_choice: true,
                slots: 1,
            };
            change(world, service, |service| service.ports[0].backends.push(backend));
        });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        enter(&self.namespace);
        drop(self.world.take());
    }
}

pub(crate) fn change(world: &mut World, service: u32, change: impl FnOnce(&mut Service)) {
    let mut changed = (*world.wanted.services[&service]).clone();
    change(&mut changed);
    world.wanted.set_service(changed);
    world.apply();
}

fn enter(namespace: &File) {
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).unwrap();
}

fn here() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

pub(crate) struct Hosts {
    pub(crate) hosts: Vec<Host>,
    /// Where what belongs to no host of the network is.
    stranger: File,
    switch: File,
    holder: Child,
}

impl Hosts {
    /// Hosts, alone as yet, and a stranger on the same network.
    pub(crate) fn new(count: u32) -> Self {
        fresh();
        let (switch, holder) =
            (here(), Command::new("sleep").arg("1000000").stdout(Stdio::null()).spawn().unwrap());
        run(
            "ip",
            &[
                "link",
                "add",
                "bridge0",
                "type",
                "bridge",
                "forward_delay",
                "0",
                "mcast_snooping",
                "0",
            ],
        );
        run("ip", &["link", "set", "bridge0", "up"]);
        let mut all = Self { hosts: Vec::new(), stranger: here(), switch, holder };
        for number in 1..=count {
            let world = World::new();
            all.hosts.push(Host { number, world: Some(world), namespace: here() });
            all.plug(number, &here());
        }
        fresh();
        run("ip", &["link", "set", "lo", "up"]);
        all.stranger = here();
        all.plug(99, &here());
        for host in 1..=count {
            let via = host4(host).to_string();
            run("ip", &["route", "add", &format!("10.111.{host}.0/24"), "via", &via]);
            let via = host6(host).to_string();
            run("ip", &["-6", "route", "add", &format!("fd01:0:0:{host}::/64"), "via", &via]);
        }
        all
    }

    fn plug(&self, number: u32, namespace: &File) {
        let (port, switch) = (format!("p{number}"), self.holder.id().to_string());
        run(
            "ip",
            &["link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns", &switch],
        );
        run("ip", &["addr", "add", &format!("{}/24", host4(number)), "dev", "eth0"]);
        run("ip", &["addr", "add", &format!("{}/64", host6(number)), "dev", "eth0", "nodad"]);
        run("ip", &["link", "set", "eth0", "up"]);
        enter(&self.switch);
        run("ip", &["link", "set", &port, "master", "bridge0", "up"]);
        enter(namespace);
    }

    /// Nothing gets to a host or from it any more, or again.
    pub(crate) fn cut(&self, number: u32, cut: bool) {
        enter(&self.switch);
        let state = if cut { "0" } else { "3" };
        run("bridge", &["link", "set", "dev", &format!("p{number}"), "state", state]);
    }

    /// One of them, from 1 on.
    pub(crate) fn host(&mut self, number: u32) -> &mut Host {
        &mut self.hosts[number as usize - 1]
    }

    /// Runs a Python program on a host that is not one of them.
    pub(crate) fn stranger(&self, script: &str) -> String {
        enter(&self.stranger);
        run("python3", &["-c", script]).trim().to_owned()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn fresh() {
    // SAFETY: affects the calling thread alone, which runs one test.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.unwrap();
}
