//! What the core knows of other hosts, and what it has them told. On a host that is alone none of
//! this is there.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use sinew_api::WorkloadState;
use sinew_model::{
    Port, ServiceName, ZoneName,
    fleet::{self, EndpointStatus, ServiceRecord},
};

use super::{Core, Family, Instance, Key, Output, Withdrawal, wanted::WEIGHT};
use crate::{
    alloc,
    capacity::Usage,
    fleet::{Around, News, Remote, Run},
    zones::Spills,
};

/// From look to look at a zone to which calls return by steps.
const LOOK_AT_RETURN: Duration = Duration::from_secs(1);

/// What is known of other hosts.
#[derive(Debug)]
pub(super) struct Others {
    pub(super) around: Arc<Around>,
    /// Of the services of all hosts.
    names: Arc<BTreeSet<ServiceName>>,
    pub(super) remotes: BTreeMap<ServiceName, Arc<Remote>>,
    /// Those of them that the data path holds.
    ready: BTreeSet<ServiceName>,
    /// Those that the kernel's maps have no room for.
    left_out: BTreeMap<ServiceName, Arc<Remote>>,
    /// The address of each instance among those of all hosts.
    given: BTreeMap<Key, Ipv4Addr>,
    told: BTreeMap<ServiceName, Run>,
    configured: BTreeSet<ServiceName>,
    /// This host is about to leave.
    withdrawn: Option<Withdrawal>,
    pub(super) spills: BTreeMap<ServiceName, Spills>,
    /// Backends that the kernel passes over.
    pub(super) unwell: HashSet<u64>,
    pub(super) began: Instant,
    /// Services some of whose calls return to this zone by steps.
    returning: BTreeSet<ServiceName>,
    pub(super) look_at_return: Option<Instant>,
}

impl Core {
    /// This host is one of many; its instances had the addresses `given`.
    pub(crate) fn join(
        &mut self,
        around: Arc<Around>,
        given: impl IntoIterator<Item = (ServiceName, u32, Ipv4Addr)>,
    ) {
        let given = given.into_iter().map(|(name, replica, at)| (Key::of(&name, replica), at));
        self.wanted.fleet = Some(around.fleet.clone());
        self.others = Some(Box::new(Others {
            around,
            names: Arc::default(),
            remotes: BTreeMap::new(),
            ready: BTreeSet::new(),
            left_out: BTreeMap::new(),
            given: given.collect(),
            told: BTreeMap::new(),
            configured: BTreeSet::new(),
            withdrawn: None,
            spills: BTreeMap::new(),
            unwell: HashSet::new(),
            began: self.now,
            returning: BTreeSet::new(),
            look_at_return: None,
        }));
    }

    /// The other hosts shall call nothing here any more, or call again.
    pub(super) fn withdraw(&mut self, how: Option<Withdrawal>) {
        let Some(others) = &mut self.others else { return };
        others.withdrawn = how;
        self.touch_all();
    }

    /// This host is alone from now on; what runs here goes on.
    pub(super) fn leave_others(&mut self) {
        let Some(others) = self.others.take() else { return };
        self.wanted.fleet = None;
        self.stale.extend(others.remotes.into_keys().map(Some));
        self.touch_all();
        self.names += 1;
        self.dirty = true;
        self.suspect_names();
    }

    /// Where this host is among others; `None`: it is alone.
    pub(crate) fn around(&self) -> Option<&Arc<Around>> {
        self.others.as_ref().map(|others| &others.around)
    }

    /// Names of services of all hosts.
    pub(crate) fn names_of_all(&self) -> impl Iterator<Item = &ServiceName> {
        self.others.iter().flat_map(|others| {
            let unnamed = others.remotes.keys().filter(|name| !others.names.contains(*name));
            others.names.iter().chain(unnamed)
        })
    }

    /// What other hosts run of a service.
    pub(crate) fn remote(&self, service: &ServiceName) -> Option<&Arc<Remote>> {
        self.others.as_ref()?.remotes.get(service)
    }

    /// Every service that other hosts run, as far as this one hears of it.
    pub(crate) fn remotes(&self) -> impl Iterator<Item = (&ServiceName, &Arc<Remote>)> {
        self.others.iter().flat_map(|others| &others.remotes)
    }

    /// Whether a service that other hosts may run can be called; `None`: none may.
    pub(crate) fn elsewhere(&self, name: &ServiceName) -> Option<bool> {
        self.is_known_elsewhere(name).then(|| {
            let others = self.others.as_ref();
            self.local(name).is_some() || others.is_some_and(|others| others.ready.contains(name))
        })
    }

