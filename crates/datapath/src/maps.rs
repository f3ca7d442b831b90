//! The kernel's maps, opened from their pins.

use std::{
    collections::HashSet,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use sinew_abi as abi;

use crate::{Error, layout::Tables, near::Near, sys};

mod shared;

pub(crate) use shared::Shared;

/// Words that hold a bit for each port.
const PORT_WORDS: u32 = 65_536 / 64;

fn pinned(maps: &Path, name: &str) -> Result<OwnedFd, Error> {
    sys::open_pin(&maps.join(name)).map_err(|e| Error::system(format!("open map {name}"), e))
}

/// A hash map.
pub(crate) struct Hash<K, V> {
    fd: OwnedFd,
    name: &'static str,
    _kind: PhantomData<fn(K) -> V>,
}

impl<K: aya::Pod + Eq + std::hash::Hash, V: aya::Pod> Hash<K, V> {
    fn open(maps: &Path, name: &'static str) -> Result<Self, Error> {
        Ok(Self { fd: pinned(maps, name)?, name, _kind: PhantomData })
    }

    fn fail(&self, what: &str) -> impl FnOnce(std::io::Error) -> Error {
        let what = format!("{what} map {}", self.name);
        move |source| Error::system(what, source)
    }

    pub(crate) fn put(&self, key: &K, value: &V) -> Result<(), Error> {
        self.put_copies(key, std::slice::from_ref(value))
    }

    /// The same of a per-CPU map: a value for every possible CPU.
    fn put_copies(&self, key: &K, values: &[V]) -> Result<(), Error> {
        sys::map_update(self.fd.as_fd(), key, values).map_err(self.fail("write"))
    }

    pub(crate) fn get(&self, key: &K, zero: V) -> Result<Option<V>, Error> {
        let mut value = [zero];
        let found = sys::map_lookup(self.fd.as_fd(), key, &mut value).map_err(self.fail("read"))?;
        Ok(found.then_some(value[0]))
    }

    pub(crate) fn remove(&self, key: &K) -> Result<(), Error> {
        sys::map_delete(self.fd.as_fd(), key).map(drop).map_err(self.fail("delete from"))
    }

    pub(crate) fn keys(&self, zero: K) -> Result<Vec<K>, Error> {
        sys::map_keys(self.fd.as_fd(), zero).map_err(self.fail("list"))
    }

    /// All entries, with `copies` values each.
    pub(crate) fn entries(&self, zero: (K, V), copies: usize) -> Result<Vec<(K, Vec<V>)>, Error> {
        let mut entries = Vec::new();
        for key in self.keys(zero.0)? {
            let mut values = vec![zero.1; copies];
            if sys::map_lookup(self.fd.as_fd(), &key, &mut values).map_err(self.fail("read"))? {
                entries.push((key, values));
            }
        }
        Ok(entries)
    }

    pub(crate) fn list(&self, zero: (K, V)) -> Result<Vec<(K, V)>, Error> {
        let entries = self.entries(zero, 1)?;
        Ok(entries.into_iter().filter_map(|(k, v)| v.first().map(|v| (k, *v))).collect())
    }
}

/// What is noted of open connections.
pub(crate) struct Records {
    places: Shared<abi::Socket>,
    overflow: Hash<u64, abi::Socket>,
}

impl Records {
    pub(crate) fn open(maps: &Path) -> Result<Self, Error> {
        Ok(Self {
            places: Shared::open(maps, "SOCKETS", abi::capacity::SOCKETS)?,
            overflow: Hash::open(maps, "SOCKETS_OVERFLOW")?,
        })
    }

    /// Those of connections that are counted.
    pub(crate) fn list(&self) -> Result<impl Iterator<Item = abi::Socket>, Error> {
        let is_open = |r: &abi::Socket| r.cookie != 0 && r.flags & abi::socket_flags::COUNTED != 0;
        let overflowed = self.overflow.list((0, abi::Socket::ZERO))?;
        let placed = (0..abi::capacity::SOCKETS).filter_map(|index| self.places.get(index));
        let placed: Vec<_> = placed.filter(is_open).collect();
        self.places.unmap();
        Ok(placed.into_iter().chain(overflowed.into_iter().map(|(_, r)| r).filter(is_open)))
    }
}

/// All maps.
pub(crate) struct Maps {
    pub(crate) config: Shared<abi::Config>,
    pub(crate) reach: Shared<abi::Reach>,
    pub(crate) hot: Shared<abi::BackendHot>,
    pub(crate) edges: Hash<abi::EdgeKey, abi::Edge>,
    pub(crate) name_servers: Hash<[u32; 4], u32>,
    records: Records,
    overflow_hints: Hash<u32, u32>,
    counters: Hash<u32, abi::Counters>,
    affinities: Hash<abi::AffinityKey, abi::Affinity>,
    backends: Shared<abi::BackendPlace>,
    slots: Shared<u32>,
    regions: Shared<abi::Region>,
    port_names: Shared<abi::PortName>,
    outliers: Shared<abi::Outlier>,
    service_hot: Shared<abi::ServiceHot>,
    services4: Hash<abi::ServiceKey4, abi::Service>,
    services6: Hash<abi::ServiceKey6, abi::Service>,
    published: Hash<abi::PublishedKey, abi::ServiceKey4>,
    published_ports: Shared<u64>,
    listen_keys: Hash<abi::ListenKey, abi::ListenValue>,
    fleet_ports: Hash<abi::FleetKey, abi::FleetPort>,
    pub(crate) fleet: Shared<abi::Fleet>,
    pub(crate) hosts: Hash<abi::HostPrefix, abi::HostAddress>,
    pub(crate) nodes: Hash<u32, abi::Suspicion>,
    adopted_listeners: Hash<u64, u32>,
    instances: Hash<u64, abi::Instance>,
    times: Hash<u32, abi::BackendTimes>,
    known_listeners6: Shared<abi::KnownListener>,
    listeners: Hash<u32, u32>,
    listeners6: Hash<u32, u32>,
    near: Near,
}

impl Maps {
    /// Opens what `object::load` pinned.
    pub(crate) fn open(maps: &Path) -> Result<Self, Error> {
        use abi::capacity as c;
        let services4 = Hash::open(maps, "SERVICES4")?;
        let instances = Hash::open(maps, "INSTANCES")?;
        let near = Near::open(
            maps,
            &services4.list((abi::ServiceKey4::ZERO, abi::Service::ZERO))?,
            &instances.list((0, abi::Instance::ZERO))?,
        )?;
        Ok(Self {
            near,
            services4,
            instances,
            config: Shared::open(maps, "CONFIG", 1)?,
            reach: Shared::open(maps, "REACH", 1)?,
            hot: Shared::open(maps, "BACKEND_HOT", c::BACKENDS)?,
            edges: Hash::open(maps, "EDGES")?,
            name_servers: Hash::open(maps, "NAME_SERVERS")?,
            records: Records::open(maps)?,
            overflow_hints: Hash::open(maps, "OVERFLOW_HINTS")?,
            counters: Hash::open(maps, "COUNTERS")?,
            affinities: Hash::open(maps, "AFFINITIES")?,
            backends: Shared::open(maps, "BACKENDS", c::BACKENDS)?,
            slots: Shared::open(maps, "SLOTS", c::SLOTS)?,
            regions: Shared::open(maps, "REGIONS", c::SERVICES)?,
            port_names: Shared::open(maps, "PORT_NAMES", c::SERVICES)?,
            outliers: Shared::open(maps, "OUTLIERS", c::SERVICES)?,
            service_hot: Shared::open(maps, "SERVICE_HOT", c::SERVICES)?,
            services6: Hash::open(maps, "SERVICES6")?,
            published: Hash::open(maps, "PUBLISHED")?,
            published_ports: Shared::open(maps, "PUBLISHED_PORTS", PORT_WORDS)?,
            listen_keys: Hash::open(maps, "LISTEN_KEYS")?,
            fleet_ports: Hash::open(maps, "FLEET_PORTS")?,
            fleet: Shared::open(maps, "FLEET", 1)?,
            hosts: Hash::open(maps, "HOSTS")?,
            nodes: Hash::open(maps, "NODES")?,
            adopted_listeners: Hash::open(maps, "ADOPTED_LISTENERS")?,
            times: Hash::open(maps, "BACKEND_TIMES")?,
            known_listeners6: Shared::open(maps, "KNOWN_LISTENERS6", c::BACKENDS)?,
            listeners: Hash::open(maps, "LISTENERS")?,
            listeners6: Hash::open(maps, "LISTENERS6")?,
        })
    }

    /// Lets go of the memory that was looked at; what is used is seen again when it is used.
    pub(crate) fn close_eyes(&self) {
        self.backends.unmap();
        self.slots.unmap();
    }

    /// Records of open connections.
    pub(crate) fn open_connections(&self) -> Result<impl Iterator<Item = abi::Socket>, Error> {
        self.records.list()
    }

    /// How many records lie in the overflow, by the programs' own count.
    pub(crate) fn overflowed(&self) -> Result<u32, Error> {
        let mut sum = 0u32;
        for index in 0..abi::capacity::OVERFLOW_HINTS {
            let mut hint = [0u32];
            sys::map_lookup(self.overflow_hints.fd.as_fd(), &index, &mut hint)
                .map_err(self.overflow_hints.fail("read"))?;
            sum = sum.wrapping_add(hint[0]);
        }
        Ok(sum)
    }

    fn set_weight(&mut self, index: u32, weight: u32) {
        if let Some(hot) = self.hot.place(index) {
            // SAFETY: a place inside the mapping.
            unsafe { (&raw mut (*hot).weight).write_volatile(weight) };
        } else if let Some(hot) = self.hot.get(index) {
            // Without a mapping what the programs counted meanwhile is lost.
            self.hot.set(index, &abi::BackendHot { weight, ..hot });
        }
    }

    fn set_listener4(&mut self, index: u32, listener4: &abi::KnownListener) {
        if let Some(place) = self.backends.place(index) {
            // SAFETY: a place inside the mapping.
            unsafe { (&raw mut (*place).listener4).write_volatile(*listener4) };
        } else if let Some(place) = self.backends.get(index) {
            let listener4 = *listener4;
            self.backends.set(index, &abi::BackendPlace { listener4, ..place });
        }
    }

    /// Whether the process dies that made a listener of a backend.
    pub(crate) fn dying(&self, index: u32) -> bool {
        let v4 = self.backends.get(index).map_or(0, |place| place.listener4.cookie);
        let v6 = self.known_listeners6.get(index).map_or(0, |listener| listener.cookie);
        (v4 | v6) & abi::DYING != 0
    }

    /// Whether a caller holds the probe of this backend.
    pub(crate) fn probed(&self, index: u32, hot: &abi::BackendHot, now_ns: u64) -> bool {
        let port = self.backends.get(index).map_or(u32::MAX, |place| place.backend.index);
        let lease_ns = self.outliers.get(port).map_or(0, |rule| rule.probe_ns);
        hot.probe_ns != 0 && now_ns.saturating_sub(hot.probe_ns) <= lease_ns
    }

    /// Number of the host that a backend is on; 0: this one.
    pub(crate) fn node(&self, index: u32) -> u32 {
        self.backends.get(index).map_or(0, |place| place.backend.node)
    }

    /// Numbers of the hosts under suspicion: also of one whose time is over, until it answers.
    pub(crate) fn suspects(&self) -> Result<HashSet<u32>, Error> {
        let hosts = self.nodes.list((0, abi::Suspicion::ZERO))?.into_iter();
        Ok(hosts.filter(|(_, held)| held.until_ns != 0).map(|(node, _)| node).collect())
    }

    /// What a service port is called.
    pub(crate) fn port_name(&self, index: u16) -> abi::PortName {
        self.port_names.get(index.into()).unwrap_or(abi::PortName::ZERO)
    }

    /// How long connections to a backend took; `None` when no histograms are kept of it.
    pub(crate) fn times(&self, index: u32) -> Result<Option<abi::BackendTimes>, Error> {
        let mut copies = vec![abi::BackendTimes::ZERO; possible_cpus()];
        let found = sys::map_lookup(self.times.fd.as_fd(), &index, &mut copies)
            .map_err(self.times.fail("read"))?;
        Ok(found.then(|| copies.iter().fold(abi::BackendTimes::ZERO, abi::BackendTimes::merge)))
    }

    /// Which backend a source has.
    pub(crate) fn affinity(&self, key: &abi::AffinityKey) -> Result<Option<abi::Affinity>, Error> {
        self.affinities.get(key, abi::Affinity::ZERO)
    }

    /// The programs' own counters, summed over the CPUs.
    pub(crate) fn totals(&self) -> Result<abi::Counters, Error> {
        let mut copies = vec![abi::Counters::ZERO; possible_cpus()];
        sys::map_lookup(self.counters.fd.as_fd(), &0u32, &mut copies)
            .map_err(self.counters.fail("read"))?;
        Ok(copies.iter().fold(abi::Counters::ZERO, |mut sum, c| {
            sum.flows_lost += c.flows_lost;
            sum.notices_lost += c.notices_lost;
            sum.sockets_lost += c.sockets_lost;
            sum.edges_lost += c.edges_lost;
            sum.queries += c.queries;
            sum.queries_bypassed += c.queries_bypassed;
            sum.binds_denied += c.binds_denied;
            sum.sources_unset += c.sources_unset;
            sum.fleet_accepted += c.fleet_accepted;
            sum.fleet_strangers += c.fleet_strangers;
            sum.fleet_unheard += c.fleet_unheard;
            sum.suspicions += c.suspicions;
            sum.suspects_passed += c.suspects_passed;
            sum
        }))
    }
}

/// How many copies a per-CPU value has.
pub(crate) fn possible_cpus() -> usize {
    aya::util::nr_cpus().unwrap_or(1)
}

impl Tables for Maps {
    fn backend(&self, index: u32) -> abi::Backend {
        self.backends.get(index).map_or(abi::Backend::ZERO, |place| place.backend)
    }

    fn set_backend(&mut self, index: u32, value: &abi::Backend) {
        // An entry is never there without its weight: a writer that was killed in between left an
        // entry that differs from what is wanted.
        if value.key != 0 {
            self.set_weight(index, value.weight);
        }
        if let Some(place) = self.backends.place(index) {
            // SAFETY: a place inside the mapping.
            unsafe { (&raw mut (*place).backend).write_volatile(*value) };
        } else if let Some(place) = self.backends.get(index) {
            // Without a mapping a listener that is noted meanwhile is lost: the namespace is asked.
            self.backends.set(index, &abi::BackendPlace { backend: *value, ..place });
        }
        if value.key == 0 {
            self.set_weight(index, 0);
        }
    }

    fn reset_hot(&mut self, index: u32, generation: u32) {
        // The count and the generation change at once: a release that comes late finds one or the
        // other pair.
        if let Some(hot) = self.hot.place(index) {
            // SAFETY: a place inside the mapping, aligned to 8; the two fields are its first word.
            unsafe { hot.cast::<u64>().write_volatile(u64::from(generation) << 32) };
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        }
        self.hot.set(index, &abi::BackendHot { generation, ..abi::BackendHot::ZERO });
        if index < abi::capacity::BACKEND_TIMES
            && let Err(error) =
                self.times.put_copies(&index, &vec![abi::BackendTimes::ZERO; possible_cpus()])
        {
            // They are told as differences, which a start above zero does not change.
            tracing::warn!(%error, "the histograms of a backend begin where those of another ended");
        }
    }

    fn slot(&self, index: u32) -> u32 {
        self.slots.get(index).unwrap_or(abi::NONE)
    }

    fn set_slot(&mut self, index: u32, backend: u32) {
        self.slots.set(index, &backend);
    }

    fn set_port(&mut self, index: u32, region: &abi::Region, outlier: &abi::Outlier) {
        self.outliers.set(index, outlier);
        self.regions.set(index, region);
        if region.len == 0 {
            self.service_hot.set(index, &abi::ServiceHot::ZERO);
        }
    }

    fn set_port_name(&mut self, index: u32, name: &abi::PortName) {
        self.port_names.set(index, name);
    }

    fn services4(&self) -> Result<Vec<(abi::ServiceKey4, abi::Service)>, Error> {
        self.services4.list((abi::ServiceKey4::ZERO, abi::Service::ZERO))
    }

    fn services6(&self) -> Result<Vec<(abi::ServiceKey6, abi::Service)>, Error> {
        self.services6.list((abi::ServiceKey6::ZERO, abi::Service::ZERO))
    }

    fn put_service4(&mut self, key: &abi::ServiceKey4, value: &abi::Service) -> Result<(), Error> {
        self.near.remove_service(key)?;
        self.services4.put(key, value)?;
        self.near.put_service(key, value);
        Ok(())
    }

    fn put_service6(&mut self, key: &abi::ServiceKey6, value: &abi::Service) -> Result<(), Error> {
        self.services6.put(key, value)
    }

    fn remove_service4(&mut self, key: &abi::ServiceKey4) -> Result<(), Error> {
        self.near.remove_service(key)?;
        self.services4.remove(key)
    }

    fn remove_service6(&mut self, key: &abi::ServiceKey6) -> Result<(), Error> {
        self.services6.remove(key)
    }

    fn published(&self) -> Result<Vec<(abi::PublishedKey, abi::ServiceKey4)>, Error> {
        self.published.list((abi::PublishedKey::ZERO, abi::ServiceKey4::ZERO))
    }

    fn put_published(
        &mut self,
        key: &abi::PublishedKey,
        value: &abi::ServiceKey4,
    ) -> Result<(), Error> {
        self.published.put(key, value)
    }

    fn remove_published(&mut self, key: &abi::PublishedKey) -> Result<(), Error> {
        self.published.remove(key)
    }

    fn mark_published(&mut self, port: u16, may_be: bool) {
        let (word, bit) = (u32::from(port) / 64, 1 << (port % 64));
        let others = self.published_ports.get(word).unwrap_or(0) & !bit;
        self.published_ports.set(word, &if may_be { others | bit } else { others });
    }

    fn listen_keys(&self) -> Result<Vec<(abi::ListenKey, abi::ListenValue)>, Error> {
        self.listen_keys.list((abi::ListenKey::ZERO, abi::ListenValue::ZERO))
    }

    fn put_listen_key(
        &mut self,
        key: &abi::ListenKey,
        value: &abi::ListenValue,
    ) -> Result<(), Error> {
        self.listen_keys.put(key, value)
    }

    fn remove_listen_key(&mut self, key: &abi::ListenKey) -> Result<(), Error> {
        self.listen_keys.remove(key)
    }

    fn fleet_ports(&self) -> Result<Vec<(abi::FleetKey, abi::FleetPort)>, Error> {
        self.fleet_ports.list((abi::FleetKey::ZERO, abi::FleetPort::ZERO))
    }

    fn put_fleet_port(&mut self, key: &abi::FleetKey, value: &abi::FleetPort) -> Result<(), Error> {
        self.fleet_ports.put(key, value)
    }

    fn remove_fleet_port(&mut self, key: &abi::FleetKey) -> Result<(), Error> {
        self.fleet_ports.remove(key)
    }

    fn adopted_listeners(&self) -> Result<Vec<(u64, u32)>, Error> {
        self.adopted_listeners.list((0, 0))
    }

    fn put_adopted_listener(&mut self, cookie: u64, service: u32) -> Result<(), Error> {
        self.adopted_listeners.put(&cookie, &service)
    }

    fn remove_adopted_listener(&mut self, cookie: u64) -> Result<(), Error> {
        self.adopted_listeners.remove(&cookie)
    }

    fn remove_listeners(&mut self, index: u32) -> Result<(), Error> {
        self.set_listener4(index, &abi::KnownListener::ZERO);
        self.known_listeners6.set(index, &abi::KnownListener::ZERO);
        self.listeners.remove(&index)?;
        self.listeners6.remove(&index)
    }

    fn instances(&self) -> Result<Vec<(u64, abi::Instance)>, Error> {
        self.instances.list((0, abi::Instance::ZERO))
    }

    fn put_instance(&mut self, cgroup: u64, value: &abi::Instance) -> Result<(), Error> {
        self.near.remove_caller(cgroup, Some(value))?;
        self.instances.put(&cgroup, value)?;
        self.near.put_caller(cgroup, value);
        Ok(())
    }

    fn remove_instance(&mut self, cgroup: u64) -> Result<(), Error> {
        self.near.remove_caller(cgroup, None)?;
        self.instances.remove(&cgroup)
    }

    fn grace_period(&mut self) -> Result<(), Error> {
        crate::grace_period()
    }
}

/// A descriptor, for those who keep maps alive without reading them.
impl<K, V> AsFd for Hash<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
