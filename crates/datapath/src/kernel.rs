//! The data path in the kernel of this host.

use std::{
    collections::HashMap,
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::{DirBuilderExt, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use sinew_abi as abi;
use sinew_model::Protocol;

use crate::{
    Affinity, BackendStats, Callee, Carrier, Datapath, EdgeStats, Error, Events, FlowBackend,
    Instance, Listener, Look, Mended, Notice, Peer, Resolver, Totals, Usage, Wanted,
    attach::Links,
    callees,
    hosts::Hosts,
    layout::{Delta, Ledger, Member, Tables, addr4, addr6, mapped},
    maps::{Maps, possible_cpus},
    members::{Change, Members},
    object::{self, Object},
    reconcile::Reconciliation,
    routes::{FleetRoutes, Routes},
    sockets,
    sys::{self, AttachType},
    usage,
};

mod mend;

/// A heartbeat older than this bypasses the resolver: five beats.
const HEARTBEAT_MAX_AGE_NS: u64 = 1_000_000_000;
/// A backend whose accept queue was not seen empty for so long is passed over.
pub const HUNG_AFTER: Duration = Duration::from_millis(20);
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
const BPF_FS: &str = "/sys/fs/bpf";

/// Where the data path lives.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory for pins, inside a bpf file system; made when missing.
    pub pins: PathBuf,
    /// The cgroup that holds all members; exists already.
    pub cgroup: PathBuf,
    /// First 48 bits of the IPv6 network.
    pub network6: [u8; 6],
    /// Who else may call services.
    pub reach: Reach,
    /// The kernel's description of its types, as a rule [`TYPES`](crate::TYPES).
    pub types: PathBuf,
}

/// Callers that are no members: they bear the host's address and no name.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Their cgroups; those below count too.
    pub cgroups: Vec<PathBuf>,
    /// The cgroup of the resolver, whose queries go to the host's name servers wherever it lies.
    pub resolver: PathBuf,
}

/// See the module.
pub struct Kernel {
    options: Options,
    object: Object,
    maps: Maps,
    ledger: Ledger,
    members: Members,
    links: Links,
    routes: Routes,
    hosts: Hosts,
    fleet_routes: FleetRoutes,
    /// Whether there are other hosts.
    joined: bool,
    attached: bool,
}

pub(crate) fn maps_directory(pins: &Path) -> PathBuf {
    pins.join(format!("v{}", abi::ABI_VERSION))
}

impl Kernel {
    /// Loads the programs over what is pinned and reads back what the maps hold. The programs are
    /// in force after the first [`apply`](Datapath::apply), so that maps of another version are
    /// filled before anybody is sent to them; until then an earlier version goes on.
    ///
    /// # Errors
    /// When the kernel lacks something or refuses a program; what was in force stays so.
    pub fn open(options: &Options) -> Result<(Self, Events), Error> {
        ensure_bpf_fs(&options.pins)?;
        let directory = maps_directory(&options.pins);
        let reach = !options.reach.cgroups.is_empty();
        let object = object::load(&directory, &options.types, reach)?;
        let mut maps = Maps::open(&directory)?;
        // What an earlier process took out of the maps counts as free now.
        maps.grace_period()?;
        let ledger = Ledger::read(&maps)?;
        maps.close_eyes();
        let links = Links::open(&options.pins)?;
        let routes = Routes::install(options.network6)?;
        configure(&mut maps, options);
        let events = Events::open(&directory)?;
        let options = options.clone();
        let members = Members::new(options.cgroup.clone());
        let hosts = Hosts::read(&maps)?;
        let fleet_routes = FleetRoutes::new(hosts.slices(), &hosts.own_slices());
        let kernel = Self {
            options,
            object,
            maps,
            ledger,
            members,
            links,
            routes,
            hosts,
            fleet_routes,
            joined: false,
            attached: false,
        };
        Ok((kernel, events))
    }

    /// How full the declared capacities are.
    pub fn usage(&self) -> Vec<Usage> {
        let usage = self.ledger.usage();
        usage.into_iter().map(|(name, used, capacity)| Usage { name, used, capacity }).collect()
    }