    /// What is told of this host, of all services that it runs.
    pub(crate) fn told(&self) -> BTreeMap<ServiceName, Run> {
        self.others.as_ref().map(|others| others.told.clone()).unwrap_or_default()
    }

    /// The addresses of an instance among those of all hosts.
    pub(crate) fn fleet_addresses(
        &self,
        instance: &Instance,
    ) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        let Some(others) = self.others.as_ref().filter(|_| instance.adoption().is_none()) else {
            return (None, None);
        };
        let six = others.around.slice(false).and_then(|slice| slice.nth(instance.number.into()));
        let six = six.and_then(|address| match address {
            IpAddr::V6(six) => Some(six),
            IpAddr::V4(_) => None,
        });
        (others.given.get(&instance.key).copied(), six)
    }

    /// Whether a name is known of other hosts, so that it keeps its number.
    pub(super) fn is_known_elsewhere(&self, name: &ServiceName) -> bool {
        let others = self.others.as_ref();
        others.is_some_and(|others| {
            let is_remote = others.remotes.contains_key(name) || others.left_out.contains_key(name);
            is_remote || others.names.contains(name)
        })
    }

    pub(super) fn take_news(&mut self, news: News) {
        if self.others.is_none() {
            return;
        }
        match news {
            News::Around(around) => self.take_around(around),
            News::Names(names) => {
                if let Some(others) = &mut self.others {
                    others.names = names;
                }
                self.names += 1;
                self.dirty = true;
                self.suspect_names();
            }
            News::Services(services) => {
                let mut usage = self.usage(&self.intent);
                // What goes makes room for what comes.
                let (come, go): (Vec<_>, _) = services.into_iter().partition(|it| it.1.is_some());
                for (name, remote) in go.into_iter().chain(come) {
                    self.take_remote(&mut usage, name, remote);
                }
            }
            // The connections are closed by who has the data path.
            News::Dead(_) | News::Assigned(_) => {}
        }
    }

    fn take_around(&mut self, around: Arc<Around>) {
        self.wanted.fleet = Some(around.fleet.clone());
        self.dirty = true;
        let Some(others) = &mut self.others else { return };
        if let Some(slice) = around.slice(true) {
            others.given.retain(|_, address| slice.contains((*address).into()));
        }
        let zones = others.around.limited != around.limited;
        others.around = around;
        if zones {
            self.stale.extend(others.remotes.keys().cloned().map(Some));
        }
        self.touch_all();
    }

    fn take_remote(&mut self, usage: &mut Usage, name: ServiceName, remote: Option<Arc<Remote>>) {
        let fits = self.makes_room_for(usage, &name, remote.as_deref());
        let Some(others) = &mut self.others else { return };
        let ports = |remote: &Arc<Remote>| remote.ports.clone();
        let before = others.remotes.get(&name).map(ports);
        if let Some(remote) = remote.as_ref().filter(|_| !fits) {
            // What was there before stays.
            if others.left_out.insert(name.clone(), remote.clone()).is_none() {
                self.warn(format!(
                    "the kernel's maps have no room for all that other hosts run of {name}; what was \
                     known of it stays, until there is"
                ));
            }
            return;
        }
        others.left_out.remove(&name);
        let after = remote.as_ref().map(ports);
        match remote {
            Some(remote) => drop(others.remotes.insert(name.clone(), remote)),
            None => {
                others.remotes.remove(&name);
                others.spills.remove(&name);
            }
        }
        self.names += u64::from(before != after);
        self.touch_neighbours(&name);
        self.stale.insert(Some(name));
        self.suspect_names();
        self.dirty = true;
    }

    /// There may be room now for what had none.
    pub(super) fn look_at_left_out(&mut self) {
        let Some(others) = self.others.as_ref().filter(|others| !others.left_out.is_empty()) else {
            return;
        };
        let left_out = others.left_out.clone();
        let mut usage = self.usage(&self.intent);
        for (name, remote) in left_out {
            self.take_remote(&mut usage, name, Some(remote));
        }
    }

    /// In words, that there is no room for what other hosts run.
    pub(crate) fn left_out(&self) -> Option<String> {
        let left_out = &self.others.as_ref()?.left_out;
        let first = left_out.keys().next()?;
        Some(format!(
            "the kernel's maps have no room for all that other hosts run of {} services, {first} among \
             them",
            left_out.len()
        ))
    }

    /// Whether enough of a service is up elsewhere for those who wait for it.
    pub(super) fn is_up_elsewhere(&self, name: &ServiceName) -> bool {
        self.remote(name).is_some_and(|remote| remote.endpoints.iter().any(|e| e.in_choice))
    }

    /// Backends that the kernel passes over now: those of other zones help when many do.
    pub(super) fn take_unwell(&mut self, unwell: HashSet<u64>) {
        let Some(others) = &mut self.others else { return };
        if others.unwell == unwell {
            return;
        }
        others.unwell = unwell;
        // Few services have endpoints elsewhere that do not.
        self.stale.extend(others.remotes.keys().cloned().map(Some));
        self.dirty = true;
    }

    /// The data path holds what is known now: whoever waits for a name may call.
    pub(super) fn note_ready(&mut self) {
        let Some(others) = &mut self.others else { return };
        if others.ready.len() == others.remotes.len()
            && others.remotes.keys().all(|name| others.ready.contains(name))
        {
            return;
        }
        others.ready = others.remotes.keys().cloned().collect();
        self.names += 1;
        self.dirty = true;
    }

    /// Calls that left this zone return by steps.
    pub(super) fn look_at_return(&mut self) {
        let now = self.now;
        let Some(others) = &mut self.others else { return };
        if others.look_at_return.is_none_or(|at| at > now) {
            return;
        }
        others.look_at_return = None;
        let returning = std::mem::take(&mut others.returning);
        self.stale.extend(returning.into_iter().map(Some));
        self.dirty = true;
    }

    pub(super) fn note_spills(&mut self, name: &ServiceName, spills: Spills, returns: bool) {
        let now = self.now;
        let Some(others) = &mut self.others else { return };
        others.spills.insert(name.clone(), spills);
        if returns {
            others.returning.insert(name.clone());
            others.look_at_return.get_or_insert(now + LOOK_AT_RETURN);
        }
    }

    /// What services of this host name as what they call is heard of before anybody looks it up.
    pub(super) fn configure_others(&mut self) {
        if self.others.is_none() {
            return;
        }
        let needed = self.launches.values().flat_map(|launch| &launch.service.depends_on);
        let configured: BTreeSet<ServiceName> = needed.cloned().collect();
        let Some(others) = &mut self.others else { return };
        if others.configured != configured {
            others.configured = configured.clone();
            self.outputs.push(Output::Configured(configured));
        }
    }

    /// Gives the instances of a service their addresses among those of all hosts, and tells the
    /// others what runs.
    pub(super) fn tell_others(&mut self, service: Option<&ServiceName>) {
        if self.others.is_none() {
            return;
        }
        self.give_addresses(service);
        let Some(name) = service else { return };
        let run = self.run_of(name);
        let Some(others) = &mut self.others else { return };
        let before = others.told.get(name);
        if before == Some(&run) || (before.is_none() && run.1.is_empty()) {
            return;
        }
        if run.1.is_empty() {
            others.told.remove(name);
        } else {
            others.told.insert(name.clone(), run.clone());
        }
        self.outputs.push(Output::Report(name.clone(), run));
    }

    fn give_addresses(&mut self, service: Option<&ServiceName>) {
        let wants =
            |instance: &&Instance| instance.adoption().is_none() && instance.phase.is_registered();
        let keys: Vec<Key> = self.of(service).filter(wants).map(|i| i.key.clone()).collect();
        for key in keys {
            let Some(others) = &mut self.others else { return };
            if others.given.contains_key(&key) {
                continue;
            }
            match others.free_address(&key) {
                Some(address) => drop(others.given.insert(key, address)),
                None if others.around.slice(true).is_some() => self.warn(format!(
                    "{key} is not reached from other hosts over IPv4: all addresses of this host's \
                     slice are in use"
                )),
                None => {}
            }
        }
    }

    /// The address is free for others.
    pub(super) fn take_address_back(&mut self, key: &Key) {
        if let Some(others) = &mut self.others {
            others.given.remove(key);
        }
    }

    /// Addresses of instances that did not outlive the last agent are free.
    pub(super) fn settle_addresses(&mut self) {
        let instances = &self.instances;
        if let Some(others) = &mut self.others {
            others.given.retain(|key, _| instances.contains_key(key));
        }
    }

    fn withdrawn(&self) -> Option<Withdrawal> {
        self.others.as_ref().and_then(|others| others.withdrawn)
    }

    fn run_of(&self, name: &ServiceName) -> Run {
        if self.withdrawn() == Some(Withdrawal::Gone) {
            return Run::default();
        }
        let Some(local) = self.local(name) else { return Run::default() };
        let port = |port: &Port| fleet::ServicePort {
            name: port.name.clone(),
            number: port.number,
            protocol: port.protocol,
        };
        let record = ServiceRecord {
            ports: local.ports.iter().map(port).collect(),
            balance: local.balance,
            outlier: local.outlier,
        };
        let endpoints = self.of(Some(name)).filter_map(|instance| {
            let endpoint = self.endpoint(instance)?;
            Some((instance.key.replica, endpoint))
        });
        let endpoints: BTreeMap<_, _> = endpoints.collect();
        (Some(record).filter(|record| !record.ports.is_empty()), endpoints)
    }

    /// As other hosts know it; `None`: they cannot call it.
    fn endpoint(&self, instance: &Instance) -> Option<fleet::Endpoint> {
        if !instance.phase.is_registered() || instance.ports().is_empty() {
            return None;
        }
        let chosen = |port: &&Port| instance.in_choice(port.protocol, port.number);
        let status = match instance.state() {
            WorkloadState::Up | WorkloadState::Unhealthy if self.withdrawn().is_some() => {
                EndpointStatus::Draining
            }
            WorkloadState::Up if instance.ports().iter().any(|p| chosen(&p)) => EndpointStatus::Up,
            WorkloadState::Unhealthy => EndpointStatus::Unhealthy,
            WorkloadState::Draining => EndpointStatus::Draining,
            WorkloadState::Exited | WorkloadState::Stopped => return None,
            _ if self.withdrawn().is_some() => EndpointStatus::Draining,
            _ => EndpointStatus::Starting,
        };
        let (address4, address6) = match instance.adoption() {
            Some(_) => self.adopted_addresses(instance),
            None => {
                let (four, six) = self.fleet_addresses(instance);
                let heard = instance.ports().iter().filter(chosen);
                let by: Vec<_> = heard.map(|p| instance.families(p.protocol, p.number)).collect();
                (
                    four.filter(|_| by.iter().all(|(four, _)| *four)),
                    six.filter(|_| by.iter().all(|(_, six)| *six)),
                )
            }
        };
        if address4.is_none() && address6.is_none() {
            return None;
        }
        let (ports, weight) = (BTreeMap::new(), WEIGHT);
        Some(fleet::Endpoint {
            address4,
            address6,
            ports,
            zone: self.zone_of(instance)?,
            weight,
            status,
        })
    }

    /// Where an adopted program is reached from other hosts: at the host's own address, if it
    /// listens there or everywhere.
    fn adopted_addresses(&self, instance: &Instance) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        let own = self.others.iter().flat_map(|others| others.around.own.iter());
        let reached = |address: &IpAddr| {
            let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
            let places =
                instance.places().iter().filter(|((_, _, by), _)| *by == family).map(|(_, p)| p);
            let mut places = places.peekable();
            places.peek().is_some()
                && places.all(|place| place.wildcard || place.address == *address)
        };
        let (mut four, mut six) = (None, None);
        for address in own.filter(|address| reached(address)) {
            match address {
                IpAddr::V4(address) => four = Some(*address),
                IpAddr::V6(address) => six = Some(*address),
            }
        }
        (four, six)
    }

    /// The zone of an instance, where there are any.
    pub(crate) fn zone(&self, instance: &Instance) -> Option<ZoneName> {
        self.others.as_ref().and_then(|_| self.zone_of(instance))
    }

    /// The zone of an instance: that of its host, unless its service says otherwise.
    pub(super) fn zone_of(&self, instance: &Instance) -> Option<ZoneName> {
        let named = instance.launch().and_then(|launch| launch.service.zone.as_deref());
        let named = named.and_then(|zone| ZoneName::new(zone).ok());
        named.or_else(|| self.around().map(|around| around.zone.clone()))
    }
}

impl Others {
    /// An address of this host's slice that nobody has: derived from the name, so that it is the
    /// same again when nothing else is known.
    fn free_address(&self, key: &Key) -> Option<Ipv4Addr> {
        let slice = self.around.slice(true)?;
        // Neither the first nor the last, which look like a network's and a broadcast address.
        let span = (1_u64 << slice.host_bits()).checked_sub(2).filter(|span| *span > 0)?;
        let taken: HashSet<Ipv4Addr> = self.given.values().copied().collect();
        let start = alloc::hash(&key.to_string()) % span;
        (0..span).filter_map(|step| slice.nth(1 + (start + step) % span)).find_map(|address| {
            match address {
                IpAddr::V4(four) => (!taken.contains(&four)).then_some(four),
                IpAddr::V6(_) => None,
            }
        })
    }
}
