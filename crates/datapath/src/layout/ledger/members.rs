//! Members, which of their listeners belongs to which backend, and where other hosts reach them.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
};

use sinew_abi as abi;
use sinew_model::Protocol;

use super::{Delta, Ledger, Tables};
use crate::{
    Error,
    layout::{addr4, addr6, mapped, protocol_number},
    wanted::{Instance, Service},
};

/// An instance in its cgroup.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Id of the cgroup.
    pub cgroup: u64,
    /// The instance.
    pub instance: Arc<Instance>,
}

/// A listen key in words, which can be hashed.
type Words = [u32; 6];

/// Where a backend listens, and its key.
type Place = (IpAddr, Protocol, u16, u64);

/// What the maps hold of members, and what follows from services for them.
#[derive(Debug, Default)]
pub(super) struct Members {
    instances: HashMap<u64, abi::Instance>,
    listen_keys: HashMap<Words, abi::ListenValue>,
    /// Where other hosts reach them.
    reached: HashMap<abi::FleetKey, abi::FleetPort>,
    /// Listeners that adopted programs had, and their services.
    brought: HashMap<u64, u32>,
    /// Whose an address is.
    owners: HashMap<IpAddr, Arc<Instance>>,
    /// Where a local backend listens, and its key.
    backends: BTreeSet<Place>,
    /// Addresses whose backends changed since the listen keys were written.
    stale: HashSet<IpAddr>,
}

impl Members {
    pub(super) fn read(tables: &impl Tables) -> Result<Self, Error> {
        let keys = tables.listen_keys()?.into_iter();
        Ok(Self {
            instances: tables.instances()?.into_iter().collect(),
            listen_keys: keys.map(|(key, value)| (words(&key), value)).collect(),
            reached: tables.fleet_ports()?.into_iter().collect(),
            brought: tables.adopted_listeners()?.into_iter().collect(),
            ..Self::default()
        })
    }

    /// Instances, listening addresses and adopted listeners.
    pub(super) fn counts(&self) -> [usize; 3] {
        [self.instances.len(), self.listen_keys.len(), self.brought.len()]
    }

    pub(super) fn forget_backends_of(&mut self, service: &Service) {
        for place in places(service) {
            self.backends.remove(&place);
            self.stale.insert(place.0);
        }
    }

    pub(super) fn note_backends_of(&mut self, service: &Service) {
        for place in places(service) {
            self.backends.insert(place);
            self.stale.insert(place.0);
        }
    }

    /// Key of the backend at an address.
    fn backend_at(&self, address: IpAddr, protocol: Protocol, port: u16) -> Option<u64> {
        let range = (address, protocol, port, 0)..=(address, protocol, port, u64::MAX);
        self.backends.range(range).next().map(|(.., key)| *key)
    }

    fn change(&mut self, tables: &mut impl Tables, delta: &Delta<Member>) -> Result<(), Error> {
        let came: HashSet<u64> = delta.came.iter().map(|member| member.cgroup).collect();
        let left: Vec<u64> = if delta.whole {
            self.owners.clear();
            self.instances.keys().copied().collect()
        } else {
            delta.left.iter().map(|member| member.cgroup).collect()
        };
        for cgroup in left.into_iter().filter(|cgroup| !came.contains(cgroup)) {
            tables.remove_instance(cgroup)?;
            self.instances.remove(&cgroup);
        }
        for Member { instance, .. } in &delta.left {
            for address in addresses(instance) {
                self.owners.remove(&address);
            }
        }
        for Member { cgroup, instance } in &delta.came {
            let value = entry(instance)?;
            if self.instances.get(cgroup) != Some(&value) {
                tables.put_instance(*cgroup, &value)?;
                self.instances.insert(*cgroup, value);
            }
            self.owners.extend(addresses(instance).map(|address| (address, instance.clone())));
        }
        self.change_brought(tables, delta)
    }

    fn change_brought(
        &mut self,
        tables: &mut impl Tables,
        delta: &Delta<Member>,
    ) -> Result<(), Error> {
        let wanted: HashMap<u64, u32> = brought(&delta.came).collect();
        let left: Vec<u64> = if delta.whole {
            self.brought.keys().copied().collect()
        } else {
            brought(&delta.left).map(|(cookie, _)| cookie).collect()
        };
        for cookie in left.into_iter().filter(|cookie| !wanted.contains_key(cookie)) {
            tables.remove_adopted_listener(cookie)?;
            self.brought.remove(&cookie);
        }
        for (cookie, service) in wanted {
            if self.brought.get(&cookie) != Some(&service) {
                tables.put_adopted_listener(cookie, service)?;
                self.brought.insert(cookie, service);
            }
        }
        Ok(())
    }
}