    fn set_resolver(&mut self, resolver: Option<&Resolver>) -> Result<(), Error> {
        let wanted: Vec<[u32; 4]> =
            resolver.map_or_else(Vec::new, |r| r.name_servers.iter().map(|a| mapped(*a)).collect());
        for key in self.maps.name_servers.keys([0; 4])? {
            if !wanted.contains(&key) {
                self.maps.name_servers.remove(&key)?;
            }
        }
        if let (Some(config), Some(resolver)) = (self.maps.config.place(0), resolver) {
            // SAFETY: a place inside the mapping; the port is written last and makes it valid.
            unsafe {
                (&raw mut (*config).resolver4).write_volatile(addr4(*resolver.address4.ip()));
                (&raw mut (*config).resolver6).write_volatile(addr6(resolver.address6));
                (&raw mut (*config).resolver_port)
                    .write_volatile(resolver.address4.port().to_be().into());
            }
        }
        for key in &wanted {
            self.maps.name_servers.put(key, &1)?;
        }
        Ok(())
    }

    /// Puts listeners that exist already into the listener maps.
    fn scan(&self) -> Result<(), Error> {
        self.iterate(object::LISTENERS)
    }

    /// Puts the UDP sockets of instances there, if other hosts are to reach any.
    fn scan_datagrams(&self) -> Result<(), Error> {
        if !self.ledger.takes_datagrams() {
            return Ok(());
        }
        self.iterate(object::DATAGRAM_SOCKETS)
    }

    fn iterate(&self, program: &str) -> Result<(), Error> {
        let program = self.object.program(program)?;
        let link = sys::link_create(program, None, AttachType::TraceIter)
            .map_err(|e| Error::system("iterate over sockets", e))?;
        use std::os::fd::AsFd;
        sys::run_iterator(link.as_fd()).map_err(|e| Error::system("iterate over sockets", e))
    }

    fn change(&mut self, wanted: &Wanted, change: &Change) -> Result<(), Error> {
        let (members, fleet) = (&change.members, wanted.fleet.as_ref());
        if let Some(fleet) = fleet {
            Hosts::check(fleet)?;
            self.fleet_routes.check(fleet)?;
        }
        let plan = self.ledger.plan(&mut self.maps, &wanted.services, members)?;
        // Nothing comes where nobody looks at it: routes go first and come last.
        self.fleet_routes.withdraw(fleet, self.routes.has_ipv6())?;
        self.hosts.set(&mut self.maps, fleet)?;
        self.joined = fleet.is_some();
        self.routes.set_instances(members)?;
        self.fleet_routes.set_instances(members)?;
        self.ledger.apply_services(&mut self.maps, &plan)?;
        let scan = self.ledger.apply_instances(&mut self.maps, members)?;
        self.spare_resolver()?;
        self.set_resolver(wanted.resolver.as_ref())?;
        let first = !self.attached;
        self.hook_outside(&change.outside, first)?;
        self.links.publish(&self.object, self.joined || self.ledger.publishes())?;
        if self.watch(members)? || first || scan {
            self.scan()?;
        }
        self.scan_datagrams()?;
        self.fleet_routes.install()?;
        Ok(())
    }

    /// While there are other hosts, the callbacks of all members see who listens and who calls; else
    /// those of the instances to be watched do. Answers whether any listener may have gone unseen.
    fn watch(&mut self, members: &Delta<Member>) -> Result<bool, Error> {
        let Self { links, object, options, .. } = self;
        if !self.joined {
            let fresh = links.watch(object, members, |instance| instance.watch_listen)?;
            return links.call_back_no_more().map(|()| fresh);
        }
        let fresh = links.call_back(object, &options.cgroup)?;
        // Adopted programs lie elsewhere.
        let outside = |instance: &Instance| !instance.cgroup.starts_with(&options.cgroup);
        Ok(links.watch(object, members, outside)? || fresh)
    }

    /// Before queries are led to a resolver, its own are let out.
    fn spare_resolver(&mut self) -> Result<(), Error> {
        let Options { reach: Reach { cgroups, resolver }, .. } = &self.options;
        if cgroups.is_empty() {
            return Ok(());
        }
        let network = sys::network_cookie()
            .map_err(|e| Error::system("identify the network namespace", e))?;
        // None is there yet: it comes with its cgroup, and is made known by another change.
        let resolver = fs::metadata(resolver).map_or(0, |cgroup| cgroup.ino());
        self.maps.reach.set(0, &abi::Reach { network, resolver });
        Ok(())
    }

