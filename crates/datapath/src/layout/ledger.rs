//! What the maps hold, and the way from there to what is wanted.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use sinew_abi as abi;
use sinew_model::Protocol;

use super::{
    Applied, Delta, Tables, addr4, addr6,
    demand::Demand,
    elsewhere::Elsewhere,
    ports, protocol_number,
    published::{self, HostPort},
    regions,
};
use crate::{
    Error,
    wanted::{Service, ServicePort},
};

mod members;

pub(crate) use members::Member;
pub(super) use members::listens;

/// How much may wait for a grace period before one is waited for.
const RETIRED: usize = 4096;

/// Names a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PortId {
    service: u32,
    number: u16,
    protocol: u16,
}

/// A service port in the maps.
#[derive(Clone, Debug)]
struct Placed {
    key4: abi::ServiceKey4,
    key6: abi::ServiceKey6,
    value: abi::Service,
    outlier: abi::Outlier,
    slots: Vec<u32>,
    /// Keys of all its backends, chosen or not.
    backends: Vec<u64>,
}

/// The contents of the maps as user space knows them.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    services: Applied<u32, Service>,
    /// What is wanted of the tables.
    demand: Demand,
    /// A change stopped half-way: the tables know better.
    torn: bool,
    ports: HashMap<PortId, Placed>,
    backends: HashMap<u64, u32>,
    elsewhere: Elsewhere,
    members: members::Members,
    pub(super) published: BTreeMap<HostPort, abi::ServiceKey4>,
    /// IPv6 keys that belong to no port.
    orphans: Vec<abi::ServiceKey6>,
    regions: regions::Regions,
    /// First index that was never used.
    fresh_backend: u32,
    free_backends: Vec<u32>,
    retired_backends: Vec<u32>,
    fresh_port: u32,
    free_ports: Vec<u32>,
    retired_ports: Vec<u32>,
    generation: u32,
}

/// What is to be changed, which the tables can hold.
#[derive(Debug)]
pub(crate) struct Plan {
    services: Delta<Arc<Service>>,
    demand: Demand,
}

impl Ledger {
    /// Reads back what the maps hold, whoever wrote it.
    pub(crate) fn read(tables: &impl Tables) -> Result<Self, Error> {
        let mut ledger = Self::default();
        for index in 0..abi::capacity::BACKENDS {
            let entry = tables.backend(index);
            if entry.key != 0 {
                ledger.backends.insert(entry.key, index);
                ledger.elsewhere.moved(index, 0, entry.node);
            }
            if entry.generation != 0 {
                ledger.fresh_backend = index + 1;
            }
        }
        let used: HashSet<u32> = ledger.backends.values().copied().collect();
        ledger.free_backends = (0..ledger.fresh_backend).filter(|i| !used.contains(i)).collect();
        ledger.read_ports(tables)?;
        ledger.members = members::Members::read(tables)?;
        ledger.published = published::read(tables)?;
        Ok(ledger)
    }

    fn read_ports(&mut self, tables: &impl Tables) -> Result<(), Error> {
        let services6 = tables.services6()?;
        let mut keys6: HashMap<u32, abi::ServiceKey6> =
            services6.iter().map(|(key, value)| (value.index, *key)).collect();
        // A writer that stopped between the two keys of a port left each with a region.
        let mut regions: Vec<_> = services6.iter().map(|(_, v)| (v.base, reach(v))).collect();
        for (key4, value) in tables.services4()? {
            let id = PortId {
                service: value.service,
                number: u16::from_be(key4.port),
                protocol: key4.protocol,
            };
            regions.push((value.base, reach(&value)));
            self.fresh_port = self.fresh_port.max(value.index + 1);
            self.generation = self.generation.max(value.generation);
            let slots: Vec<u32> = (0..reach(&value)).map(|i| tables.slot(value.base + i)).collect();
            let key6 = keys6.remove(&value.index).unwrap_or(abi::ServiceKey6::ZERO);
            let placed = Placed {
                key4,
                key6,
                value,
                outlier: abi::Outlier::ZERO,
                slots,
                backends: Vec::new(),
            };
            self.ports.insert(id, placed);
        }
        // One that stopped between the two removals left these behind.
        self.orphans = keys6.into_values().collect();
        let used: HashSet<u32> = self.ports.values().map(|p| p.value.index).collect();
        self.free_ports = (0..self.fresh_port).filter(|i| !used.contains(i)).collect();
        self.regions.adopt(regions);
        let by_index: HashMap<u32, PortId> =
            self.ports.iter().map(|(id, p)| (p.value.index, *id)).collect();
        for (key, index) in &self.backends {
            if let Some(placed) =
                by_index.get(&tables.backend(*index).index).and_then(|id| self.ports.get_mut(id))
            {
                placed.backends.push(*key);
            }
        }
        Ok(())
    }

