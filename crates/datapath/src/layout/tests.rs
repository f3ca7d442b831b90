//! The ledger against tables of memory: whatever sequence of wanted states comes, the tables say
//! what a caller should find, nothing that a running program may hold is reused before a grace
//! period, and a ledger read back from the tables goes on where the first one stopped.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use proptest::prelude::*;
use sinew_model::{Balance, Outlier};

use super::*;
use crate::wanted::{Backend, Instance, Service, ServicePort};

#[derive(Default)]
struct Memory {
    backends: HashMap<u32, abi::Backend>,
    hot: HashMap<u32, u32>,
    slots: HashMap<u32, u32>,
    services4: BTreeMap<(u32, u16, u16), abi::Service>,
    services6: BTreeMap<([u32; 4], u16, u16), abi::Service>,
    listen: HashMap<([u32; 4], u16), abi::ListenValue>,
    instances: HashMap<u64, abi::Instance>,
    /// Slots that a program run which began before the last grace period may still read.
    held: BTreeSet<u32>,
}

impl Tables for Memory {
    fn backend(&self, index: u32) -> abi::Backend {
        self.backends.get(&index).copied().unwrap_or(abi::Backend::ZERO)
    }
    fn set_backend(&mut self, index: u32, value: &abi::Backend) {
        self.backends.insert(index, *value);
    }
    fn reset_hot(&mut self, index: u32, generation: u32) {
        self.hot.insert(index, generation);
    }
    fn slot(&self, index: u32) -> u32 {
        self.slots.get(&index).copied().unwrap_or(0)
    }
    fn set_slot(&mut self, index: u32, backend: u32) {
        assert!(!self.held.contains(&index), "slot {index} is written while it may be read");
        self.slots.insert(index, backend);
    }
    fn set_port(&mut self, _: u32, _: &abi::Region, _: &abi::Outlier) {}
    fn set_port_name(&mut self, _: u32, _: &abi::PortName) {}
    fn services4(&self) -> Result<Vec<(abi::ServiceKey4, abi::Service)>, Error> {
        let key = |(addr, port, protocol): &(u32, u16, u16)| abi::ServiceKey4 {
            addr: *addr,
            port: *port,
            protocol: *protocol,
        };
        Ok(self.services4.iter().map(|(k, v)| (key(k), *v)).collect())
    }
    fn services6(&self) -> Result<Vec<(abi::ServiceKey6, abi::Service)>, Error> {
        let key = |(addr, port, protocol): &([u32; 4], u16, u16)| abi::ServiceKey6 {
            addr: *addr,
            port: *port,
            protocol: *protocol,
        };
        Ok(self.services6.iter().map(|(k, v)| (key(k), *v)).collect())
    }
    fn put_service4(&mut self, key: &abi::ServiceKey4, value: &abi::Service) -> Result<(), Error> {
        let old = self.services4.insert((key.addr, key.port, key.protocol), *value);
        if let Some(old) = old {
            self.held.extend(old.base..old.base + old.len);
        }
        self.held.extend(value.base..value.base + value.len);
        Ok(())
    }
    fn put_service6(&mut self, key: &abi::ServiceKey6, value: &abi::Service) -> Result<(), Error> {
        self.services6.insert((key.addr, key.port, key.protocol), *value);
        Ok(())
    }
    fn remove_service4(&mut self, key: &abi::ServiceKey4) -> Result<(), Error> {
        self.services4.remove(&(key.addr, key.port, key.protocol));
        Ok(())
    }
    fn remove_service6(&mut self, key: &abi::ServiceKey6) -> Result<(), Error> {
        self.services6.remove(&(key.addr, key.port, key.protocol));
        Ok(())
    }
    fn listen_keys(&self) -> Result<Vec<(abi::ListenKey, abi::ListenValue)>, Error> {
        let key = |(addr, port): &([u32; 4], u16)| abi::ListenKey {
            addr: *addr,
            port: *port,
            reserved: 0,
            protocol: abi::protocol::TCP.into(),
        };
        Ok(self.listen.iter().map(|(k, v)| (key(k), *v)).collect())
    }
    fn put_listen_key(
        &mut self,
        key: &abi::ListenKey,
        value: &abi::ListenValue,
    ) -> Result<(), Error> {
        self.listen.insert((key.addr, key.port), *value);
        Ok(())
    }
    fn remove_listen_key(&mut self, key: &abi::ListenKey) -> Result<(), Error> {
        self.listen.remove(&(key.addr, key.port));
        Ok(())
    }
    fn remove_listeners(&mut self, _: u32) -> Result<(), Error> {
        Ok(())
    }
    fn instances(&self) -> Result<Vec<(u64, abi::Instance)>, Error> {
        Ok(self.instances.iter().map(|(k, v)| (*k, *v)).collect())
    }
    fn put_instance(&mut self, cgroup: u64, value: &abi::Instance) -> Result<(), Error> {
        self.instances.insert(cgroup, *value);
        Ok(())
    }
    fn remove_instance(&mut self, cgroup: u64) -> Result<(), Error> {
        self.instances.remove(&cgroup);
        Ok(())
    }
    fn grace_period(&mut self) -> Result<(), Error> {
        let live: BTreeSet<u32> =
            self.services4.values().flat_map(|s| s.base..s.base + s.len).collect();
        self.held.retain(|slot| live.contains(slot));
        Ok(())
    }
}