    /// The programs are on the members' cgroup and on those that lie outside of it and no others.
    fn hook_outside(&mut self, outside: &HashMap<u64, PathBuf>, first: bool) -> Result<(), Error> {
        let id = |cgroup: &PathBuf| Some((fs::metadata(cgroup).ok()?.ino(), cgroup.clone()));
        let reach = self.options.reach.cgroups.iter().filter_map(id).collect();
        self.links.adopted.keep(&outside.keys().copied().collect())?;
        self.links.reach.keep(&HashMap::keys(&reach).copied().collect())?;
        if first {
            self.attach()?;
        }
        let Self { links, object, .. } = self;
        for (carriers, wanted) in [(&mut links.adopted, outside), (&mut links.reach, &reach)] {
            for (id, cgroup) in wanted {
                // One that somebody removed is put back when it is missed.
                if carriers.contains(*id) && !first {
                    continue;
                }
                // Everybody else is not to wait for one cgroup; `missing_hooks` tells of it.
                if let Err(error) = carriers.hook(object, cgroup) {
                    tracing::error!(%error, "{} is without programs", cgroup.display());
                }
            }
        }
        Ok(())
    }

    fn attach(&mut self) -> Result<(), Error> {
        self.links.attach(&self.object, &self.options.cgroup)?;
        self.attached = true;
        let current = maps_directory(&self.options.pins);
        for stale in other_versions(&self.options.pins, &current) {
            tracing::info!(pins = %stale.display(), "maps of another version are no longer used");
            remove_tree(&stale)?;
        }
        Ok(())
    }
}

impl Datapath for Kernel {
    fn apply(&mut self, wanted: &Wanted) -> Result<(), Error> {
        if wanted.fleet.is_some() != self.joined {
            // All of them are watched otherwise from now on.
            self.members.forget();
        }
        let change = self.members.to(&wanted.instances);
        let done = change.and_then(|change| self.change(wanted, &change).map(|()| change));
        match done {
            Ok(change) => self.members.reach(&change),
            Err(error) => {
                self.members.forget();
                return Err(error);
            }
        }
        Ok(())
    }

    fn hook(&mut self, cgroup: &Path) -> Result<(), Error> {
        self.links.adopted.hook(&self.object, cgroup)
    }

