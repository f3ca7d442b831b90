//! Members, and which of their listeners belongs to which backend.

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
    layout::{addr4, addr6, mapped},
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

/// What the maps hold of members, and what follows from services for them.
#[derive(Debug, Default)]
pub(super) struct Members {
    instances: HashMap<u64, abi::Instance>,
    listen_keys: HashMap<Words, abi::ListenValue>,
    /// Listeners that adopted programs had, and their services.
    brought: HashMap<u64, u32>,
    /// Whose an address is.
    owners: HashMap<IpAddr, Arc<Instance>>,
    /// Where a local backend listens, and its key.
    backends: BTreeSet<(IpAddr, u16, u64)>,
    /// Addresses whose backends changed since the listen keys were written.
    stale: HashSet<IpAddr>,
}

impl Members {
    pub(super) fn read(tables: &impl Tables) -> Result<Self, Error> {
        let keys = tables.listen_keys()?.into_iter();
        Ok(Self {
            instances: tables.instances()?.into_iter().collect(),
            listen_keys: keys.map(|(key, value)| (words(&key), value)).collect(),
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
    fn backend_at(&self, address: IpAddr, port: u16) -> Option<u64> {
        let range = (address, port, 0)..=(address, port, u64::MAX);
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
        self.apply_listen_keys(tables, delta)
    }

    fn apply_listen_keys(
        &mut self,
        tables: &mut impl Tables,
        delta: &Delta<Member>,
    ) -> Result<bool, Error> {
        let owners = self.members.stale.iter().filter_map(|at| self.members.owners.get(at));
        let came = delta.came.iter().map(|member| &member.instance);
        let wanted: HashMap<Words, abi::ListenValue> =
            came.chain(owners).flat_map(|instance| self.listen_keys_of(instance)).collect();
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
        // Not cleared: it would keep the room for all that came at first.
        self.members.stale = HashSet::new();
        Ok(scan)
    }

    /// Both families of a port belong to the same backend.
    fn listen_keys_of(&self, instance: &Arc<Instance>) -> Vec<(Words, abi::ListenValue)> {
        let at = |port| {
            let mut keys = addresses(instance).filter_map(|a| self.members.backend_at(a, port));
            keys.next().and_then(|key| self.backend(key)).unwrap_or(abi::NONE)
        };
        listens(instance)
            .map(|(port, key)| {
                let value =
                    abi::ListenValue { instance: instance.id, backend: at(port), reserved: 0 };
                (words(&key), value)
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
fn places(service: &Service) -> impl Iterator<Item = (IpAddr, u16, u64)> {
    let ports = service.ports.iter().filter(|p| p.protocol == Protocol::Tcp);
    ports.flat_map(|p| &p.backends).filter(|b| b.local).filter_map(|b| {
        let address = b.address4.map(IpAddr::V4).or(b.address6.map(IpAddr::V6))?;
        Some((address, b.port, b.key))
    })
}

/// The TCP ports that an instance declares, with their listen keys. Where an adopted one listens is
/// asked for each time: it may be any address of the host.
pub(in crate::layout) fn listens(
    instance: &Instance,
) -> impl Iterator<Item = (u16, abi::ListenKey)> {
    let ports = instance.ports.iter().filter(|(protocol, _)| *protocol == Protocol::Tcp);
    let ports = ports.filter(|_| instance.own_address);
    ports.flat_map(|(_, port)| {
        addresses(instance).map(|address| {
            let key = abi::ListenKey {
                addr: mapped(address),
                port: port.to_be(),
                reserved: 0,
                protocol: abi::protocol::TCP.into(),
            };
            (*port, key)
        })
    })
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
    })
}