impl Ledger {
    /// Makes the tables hold these members and no others; answers whether listeners that exist
    /// already may belong to a key that is new.
    pub(crate) fn apply_instances(
        &mut self,
        tables: &mut impl Tables,
        delta: &Delta<Member>,
    ) -> Result<bool, Error> {
        self.members.change(tables, delta)?;
        // Not cleared: it would keep the room for all that came at first.
        let stale = std::mem::take(&mut self.members.stale);
        let owners = stale.iter().filter_map(|at| self.members.owners.get(at));
        let changed: Vec<Arc<Instance>> =
            delta.came.iter().map(|member| &member.instance).chain(owners).cloned().collect();
        let done = self
            .apply_listen_keys(tables, delta, &changed)
            .and_then(|scan| self.apply_reached(tables, delta, &changed).map(|()| scan));
        if done.is_err() {
            self.members.stale = stale;
        }
        done
    }

    fn apply_reached(
        &mut self,
        tables: &mut impl Tables,
        delta: &Delta<Member>,
        changed: &[Arc<Instance>],
    ) -> Result<(), Error> {
        let wanted: HashMap<abi::FleetKey, abi::FleetPort> =
            changed.iter().flat_map(|instance| self.reached_of(tables, instance)).collect();
        let left: Vec<abi::FleetKey> = if delta.whole {
            self.members.reached.keys().copied().collect()
        } else {
            // Of one that stays the endpoint may have gone.
            let left = delta.left.iter().map(|member| &member.instance).chain(changed);
            left.flat_map(|instance| reached(instance).map(|(_, key)| key)).collect()
        };
        for key in left.into_iter().filter(|key| !wanted.contains_key(key)) {
            if self.members.reached.contains_key(&key) {
                tables.remove_fleet_port(&key)?;
                self.members.reached.remove(&key);
            }
        }
        for (key, value) in wanted {
            if self.members.reached.get(&key) != Some(&value) {
                tables.put_fleet_port(&key, &value)?;
                self.members.reached.insert(key, value);
            }
        }
        Ok(())
    }

    fn reached_of(
        &self,
        tables: &impl Tables,
        instance: &Arc<Instance>,
    ) -> Vec<(abi::FleetKey, abi::FleetPort)> {
        let entries = reached(instance).filter_map(|((protocol, port), key)| {
            let backend = self.backend_of(instance, protocol, port)?;
            let generation = tables.backend(backend).generation;
            Some((key, abi::FleetPort { backend, generation }))
        });
        entries.collect()
    }

    /// Index of the backend that a port of an instance is.
    fn backend_of(&self, instance: &Instance, protocol: Protocol, port: u16) -> Option<u32> {
        let at = |address| self.members.backend_at(address, protocol, port);
        addresses(instance).find_map(at).and_then(|key| self.backend(key))
    }

    /// Whether datagrams of other hosts are handed to an instance.
    pub(crate) fn takes_datagrams(&self) -> bool {
        self.members.reached.keys().any(|key| key.protocol == abi::protocol::UDP)
    }

    fn apply_listen_keys(
        &mut self,
        tables: &mut impl Tables,
        delta: &Delta<Member>,
        changed: &[Arc<Instance>],
    ) -> Result<bool, Error> {
        let wanted: HashMap<Words, abi::ListenValue> =
            changed.iter().flat_map(|instance| self.listen_keys_of(instance)).collect();
        let left: Vec<Words> = if delta.whole {
            self.members.listen_keys.keys().copied().collect()
        } else {
            let left = delta.left.iter().map(|member| &member.instance);
            left.flat_map(|instance| listens(instance).map(|(_, key)| words(&key))).collect()
        };
        for words in left.into_iter().filter(|words| !wanted.contains_key(words)) {
            tables.remove_listen_key(&listen_key(&words))?;
            self.members.listen_keys.remove(&words);
        }
        let mut scan = false;
        for (words, value) in wanted {
            if self.members.listen_keys.get(&words) != Some(&value) {
                tables.put_listen_key(&listen_key(&words), &value)?;
                self.members.listen_keys.insert(words, value);
                scan |= value.backend != abi::NONE;
            }
        }
        Ok(scan)
    }