    /// Index of a backend.
    pub(crate) fn backend(&self, key: u64) -> Option<u32> {
        self.backends.get(&key).copied()
    }

    /// All backends with their indices.
    pub(crate) fn backends(&self) -> impl Iterator<Item = (u64, u32)> {
        self.backends.iter().map(|(key, index)| (*key, *index))
    }

    /// Indices of backends on other hosts, by the hosts' numbers.
    pub(crate) fn elsewhere(&self) -> impl Iterator<Item = (u32, impl Iterator<Item = u32>)> {
        self.elsewhere.hosts()
    }

    /// Index of a service port.
    pub(crate) fn port_index(&self, service: u32, number: u16, protocol: Protocol) -> Option<u32> {
        let id = PortId { service, number, protocol: protocol_number(protocol) };
        self.ports.get(&id).map(|placed| placed.value.index)
    }

    /// How full the maps are: (name, used, capacity).
    pub(crate) fn usage(&self) -> [(&'static str, u32, u32); 7] {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let [instances, listening, brought] = self.members.counts();
        [
            ("instances", count(instances), abi::capacity::INSTANCES),
            ("listening addresses", count(listening), abi::capacity::BACKENDS),
            ("adopted listeners", count(brought), abi::capacity::ADOPTED_LISTENERS),
            ("service ports", count(self.ports.len()), abi::capacity::SERVICES),
            ("backends", count(self.backends.len()), abi::capacity::BACKENDS),
            ("published ports", count(self.published.len()), abi::capacity::PUBLISHED),
            ("slots", self.regions.taken(), abi::capacity::SLOTS),
        ]
    }

    /// The way to these services and members. Too much is refused here, before anything is changed.
    pub(crate) fn plan(
        &mut self,
        tables: &mut impl Tables,
        services: &BTreeMap<u32, Arc<Service>>,
        members: &Delta<Member>,
    ) -> Result<Plan, Error> {
        if self.torn {
            // As after a restart.
            tables.grace_period()?;
            *self = Self::read(tables)?;
        }
        let services = self.services.to(services);
        published::check(&services)?;
        let demand = self.demand.after_services(&services)?.after_members(members)?;
        Ok(Plan { services, demand })
    }

    /// Makes the tables hold the services of a plan and no others.
    pub(crate) fn apply_services(
        &mut self,
        tables: &mut impl Tables,
        plan: &Plan,
    ) -> Result<(), Error> {
        self.torn = true;
        self.change_services(tables, &plan.services)?;
        self.services.reach(&plan.services, |service| service.id);
        (self.demand, self.torn) = (plan.demand, false);
        Ok(())
    }

    fn change_services(
        &mut self,
        tables: &mut impl Tables,
        delta: &Delta<Arc<Service>>,
    ) -> Result<(), Error> {
        for orphan in std::mem::take(&mut self.orphans) {
            tables.remove_service6(&orphan)?;
        }
        let ids = |service: &Arc<Service>| -> Vec<PortId> {
            service.ports.iter().map(|port| port_id(service, port)).collect()
        };
        let came: HashSet<PortId> = delta.came.iter().flat_map(ids).collect();
        let left: Vec<PortId> = if delta.whole {
            self.ports.keys().copied().collect()
        } else {
            delta.left.iter().flat_map(ids).collect()
        };
        // What leaves goes first: its address may be wanted by what comes.
        for id in left.into_iter().filter(|id| !came.contains(id)) {
            self.remove_port(tables, id)?;
        }
        for service in &delta.left {
            self.members.forget_backends_of(service);
        }
        for service in &delta.came {
            for port in &service.ports {
                self.apply_port(tables, service, port)?;
            }
            self.members.note_backends_of(service);
        }
        self.change_published(tables, delta)?;
        if delta.whole {
            self.remove_strays(tables)?;
        }
        self.reclaim(tables, false)
    }

    /// Backends of no port: whoever placed them did not come to say whose they are.
    fn remove_strays(&mut self, tables: &mut impl Tables) -> Result<(), Error> {
        let listed: HashSet<u64> =
            self.ports.values().flat_map(|placed| &placed.backends).copied().collect();
        let strays: Vec<u64> =
            self.backends.keys().filter(|key| !listed.contains(key)).copied().collect();
        strays.into_iter().try_for_each(|key| self.remove_backend(tables, key))
    }

    fn apply_port(
        &mut self,
        tables: &mut impl Tables,
        service: &Service,
        port: &ServicePort,
    ) -> Result<(), Error> {
        let id = port_id(service, port);
        let index = match self.ports.get(&id) {
            Some(placed) => placed.value.index,
            None => self.take_port(tables)?,
        };
        let mut slots = Vec::with_capacity(port.backends.len());
        let mut reserve = Vec::new();
        for backend in &port.backends {
            let at = self.place_backend(tables, backend, index)?;
            match backend.slots {
                _ if !backend.in_choice => {}
                0 => reserve.push(at),
                count => slots.extend(std::iter::repeat_n(at, count.into())),
            }
        }
        let drawn = slots.len();
        slots.append(&mut reserve);
        // What is known stays known until all of the change is in force.
        let before = self.ports.get(&id).cloned();
        let placed = self.flip(tables, service, port, index, (slots, drawn), before.as_ref())?;
        // Only now, when no new choice can find them, do the ones that left go.
        let kept: HashSet<u64> = placed.backends.iter().copied().collect();
        self.ports.insert(id, placed);
        for key in before.iter().flat_map(|b| &b.backends).filter(|key| !kept.contains(key)) {
            // Who read the tables after a change that failed may have taken another port's for
            // this one's, whose number it has now; that port has said so since.
            let owned = |at: &u32| tables.backend(*at).index == index;
            if self.backends.get(key).is_some_and(owned) {
                self.remove_backend(tables, *key)?;
            }
        }
        Ok(())
    }

    /// Writes the slots into a fresh region when they differ, and replaces the service's value.
    fn flip(
        &mut self,
        tables: &mut impl Tables,
        service: &Service,
        port: &ServicePort,
        index: u32,
        (slots, drawn): (Vec<u32>, usize),
        before: Option<&Placed>,
    ) -> Result<Placed, Error> {
        let all = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        let len = u32::try_from(drawn).unwrap_or(u32::MAX);
        let (balance, affinity_ns) = ports::balance(port);
        let same_slots = before.is_some_and(|b| b.slots == slots);
        let base = match before {
            Some(b) if same_slots => b.value.base,
            _ => self.write_region(tables, &slots)?,
        };
        let mut value = abi::Service {
            service: service.id,
            index,
            base,
            len,
            step: ports::stride(len),
            balance,
            affinity_ns,
            generation: before.map_or(0, |b| b.value.generation),
            reserve: all - len,
        };
        let number = port.number.to_be();
        let protocol = protocol_number(port.protocol);
        let key4 = abi::ServiceKey4 { addr: addr4(service.address4), port: number, protocol };
        let key6 = abi::ServiceKey6 { addr: addr6(service.address6), port: number, protocol };
        let outlier = ports::outlier(&port.outlier);
        let backends = port.backends.iter().map(|b| b.key).collect();
        let moved = before.is_none_or(|b| b.key4 != key4 || b.key6 != key6);
        if before
            .is_none_or(|b| b.outlier != outlier || b.value.base != base || reach(&b.value) != all)
        {
            tables.set_port(index, &abi::Region { base, len: all }, &outlier);
        }
        if moved || before.is_none_or(|b| b.value != value) {
            self.generation = self.generation.wrapping_add(1);
            value.generation = self.generation;
            let name = abi::PortName {
                addr6: key6.addr,
                addr4: key4.addr,
                port: number,
                protocol,
                service: service.id,
                reserved: 0,
            };
            tables.set_port_name(index, &name);
            tables.put_service4(&key4, &value)?;
            tables.put_service6(&key6, &value)?;
        }
        if let Some(old) = before {
            if old.key4 != key4 {
                tables.remove_service4(&old.key4)?;
            }
            if old.key6 != key6 && old.key6 != abi::ServiceKey6::ZERO {
                tables.remove_service6(&old.key6)?;
            }
            if !same_slots {
                self.regions.retire(old.value.base, reach(&old.value));
            }
        }
        Ok(Placed { key4, key6, value, outlier, slots, backends })
    }

    fn write_region(&mut self, tables: &mut impl Tables, slots: &[u32]) -> Result<u32, Error> {
        if slots.is_empty() {
            return Ok(0);
        }
        let len = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        let base = match self.regions.take(len) {
            Some(base) => base,
            None => {
                self.reclaim(tables, true)?;
                self.regions.join();
                self.regions.take(len).ok_or_else(|| regions::full(len.into()))?
            }
        };
        for (at, backend) in (base..).zip(slots) {
            tables.set_slot(at, *backend);
        }
        Ok(base)
    }

    fn remove_port(&mut self, tables: &mut impl Tables, id: PortId) -> Result<(), Error> {
        let Some(placed) = self.ports.get(&id).cloned() else { return Ok(()) };
        // IPv6 first: a restart reads ports back by their IPv4 keys.
        if placed.key6 != abi::ServiceKey6::ZERO {
            tables.remove_service6(&placed.key6)?;
        }
        tables.remove_service4(&placed.key4)?;
        self.ports.remove(&id);
        self.regions.retire(placed.value.base, reach(&placed.value));
        self.retired_ports.push(placed.value.index);
        for key in placed.backends {
            self.remove_backend(tables, key)?;
        }
        Ok(())
    }

    fn place_backend(
        &mut self,
        tables: &mut impl Tables,
        backend: &crate::Backend,
        port: u32,
    ) -> Result<u32, Error> {
        if let Some(index) = self.backends.get(&backend.key).copied() {
            let was = tables.backend(index);
            let entry = ports::entry(backend, port, was.generation);
            if entry != was {
                tables.set_backend(index, &entry);
                self.elsewhere.moved(index, was.node, entry.node);
            }
            return Ok(index);
        }
        let index = self.take_backend(tables)?;
        let generation = tables.backend(index).generation.wrapping_add(1).max(1);
        tables.reset_hot(index, generation);
        tables.set_backend(index, &ports::entry(backend, port, generation));
        self.elsewhere.moved(index, 0, backend.node);
        self.backends.insert(backend.key, index);
        Ok(index)
    }

    fn remove_backend(&mut self, tables: &mut impl Tables, key: u64) -> Result<(), Error> {
        let Some(index) = self.backends.remove(&key) else { return Ok(()) };
        let abi::Backend { generation, node, .. } = tables.backend(index);
        tables.set_backend(index, &abi::Backend { generation, ..abi::Backend::ZERO });
        self.elsewhere.moved(index, node, 0);
        tables.remove_listeners(index)?;
        self.retired_backends.push(index);
        Ok(())
    }

    fn take_backend(&mut self, tables: &mut impl Tables) -> Result<u32, Error> {
        if self.free_backends.is_empty() && self.fresh_backend == abi::capacity::BACKENDS {
            self.reclaim(tables, true)?;
        }
        if let Some(index) = self.free_backends.pop() {
            return Ok(index);
        }
        if self.fresh_backend == abi::capacity::BACKENDS {
            let capacity = abi::capacity::BACKENDS;
            return Err(Error::Full {
                map: "the backend table",
                capacity,
                wanted: u64::from(capacity) + 1,
            });
        }
        self.fresh_backend += 1;
        Ok(self.fresh_backend - 1)
    }

    fn take_port(&mut self, tables: &mut impl Tables) -> Result<u32, Error> {
        if self.free_ports.is_empty() && self.fresh_port == abi::capacity::SERVICES {
            self.reclaim(tables, true)?;
        }
        if let Some(index) = self.free_ports.pop() {
            return Ok(index);
        }
        if self.fresh_port == abi::capacity::SERVICES {
            let capacity = abi::capacity::SERVICES;
            return Err(Error::Full {
                map: "the service table",
                capacity,
                wanted: u64::from(capacity) + 1,
            });
        }
        self.fresh_port += 1;
        Ok(self.fresh_port - 1)
    }

    pub(super) fn reclaim(&mut self, tables: &mut impl Tables, now: bool) -> Result<(), Error> {
        let waiting =
            self.retired_backends.len() + self.retired_ports.len() + self.regions.retired();
        if waiting == 0 || (!now && waiting < RETIRED) {
            return Ok(());
        }
        tables.grace_period()?;
        self.free_backends.append(&mut self.retired_backends);
        self.free_ports.append(&mut self.retired_ports);
        self.regions.reclaim();
        Ok(())
    }
}

/// Slots of a service port's region.
fn reach(value: &abi::Service) -> u32 {
    value.len.saturating_add(value.reserve)
}

fn port_id(service: &Service, port: &ServicePort) -> PortId {
    PortId { service: service.id, number: port.number, protocol: protocol_number(port.protocol) }
}
