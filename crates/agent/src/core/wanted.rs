//! What the data path shall hold: a pure function of the state, kept from one look to the next, since
//! most of ten thousand services are the same then.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use sinew_datapath::{self as datapath, Backend, ServicePort, Wanted, Wildcard};
use sinew_model::{Balance, Outlier, Port, Protocol, Publish, ServiceName};

use super::{Core, Family, Instance, Phase};
use crate::{alloc, launch::Launch};

/// Weight of a backend that is like the others.
pub(crate) const WEIGHT: u32 = 256;

/// What a service looks like to its callers.
pub(super) struct Callable<'a> {
    pub(super) ports: &'a [Port],
    pub(super) balance: Balance,
    pub(super) outlier: Outlier,
}

impl<'a> Callable<'a> {
    fn of(launch: &'a Launch) -> Self {
        let service = &launch.service;
        Self { ports: &service.ports, balance: service.balance, outlier: service.outlier }
    }
}

/// The key of an instance's port among all backends: the same for ever.
pub(crate) fn backend_key(number: u32, protocol: Protocol, port: u16) -> u64 {
    u64::from(number) << 17 | u64::from(protocol == Protocol::Udp) << 16 | u64::from(port)
}

/// The number of the instance whose port bears `key`.
pub(crate) fn instance_of(key: u64) -> u32 {
    u32::try_from(key >> 17).unwrap_or(0)
}

/// The keys of all ports of an instance.
pub(crate) fn backend_keys(instance: &Instance) -> impl Iterator<Item = u64> {
    instance.ports().iter().map(|p| backend_key(instance.number, p.protocol, p.number))
}

/// Where callers of an instance are connected to.
pub(super) fn sockets(instance: &Instance) -> Vec<SocketAddr> {
    let addresses = [IpAddr::V4(instance.address4), IpAddr::V6(instance.address6)];
    instance
        .ports()
        .iter()
        .flat_map(|port| addresses.map(|address| SocketAddr::new(address, port.number)))
        .collect()
}

impl Core {
    /// What the data path shall hold; cgroups lie below `members`.
    pub(crate) fn wanted(
        &mut self,
        members: &Path,
        resolver: Option<datapath::Resolver>,
    ) -> &mut Wanted {
        while let Some(service) = self.stale.pop_first() {
            self.renew(service.as_ref(), members);
        }
        self.wanted.resolver = resolver;
        &mut self.wanted
    }

    fn renew(&mut self, service: Option<&ServiceName>, members: &Path) {
        let mut wanted = std::mem::take(&mut self.wanted);
        for instance in self.of(service) {
            if instance.phase.is_registered() {
                wanted.set_instance(self.wanted_instance(instance, members));
            } else {
                wanted.instances.remove(&instance.number.into());
            }
        }
        if let Some((name, number)) =
            service.and_then(|name| Some((name, *self.intent.numbers.get(name)?)))
        {
            match self.callable(name) {
                Some(callable) => {
                    let mut service = self.wanted_service(name, number, &callable);
                    self.add_remote_backends(name, &mut service);
                    self.count_slots(number, Some(&service));
                    wanted.set_service(service);
                }
                None => {
                    wanted.services.remove(&number);
                    self.count_slots(number, None);
                }
            }
        }
        self.wanted = wanted;
    }

    /// How one of several backends of a service is chosen.
    pub(crate) fn balance(&self, service: &ServiceName) -> Balance {
        self.callable(service).map_or_else(Balance::default, |callable| callable.balance)
    }

    fn wanted_instance(&self, instance: &Instance, members: &Path) -> datapath::Instance {
        let service = instance.key.service.as_ref().and_then(|n| self.intent.numbers.get(n));
        let (fleet4, fleet6) = self.fleet_addresses(instance);
        datapath::Instance {
            id: u64::from(instance.number),
            cgroup: match instance.adoption().and_then(|adoption| adoption.target.cgroup()) {
                Some(cgroup) => cgroup.to_owned(),
                None => members.join(instance.key.cgroup()),
            },
            service: service.copied().unwrap_or(0),
            address4: instance.address4,
            address6: instance.address6,
            ports: instance.ports().iter().map(|p| (p.protocol, p.number)).collect(),
            own_address: instance.adoption().is_none(),
            brought: instance.brought(),
            fleet4,
            fleet6,
            // Published ports go by the map of listeners alone, also while no agent runs.
            watch_listen: instance.watches() || self.is_published(instance),
        }
    }