    /// Both families of a port belong to the same backend.
    fn listen_keys_of(&self, instance: &Arc<Instance>) -> Vec<(Words, abi::ListenValue)> {
        listens(instance)
            .map(|((protocol, port), key)| {
                let backend = self.backend_of(instance, protocol, port).unwrap_or(abi::NONE);
                (words(&key), abi::ListenValue { instance: instance.id, backend, reserved: 0 })
            })
            .collect()
    }
}

fn brought(members: &[Member]) -> impl Iterator<Item = (u64, u32)> {
    let instances = members.iter().map(|member| &member.instance);
    instances.flat_map(|i| i.brought.iter().map(|cookie| (*cookie, i.service)))
}

fn addresses(instance: &Instance) -> impl Iterator<Item = IpAddr> + use<> {
    [instance.address4.into(), instance.address6.into()].into_iter()
}

/// Where the local backends of a service listen: one address is enough to find one.
fn places(service: &Service) -> impl Iterator<Item = Place> {
    service.ports.iter().flat_map(|port| {
        port.backends.iter().filter(|b| b.local).filter_map(|b| {
            let address = b.address4.map(IpAddr::V4).or(b.address6.map(IpAddr::V6))?;
            Some((address, port.protocol, b.port, b.key))
        })
    })
}

/// The ports that an instance declares and whose listeners are looked for, with their listen keys: of
/// UDP only when other hosts are to reach them. Where an adopted one listens is asked for each time:
/// it may be any address of the host.
pub(in crate::layout) fn listens(
    instance: &Instance,
) -> impl Iterator<Item = ((Protocol, u16), abi::ListenKey)> {
    let reached = !fleet_addresses(instance).is_empty();
    let ports = instance.ports.iter().filter(move |(protocol, _)| {
        instance.own_address && (reached || *protocol == Protocol::Tcp)
    });
    ports.flat_map(|(protocol, port)| {
        addresses(instance).map(|address| {
            let key = abi::ListenKey {
                addr: mapped(address),
                port: port.to_be(),
                reserved: 0,
                protocol: protocol_number(*protocol).into(),
            };
            ((*protocol, *port), key)
        })
    })
}

/// The ports at which other hosts reach an instance.
fn reached(instance: &Instance) -> impl Iterator<Item = ((Protocol, u16), abi::FleetKey)> {
    let ports = instance.ports.iter().filter(|_| instance.own_address);
    ports.flat_map(|(protocol, port)| {
        fleet_addresses(instance).into_iter().map(|address| {
            let (addr, number) = (mapped(address), protocol_number(*protocol));
            let key = abi::FleetKey { addr, port: port.to_be(), protocol: number };
            ((*protocol, *port), key)
        })
    })
}

fn fleet_addresses(instance: &Instance) -> Vec<IpAddr> {
    instance.fleet4.map(IpAddr::V4).into_iter().chain(instance.fleet6.map(IpAddr::V6)).collect()
}

fn words(key: &abi::ListenKey) -> Words {
    let [a, b, c, d] = key.addr;
    [a, b, c, d, key.port.into(), key.protocol]
}

fn listen_key(words: &Words) -> abi::ListenKey {
    let [a, b, c, d, port, protocol] = *words;
    abi::ListenKey { addr: [a, b, c, d], port: port as u16, reserved: 0, protocol }
}

fn entry(instance: &Instance) -> Result<abi::Instance, Error> {
    let mut ports = [0; abi::capacity::DECLARED_PORTS];
    if instance.ports.len() > ports.len() {
        let (most, is) = (ports.len(), instance.ports.len());
        return Err(Error::Invalid {
            what: format!("instance {} declares {is} ports; at most {most} can be", instance.id),
        });
    }
    let mut udp_ports = 0;
    for (index, (protocol, port)) in instance.ports.iter().enumerate() {
        ports[index] = port.to_be();
        udp_ports |= u32::from(*protocol == Protocol::Udp) << index;
    }
    Ok(abi::Instance {
        addr4: addr4(instance.address4),
        service: instance.service,
        addr6: addr6(instance.address6),
        flags: if instance.own_address { abi::instance_flags::OWN_ADDRESS } else { 0 },
        udp_ports,
        ports,
        id: instance.id,
        fleet6: instance.fleet6.map_or([0; 4], addr6),
        fleet4: instance.fleet4.map_or(0, addr4),
        reserved: 0,
    })
}