impl Memory {
    /// Endpoint ports that a caller of a service port may be given.
    fn reachable(&self) -> BTreeMap<(u32, u16), Vec<u64>> {
        self.services4
            .iter()
            .map(|((_, port, _), service)| {
                let mut keys: Vec<u64> = (service.base..service.base + service.len)
                    .map(|slot| self.backend(self.slot(slot)).key)
                    .collect();
                keys.sort_unstable();
                ((service.service, u16::from_be(*port)), keys)
            })
            .collect()
    }
}

fn key(service: u32, backend: u8) -> u64 {
    (u64::from(service) << 8) + u64::from(backend) + 1
}

fn service(id: u32, backends: &[(u8, bool)]) -> Service {
    let address = |n: u8| Ipv4Addr::new(127, 80, id as u8, n);
    Service {
        id,
        address4: Ipv4Addr::new(127, 64, 0, id as u8),
        address6: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, id as u16),
        ports: vec![ServicePort {
            number: 80,
            protocol: Protocol::Tcp,
            balance: Balance::LeastLoad,
            outlier: Outlier {
                consecutive_failures: 3,
                base: Duration::from_secs(1),
                max: Duration::from_secs(60),
                max_ejected_percent: 50,
            },
            backends: backends
                .iter()
                .map(|(n, chosen)| Backend {
                    key: key(id, *n),
                    address4: Some(address(*n)),
                    address6: None,
                    port: 80,
                    weight: 256,
                    local: true,
                    zone: 0,
                    in_choice: *chosen,
                })
                .collect(),
        }],
    }
}

fn state() -> impl Strategy<Value = Vec<Service>> {
    let backends = prop::collection::btree_map(0u8..12, any::<bool>(), 0..12);
    prop::collection::btree_map(1u32..6, backends, 0..6).prop_map(|services| {
        services
            .into_iter()
            .map(|(id, backends)| service(id, &backends.into_iter().collect::<Vec<_>>()))
            .collect()
    })
}

fn expected(services: &[Service]) -> BTreeMap<(u32, u16), Vec<u64>> {
    let chosen = |p: &ServicePort| {
        let mut keys: Vec<u64> = p.backends.iter().filter(|b| b.in_choice).map(|b| b.key).collect();
        keys.sort_unstable();
        keys
    };
    services.iter().map(|s| ((s.id, s.ports[0].number), chosen(&s.ports[0]))).collect()
}

