//! What the data path shall hold: a pure function of the state.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use sinew_datapath::{self as datapath, Backend, ServicePort, Wanted};
use sinew_model::{Balance, Outlier, Port, Protocol, ServiceName};

use super::{Core, Instance, Phase};
use crate::alloc;

/// Weight of a backend that is like the others.
pub(crate) const WEIGHT: u32 = 256;

/// What a service looks like to its callers.
struct Callable<'a> {
    ports: &'a [Port],
    balance: Balance,
    outlier: Outlier,
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
    pub(crate) fn wanted(&self, members: &Path, resolver: Option<&datapath::Resolver>) -> Wanted {
        Wanted {
            instances: self
                .instances
                .values()
                .filter(|i| i.phase.is_registered())
                .map(|i| self.wanted_instance(i, members))
                .collect(),
            services: self
                .callable()
                .into_iter()
                .filter_map(|(name, callable)| self.wanted_service(name, &callable))
                .collect(),
            resolver: resolver.cloned(),
        }
    }

    /// How one of several backends of a service is chosen.
    pub(crate) fn balance(&self, service: &ServiceName) -> Balance {
        self.callable().get(service).map_or_else(Balance::default, |callable| callable.balance)
    }

    fn wanted_instance(&self, instance: &Instance, members: &Path) -> datapath::Instance {
        let service = instance.key.service.as_ref().and_then(|n| self.intent.numbers.get(n));
        datapath::Instance {
            id: u64::from(instance.number),
            cgroup: members.join(instance.key.cgroup()),
            service: service.copied().unwrap_or(0),
            address4: instance.address4,
            address6: instance.address6,
            ports: instance.ports().iter().map(|p| (p.protocol, p.number)).collect(),
            own_address: true,
            watch_listen: instance.watches(),
        }
    }

    /// Every service that callers may know: the wanted ones and those with instances.
    fn callable(&self) -> BTreeMap<&ServiceName, Callable<'_>> {
        let present = self.instances.values().filter_map(|instance| {
            let name = instance.key.service.as_ref()?;
            if instance.phase == Phase::Cleaning {
                return None;
            }
            let callable = match instance.launch() {
                Some(launch) => Callable {
                    ports: &launch.service.ports,
                    balance: launch.service.balance,
                    outlier: launch.service.outlier,
                },
                None => Callable {
                    ports: instance.ports(),
                    balance: Balance::default(),
                    outlier: Outlier::default(),
                },
            };
            Some((name, callable))
        });
        let wanted = self.launches.iter().map(|(name, launch)| {
            let service = &launch.service;
            let (balance, outlier) = (service.balance, service.outlier);
            (name, Callable { ports: &service.ports, balance, outlier })
        });
        // The wanted ones come last: they win.
        present.chain(wanted).collect()
    }

    fn wanted_service(
        &self,
        name: &ServiceName,
        callable: &Callable<'_>,
    ) -> Option<datapath::Service> {
        let number = *self.intent.numbers.get(name)?;
        let ports = callable.ports.iter().map(|port| ServicePort {
            number: port.number,
            protocol: port.protocol,
            balance: callable.balance,
            outlier: callable.outlier,
            backends: self
                .of(Some(name))
                .filter(|i| i.phase.is_registered())
                .filter(|i| i.declares(port.protocol, port.number))
                .map(|i| backend(i, port))
                .collect(),
        });
        Some(datapath::Service {
            id: number,
            address4: alloc::service4(number),
            address6: alloc::service6(self.intent.network6, number),
            ports: ports.collect(),
        })
    }
}

fn backend(instance: &Instance, port: &Port) -> Backend {
    // The kernel sees for itself on which family a TCP listener is, and has to know the backend
    // before it listens. Who serves a UDP port is known here alone.
    let (v4, v6) = match port.protocol {
        Protocol::Tcp => (true, true),
        Protocol::Udp => instance.families(port.protocol, port.number),
    };
    let zone = instance.launch().and_then(|l| l.service.zone.as_deref());
    Backend {
        key: backend_key(instance.number, port.protocol, port.number),
        address4: v4.then_some(instance.address4),
        address6: v6.then_some(instance.address6),
        port: port.number,
        weight: WEIGHT,
        local: true,
        zone: zone.map_or(0, alloc::zone_number),
        in_choice: instance.in_choice(port.protocol, port.number),
    }
}