    fn is_published(&self, instance: &Instance) -> bool {
        let service = instance.key.service.as_ref().and_then(|name| self.launches.get(name));
        service.is_some_and(|launch| !launch.service.publish.is_empty())
    }

    /// What callers may know of a service: what this host says of it, or else what others say.
    fn callable(&self, name: &ServiceName) -> Option<Callable<'_>> {
        self.local(name).or_else(|| {
            let remote = self.remote(name)?;
            let (balance, outlier) = (remote.balance, remote.outlier);
            Some(Callable { ports: &remote.ports, balance, outlier })
        })
    }

    /// The same of what this host runs: of a wanted service, or one with instances.
    pub(super) fn local(&self, name: &ServiceName) -> Option<Callable<'_>> {
        if let Some(launch) = self.launches.get(name) {
            return Some(Callable::of(launch));
        }
        let present = self.of(Some(name)).filter(|instance| instance.phase != Phase::Cleaning);
        present.last().map(|instance| match instance.launch() {
            Some(launch) => Callable::of(launch),
            None => Callable {
                ports: instance.ports(),
                balance: Balance::default(),
                outlier: Outlier::default(),
            },
        })
    }

    fn wanted_service(
        &self,
        name: &ServiceName,
        number: u32,
        callable: &Callable<'_>,
    ) -> datapath::Service {
        let ports = callable.ports.iter().map(|port| ServicePort {
            number: port.number,
            protocol: port.protocol,
            balance: callable.balance,
            outlier: callable.outlier,
            backends: self.backends(name, port),
        });
        datapath::Service {
            id: number,
            address4: alloc::service4(number),
            address6: alloc::service6(self.intent.network6, number),
            ports: ports.collect(),
            published: self.published(name),
        }
    }

    /// Instances that have the port, in the order of their backends.
    pub(super) fn serving(
        &self,
        name: &ServiceName,
        protocol: Protocol,
        number: u16,
    ) -> impl Iterator<Item = &Instance> {
        let registered = self.of(Some(name)).filter(|i| i.phase.is_registered());
        registered.filter(move |i| i.declares(protocol, number))
    }

    /// Ports of the host that lead to a service; none when it is not wanted and only drains.
    fn backends(&self, name: &ServiceName, port: &Port) -> Vec<Backend> {
        let serving = || self.serving(name, port.protocol, port.number);
        // Neither room for more than there are, nor holes where others were tried.
        let mut backends = Vec::with_capacity(serving().count());
        backends.extend(serving().map(|instance| {
            let zone = self.zone_of(instance);
            backend(instance, port, zone.map_or(0, |zone| alloc::zone_number(zone.as_str())))
        }));
        backends
    }

    fn published(&self, name: &ServiceName) -> Vec<datapath::Published> {
        let Some(service) = self.launches.get(name).map(|launch| &launch.service) else {
            return Vec::new();
        };
        let leads = |publish: &Publish| {
            let port = service.port(&publish.port)?.number;
            Some(datapath::Published { host: publish.host(), port })
        };
        service.publish.iter().filter_map(leads).collect()
    }
}

fn backend(instance: &Instance, port: &Port, zone: u32) -> Backend {
    // The kernel sees for itself on which family a TCP listener is, and has to know the backend
    // before it listens. Who serves a UDP port is known here alone.
    let (v4, v6) = match port.protocol {
        Protocol::Tcp => (true, true),
        Protocol::Udp => instance.families(port.protocol, port.number),
    };
    let place = |by, family| instance.place(port.protocol, port.number, family).filter(|_| by);
    let (place4, place6) = (place(v4, Family::V4), place(v6, Family::V6));
    Backend {
        key: backend_key(instance.number, port.protocol, port.number),
        address4: place4.as_ref().and_then(|place| match place.address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }),
        address6: place6.as_ref().and_then(|place| match place.address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        }),
        wildcard: Wildcard {
            v4: place4.is_some_and(|place| place.wildcard),
            v6: place6.is_some_and(|place| place.wildcard),
        },
        port: port.number,
        weight: WEIGHT,
        local: true,
        node: 0,
        zone,
        in_choice: instance.in_choice(port.protocol, port.number),
        slots: 1,
    }
}