proptest! {
    #[test]
    fn tables_follow_every_wanted_state(states in prop::collection::vec(state(), 1..12), restart in 0usize..12) {
        let mut tables = Memory::default();
        let mut ledger = Ledger::default();
        for (step, wanted) in states.iter().enumerate() {
            if step == restart {
                // As the kernel's data path does: what an earlier process retired may still be held.
                tables.grace_period().unwrap();
                ledger = Ledger::read(&tables).unwrap();
            }
            ledger.apply_services(&mut tables, wanted).unwrap();
            prop_assert_eq!(tables.reachable(), expected(wanted));
            prop_assert_eq!(tables.services4.len(), tables.services6.len());
            for backend in tables.backends.values().filter(|b| b.key != 0) {
                prop_assert_eq!(tables.hot.values().filter(|g| **g == backend.generation).count() > 0, true);
            }
        }
    }

    #[test]
    fn an_unchanged_state_writes_nothing(wanted in state()) {
        let mut tables = Memory::default();
        let mut ledger = Ledger::default();
        ledger.apply_services(&mut tables, &wanted).unwrap();
        let before = tables.services4.clone();
        ledger.apply_services(&mut tables, &wanted).unwrap();
        prop_assert_eq!(before, tables.services4);
    }
}

#[test]
fn a_backend_that_stays_keeps_its_place() {
    let (mut tables, mut ledger) = (Memory::default(), Ledger::default());
    ledger.apply_services(&mut tables, &[service(1, &[(0, true), (1, true)])]).unwrap();
    let index = ledger.backend(key(1, 1)).unwrap();
    ledger.apply_services(&mut tables, &[service(1, &[(1, true), (2, true)])]).unwrap();
    assert_eq!(ledger.backend(key(1, 1)), Some(index), "its counters go on");
    assert_eq!(ledger.backend(key(1, 0)), None);
}

#[test]
fn a_place_is_used_anew_with_another_generation() {
    let (mut tables, mut ledger) = (Memory::default(), Ledger::default());
    ledger.apply_services(&mut tables, &[service(1, &[(0, true)])]).unwrap();
    let index = ledger.backend(key(1, 0)).unwrap();
    let first = tables.backend(index).generation;
    ledger.apply_services(&mut tables, &[]).unwrap();
    ledger.reclaim(&mut tables, true).unwrap();
    ledger.apply_services(&mut tables, &[service(2, &[(0, true)])]).unwrap();
    assert_eq!(ledger.backend(key(2, 0)), Some(index));
    assert_ne!(tables.backend(index).generation, first, "a late release must not count");
}

#[test]
fn listen_keys_name_the_backend_of_the_instance() {
    let (mut tables, mut ledger) = (Memory::default(), Ledger::default());
    let services = [service(1, &[(7, false)])];
    let instance = Instance {
        id: 70,
        cgroup: "/x".into(),
        service: 1,
        address4: Ipv4Addr::new(127, 80, 1, 7),
        address6: Ipv6Addr::LOCALHOST,
        ports: vec![(Protocol::Tcp, 80)],
        own_address: true,
        watch_listen: true,
    };
    ledger.apply_services(&mut tables, &services).unwrap();
    assert!(ledger.apply_instances(&mut tables, &[(9, &instance)], &services).unwrap());
    let value = tables.listen[&(mapped(instance.address4.into()), 80u16.to_be())];
    assert_eq!((value.instance, Some(value.backend)), (70, ledger.backend(key(1, 7))));
    assert!(!ledger.apply_instances(&mut tables, &[(9, &instance)], &services).unwrap());
    ledger.apply_instances(&mut tables, &[], &services).unwrap();
    assert!(tables.listen.is_empty() && tables.instances.is_empty());
}

#[test]
fn too_much_is_refused_before_anything_changes() {
    let (mut tables, mut ledger) = (Memory::default(), Ledger::default());
    let mut large = service(1, &[(0, true)]);
    let one = large.ports[0].backends[0].clone();
    large.ports[0].backends = vec![one; abi::capacity::BACKENDS as usize + 1];
    let error = ledger.apply_services(&mut tables, &[large]).unwrap_err();
    assert!(matches!(error, Error::Full { map: "the backend table", .. }), "{error}");
    assert!(tables.services4.is_empty() && tables.backends.is_empty());
}