    fn missing_hooks(&self, carrier: Carrier<'_>) -> Vec<&'static str> {
        self.lacks(carrier)
    }

    fn mend(&mut self) -> Vec<Mended> {
        self.put_back()
    }

    fn beat(&mut self) -> Result<(), Error> {
        if let Some(config) = self.maps.config.place(0) {
            // SAFETY: a place inside the mapping.
            unsafe { (&raw mut (*config).heartbeat_ns).write_volatile(sys::monotonic_ns()) };
        }
        Ok(())
    }

    fn backends(&self) -> Result<HashMap<u64, BackendStats>, Error> {
        let now = sys::monotonic_ns();
        let suspects = self.maps.suspects()?;
        let mut found = HashMap::new();
        for (key, index) in self.ledger.backends() {
            let Some(hot) = self.maps.hot.get(index) else { continue };
            let probed_now = needs_probe(&hot, now) && self.maps.probed(index, &hot, now);
            let dying = self.maps.dying(index) && is_recent(hot.dying_ns, now);
            let suspect = !suspects.is_empty() && suspects.contains(&self.maps.node(index));
            found.insert(key, BackendStats { dying, probed_now, suspect, ..stats(&hot, now) });
        }
        Ok(found)
    }

    fn active(&self, keys: &[u64]) -> Result<HashMap<u64, u32>, Error> {
        let active = |key: &u64| {
            let hot = self.maps.hot.get(self.ledger.backend(*key)?)?;
            Some((*key, open(&hot)))
        };
        Ok(keys.iter().filter_map(active).collect())
    }

    fn times(&self, keys: &[u64]) -> Result<HashMap<u64, abi::BackendTimes>, Error> {
        let mut found = HashMap::new();
        for key in keys {
            let index = self.ledger.backend(*key);
            if let Some(times) = index.map(|index| self.maps.times(index)).transpose()?.flatten() {
                found.insert(*key, times);
            }
        }
        Ok(found)
    }

    fn edges(&self) -> Result<Vec<EdgeStats>, Error> {
        let entries =
            self.maps.edges.entries((abi::EdgeKey::ZERO, abi::Edge::ZERO), possible_cpus())?;
        let mut edges: HashMap<(u32, u32), abi::Edge> = entries
            .into_iter()
            .map(|(key, copies)| {
                let sum = copies.iter().fold(abi::Edge::ZERO, abi::Edge::merge);
                ((key.source, key.destination), sum)
            })
            .collect();
        for open in self.maps.open_connections()? {
            let destination = self.maps.port_name(open.index).service;
            edges.entry((open.source, destination)).or_insert(abi::Edge::ZERO).active += 1;
        }
        Ok(edges
            .into_iter()
            .map(|((source, destination), counters)| EdgeStats { source, destination, counters })
            .collect())
    }

    fn forget_services(&mut self, numbers: &[u32]) -> Result<(), Error> {
        for key in self.maps.edges.keys(abi::EdgeKey::ZERO)? {
            if numbers.contains(&key.source) || numbers.contains(&key.destination) {
                self.maps.edges.remove(&key)?;
            }
        }
        Ok(())
    }

    fn totals(&self) -> Result<Totals, Error> {
        self.maps.totals()
    }

    fn filling(&self) -> Result<Vec<Usage>, Error> {
        let edges = self.maps.edges.keys(abi::EdgeKey::ZERO)?.len();
        let edges = u32::try_from(edges).unwrap_or(u32::MAX);
        let overflow = self.maps.overflowed()?;
        Ok(vec![
            Usage { name: usage::EDGES, used: edges, capacity: abi::capacity::EDGES },
            Usage {
                name: usage::SOCKETS,
                used: overflow,
                capacity: abi::capacity::SOCKET_OVERFLOW,
            },
        ])
    }

    fn reconciliation(&self) -> Result<Look, Error> {
        let directory = maps_directory(&self.options.pins);
        let mut reconciliation = Reconciliation::new(&self.object, &directory)?;
        Ok(Box::new(move || reconciliation.look()))
    }

    fn listeners(&self) -> Result<Vec<Listener>, Error> {
        sockets::listeners()
    }

    fn close_connections(&self, to: SocketAddr) -> Result<u32, Error> {
        sockets::close_connections(to)
    }

    fn close_host(&self, peer: &Peer) -> Result<u32, Error> {
        let members = self.members.all_cgroups();
        sockets::close_all(&|remote, cgroup| {
            peer.slices.iter().any(|slice| slice.contains(remote))
                // Everybody's own is nobody else's.
                || (peer.proven.contains(&remote)
                    && !remote.is_loopback()
                    && members.contains(&cgroup))
        })
    }

    fn callees(&self) -> Result<Vec<Callee>, Error> {
        if self.hosts.is_alone() {
            return Ok(Vec::new());
        }
        let suspects = self.maps.suspects()?;
        let hosts = self.ledger.elsewhere();
        let hosts = hosts.map(|(node, at)| (node, at.map(|index| self.maps.backend(index))));
        Ok(callees::callees(&suspects, |node| self.hosts.quiet(node), hosts))
    }

    fn tried(&self, node: u32, answered: bool) -> Result<(), Error> {
        let nodes = &self.maps.nodes;
        // Nothing is held against a host that is not one any more.
        let Some(held) = nodes.get(&node, abi::Suspicion::ZERO)? else { return Ok(()) };
        let now = sys::monotonic_ns();
        callees::tried(&held, answered, now).map_or(Ok(()), |held| nodes.put(&node, &held))
    }

    fn notices(&self) -> Vec<Notice> {
        self.fleet_routes.notices().to_vec()
    }

    fn affinity(
        &self,
        source: Ipv4Addr,
        service: u32,
        (protocol, number): (Protocol, u16),
    ) -> Result<Option<Affinity>, Error> {
        let Some(index) = self.ledger.port_index(service, number, protocol) else {
            return Ok(None);
        };
        let source = mapped(IpAddr::V4(source));
        let Some(found) = self.maps.affinity(&abi::AffinityKey { source, index, reserved: 0 })?
        else {
            return Ok(None);
        };
        let left_ns = found.until_ns.saturating_sub(sys::monotonic_ns());
        let place = FlowBackend { index: found.backend, generation: found.generation };
        let key = self.backend_key(place).filter(|_| left_ns > 0);
        Ok(key.map(|backend| Affinity { backend, left_ms: left_ns / 1_000_000 }))
    }

    fn sample_flows(&mut self, one_of: u32) {
        if let Some(config) = self.maps.config.place(0) {
            // SAFETY: a place inside the mapping.
            unsafe { (&raw mut (*config).flow_sample).write_volatile(one_of) };
        }
    }

    fn backend_key(&self, backend: FlowBackend) -> Option<u64> {
        let entry = self.maps.backend(backend.index);
        (entry.generation == backend.generation && entry.key != 0).then_some(entry.key)
    }

    fn detach(&mut self) -> Result<(), Error> {
        // Nobody puts back what goes now.
        self.attached = false;
        self.fleet_routes.remove()?;
        self.links.remove()?;
        self.routes.remove()?;
        remove_tree(&self.options.pins)
    }
}

/// A count that fell below zero wrapped: it is read as none, as the choice reads it.
fn open(hot: &abi::BackendHot) -> u32 {
    if hot.active > i32::MAX as u32 { 0 } else { hot.active }
}

/// Whether its ejection ended and nothing has proven it well since.
fn needs_probe(hot: &abi::BackendHot, now: u64) -> bool {
    hot.ejected_until_ns != 0 && hot.ejected_until_ns <= now
}

/// Whether callers still pass a listener over because the process that made it began to die then.
fn is_recent(dying_ns: u64, now: u64) -> bool {
    now.saturating_sub(dying_ns) < abi::DYING_FOR_NS
}

fn stats(hot: &abi::BackendHot, now: u64) -> BackendStats {
    BackendStats {
        active: open(hot),
        connections: hot.connections,
        refused: hot.refused,
        reset: hot.reset,
        timed_out: hot.timed_out,
        ejected_now: hot.ejected_until_ns > now,
        ejected_for_ms: hot.ejected_until_ns.saturating_sub(now) / 1_000_000,
        awaits_probe: needs_probe(hot, now),
        probed_now: false,
        dying: false,
        suspect: false,
        failures_in_a_row: hot.failures,
        queue_empty_ago_ms: (hot.queue_empty_ns != 0)
            .then(|| now.saturating_sub(hot.queue_empty_ns) / 1_000_000),
        ejections: hot.ejected,
        hung: hot.hung,
        connect_us: hot.connect_ewma_us,
        sent_bytes: hot.sent_bytes,
        received_bytes: hot.received_bytes,
    }
}

fn configure(maps: &mut Maps, options: &Options) {
    let [a, b, c, d, e, f] = options.network6;
    let prefix6 = [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, 0, 0])];
    let Some(config) = maps.config.place(0) else { return };
    // SAFETY: a place inside the mapping. Field by field: the resolver's part stays in force.
    unsafe {
        (&raw mut (*config).heartbeat_max_age_ns).write_volatile(HEARTBEAT_MAX_AGE_NS);
        (&raw mut (*config).hung_after_ns).write_volatile(HUNG_AFTER.as_nanos() as u64);
        // The programs find it anew: a kernel that loses ticks has fallen behind by now.
        (&raw mut (*config).clock_base_ns).write_volatile(0);
        (&raw mut (*config).abi_version).write_volatile(abi::ABI_VERSION);
        // Those who watched an earlier agent's flows went with it.
        (&raw mut (*config).flow_sample).write_volatile(0);
        (&raw mut (*config).prefix6).write_volatile(prefix6);
    }
}

