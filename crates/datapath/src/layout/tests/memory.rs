//! Tables of memory, which can refuse a write and know what a running program may still read.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::*;

#[derive(Default)]
pub(super) struct Memory {
    pub(super) backends: HashMap<u32, abi::Backend>,
    pub(super) hot: HashMap<u32, u32>,
    pub(super) slots: HashMap<u32, u32>,
    pub(super) services4: BTreeMap<(u32, u16, u16), abi::Service>,
    pub(super) services6: BTreeMap<([u32; 4], u16, u16), abi::Service>,
    pub(super) published: BTreeMap<([u32; 4], u16), abi::ServiceKey4>,
    /// Ports whose packets are looked at.
    pub(super) marked: BTreeSet<u16>,
    pub(super) listen: HashMap<([u32; 4], u16), abi::ListenValue>,
    pub(super) reached: HashMap<abi::FleetKey, abi::FleetPort>,
    pub(super) adopted: BTreeMap<u64, u32>,
    pub(super) instances: HashMap<u64, abi::Instance>,
    /// Slots that a program run which began before the last grace period may still read.
    pub(super) held: BTreeSet<u32>,
    /// Writes until one is refused.
    pub(super) fails_in: Option<u32>,
}

impl Memory {
    fn write(&mut self) -> Result<(), Error> {
        match &mut self.fails_in {
            Some(0) => {
                self.fails_in = None;
                Err(Error::Full { map: "a test's table", capacity: 0, wanted: 1 })
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
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
        self.write()?;
        let old = self.services4.insert((key.addr, key.port, key.protocol), *value);
        if let Some(old) = old {
            self.held.extend(region(&old));
        }
        self.held.extend(region(value));
        Ok(())
    }
    fn put_service6(&mut self, key: &abi::ServiceKey6, value: &abi::Service) -> Result<(), Error> {
        self.write()?;
        self.services6.insert((key.addr, key.port, key.protocol), *value);
        Ok(())
    }
    fn remove_service4(&mut self, key: &abi::ServiceKey4) -> Result<(), Error> {
        self.write()?;
        self.services4.remove(&(key.addr, key.port, key.protocol));
        Ok(())
    }
    fn remove_service6(&mut self, key: &abi::ServiceKey6) -> Result<(), Error> {
        self.write()?;
        self.services6.remove(&(key.addr, key.port, key.protocol));
        Ok(())
    }
    fn published(&self) -> Result<Vec<(abi::PublishedKey, abi::ServiceKey4)>, Error> {
        let key = |(addr, port): &([u32; 4], u16)| abi::PublishedKey {
            addr: *addr,
            port: *port,
            protocol: abi::protocol::TCP,
        };
        Ok(self.published.iter().map(|(k, v)| (key(k), *v)).collect())
    }
    fn put_published(
        &mut self,
        key: &abi::PublishedKey,
        value: &abi::ServiceKey4,
    ) -> Result<(), Error> {
        self.write()?;
        assert!(self.marked.contains(&u16::from_be(key.port)), "nobody would look for it");
        self.published.insert((key.addr, key.port), *value);
        Ok(())
    }
    fn remove_published(&mut self, key: &abi::PublishedKey) -> Result<(), Error> {
        self.write()?;
        self.published.remove(&(key.addr, key.port));
        Ok(())
    }
    fn mark_published(&mut self, port: u16, may_be: bool) {
        if may_be {
            self.marked.insert(port)
        } else {
            self.marked.remove(&port)
        };
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
        self.write()?;
        self.listen.insert((key.addr, key.port), *value);
        Ok(())
    }
    fn remove_listen_key(&mut self, key: &abi::ListenKey) -> Result<(), Error> {
        self.write()?;
        self.listen.remove(&(key.addr, key.port));
        Ok(())
    }
    fn fleet_ports(&self) -> Result<Vec<(abi::FleetKey, abi::FleetPort)>, Error> {
        Ok(self.reached.iter().map(|(key, value)| (*key, *value)).collect())
    }
    fn put_fleet_port(&mut self, key: &abi::FleetKey, value: &abi::FleetPort) -> Result<(), Error> {
        self.write()?;
        self.reached.insert(*key, *value);
        Ok(())
    }
    fn remove_fleet_port(&mut self, key: &abi::FleetKey) -> Result<(), Error> {
        self.write()?;
        self.reached.remove(key);
        Ok(())
    }
    fn adopted_listeners(&self) -> Result<Vec<(u64, u32)>, Error> {
        Ok(self.adopted.iter().map(|(cookie, service)| (*cookie, *service)).collect())
    }
    fn put_adopted_listener(&mut self, cookie: u64, service: u32) -> Result<(), Error> {
        self.write()?;
        self.adopted.insert(cookie, service);
        Ok(())
    }
    fn remove_adopted_listener(&mut self, cookie: u64) -> Result<(), Error> {
        self.write()?;
        self.adopted.remove(&cookie);
        Ok(())
    }
    fn remove_listeners(&mut self, _: u32) -> Result<(), Error> {
        self.write()?;
        Ok(())
    }
    fn instances(&self) -> Result<Vec<(u64, abi::Instance)>, Error> {
        Ok(self.instances.iter().map(|(k, v)| (*k, *v)).collect())
    }
    fn put_instance(&mut self, cgroup: u64, value: &abi::Instance) -> Result<(), Error> {
        self.write()?;
        self.instances.insert(cgroup, *value);
        Ok(())
    }
    fn remove_instance(&mut self, cgroup: u64) -> Result<(), Error> {
        self.write()?;
        self.instances.remove(&cgroup);
        Ok(())
    }
    fn grace_period(&mut self) -> Result<(), Error> {
        let live: BTreeSet<u32> = self.services4.values().flat_map(region).collect();
        self.held.retain(|slot| live.contains(slot));
        Ok(())
    }
}

fn region(service: &abi::Service) -> std::ops::Range<u32> {
    service.base..service.base + service.len + service.reserve
}

impl Memory {
    /// Endpoint ports that a caller of a service port may be given: those of the draw, as often as
    /// they are in it, and the reserve.
    pub(super) fn reachable(&self) -> BTreeMap<(u32, u16), [Vec<u64>; 2]> {
        self.services4
            .iter()
            .map(|((_, port, _), service)| {
                let keys = |from: u32, len: u32| {
                    let slots = from..from + len;
                    let mut keys: Vec<u64> =
                        slots.map(|slot| self.backend(self.slot(slot)).key).collect();
                    keys.sort_unstable();
                    keys
                };
                let reserve = keys(service.base + service.len, service.reserve);
                let both = [keys(service.base, service.len), reserve];
                ((service.service, u16::from_be(*port)), both)
            })
            .collect()
    }
}