/// Mounts a bpf file system at its usual place when the machine has none, as systemd does.
fn ensure_bpf_fs(pins: &Path) -> Result<(), Error> {
    let present = |path: &Path| rustix::fs::statfs(path).is_ok_and(|s| s.f_type == BPF_FS_MAGIC);
    let existing = pins.ancestors().find(|p| p.exists());
    if existing.is_some_and(present) {
        return Ok(());
    }
    if !pins.starts_with(BPF_FS) {
        return Err(Error::Unsupported {
            what: format!("a bpf file system at {}", pins.display()),
            remedy: "put the pins below /sys/fs/bpf, or mount one there: mount -t bpf bpf DIR",
        });
    }
    tracing::info!("mounting a bpf file system at {BPF_FS}");
    rustix::mount::mount("bpf", BPF_FS, "bpf", rustix::mount::MountFlags::empty(), None)
        .map_err(|e| Error::system(format!("mount a bpf file system at {BPF_FS}"), e))
}

pub(crate) fn make_private(path: &Path) -> Result<(), Error> {
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::system(format!("make directory {}", path.display()), e))
        }
        _ => Ok(()),
    }
}

fn other_versions(pins: &Path, current: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(pins) else { return Vec::new() };
    entries.flatten().map(|e| e.path()).filter(|path| path != current && is_version(path)).collect()
}

fn is_version(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix('v'));
    name.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Error::system(format!("remove {}", path.display()), e))
        }
        _ => Ok(()),
    }
}
