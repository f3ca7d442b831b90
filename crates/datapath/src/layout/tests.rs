//! The ledger against tables of memory: whatever sequence of wanted states comes, the tables say
//! what a caller should find, nothing that a running program may hold is reused before a grace
//! period, and a ledger read back from the tables goes on where the first one stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;
use sinew_model::{Balance, Outlier};

use super::*;
use crate::wanted::{Backend, Instance, Published, Service, ServicePort, Wanted};

mod memory;

use memory::Memory;

fn key(service: u32, backend: u8) -> u64 {
    (u64::from(service) << 8) + u64::from(backend) + 1
}

/// Every third one is in reserve, every third one has twice the chance.
fn slots(backend: u8) -> u8 {
    (backend + 1) % 3
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
                    node: u32::from(n % 3),
                    zone: 0,
                    wildcard: Default::default(),
                    in_choice: *chosen,
                    slots: slots(*n),
                })
                .collect(),
        }],
        published: Vec::new(),
    }
}

/// An endpoint: whether it may be chosen, and whether its instance is a member here.
type Endpoints = BTreeMap<u8, (bool, bool)>;

fn instance(service: u32, n: u8) -> Instance {
    Instance {
        id: key(service, n),
        cgroup: "/x".into(),
        service,
        address4: Ipv4Addr::new(127, 80, service as u8, n),
        address6: Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, service as u16, n.into()),
        // Some are reached by other hosts, some over one family only.
        fleet4: (!n.is_multiple_of(3)).then(|| Ipv4Addr::new(10, 111, service as u8, n)),
        fleet6: n
            .is_multiple_of(2)
            .then(|| Ipv6Addr::new(0xfd01, 0, 0, 1, 0, 0, service as u16, n.into())),
        ports: vec![(Protocol::Tcp, 80)],
        own_address: true,
        brought: vec![key(service, n)],
        watch_listen: true,
    }
}

fn state() -> impl Strategy<Value = BTreeMap<u32, Endpoints>> {
    let endpoints = prop::collection::btree_map(0u8..12, any::<(bool, bool)>(), 0..12);
    prop::collection::btree_map(1u32..6, endpoints, 0..6)
}

/// What callers should find, and what stands behind it.
#[derive(Debug, Default, PartialEq)]
struct View {
    reachable: BTreeMap<(u32, u16), [Vec<u64>; 2]>,
    keys: usize,
    keys6: usize,
    backends: BTreeMap<u64, u16>,
    listen: BTreeMap<([u32; 4], u16), (u64, u64)>,
    /// Whose listener takes what other hosts send there; 0: nobody's any more.
    reached: BTreeMap<([u32; 4], u16, u16), u64>,
    instances: BTreeMap<u64, u64>,
    brought: BTreeMap<u64, u32>,
}

/// A host as the kernel's data path has one, but for the kernel.
#[derive(Default)]
struct Host {
    tables: Memory,
    ledger: Ledger,
    members: Applied<u64, Instance>,
    wanted: Wanted,
}

impl Host {
    /// Replaces only what differs, as the agent does.
    fn want(&mut self, state: &BTreeMap<u32, Endpoints>) {
        let members: BTreeSet<u64> = state
            .iter()
            .flat_map(|(id, endpoints)| endpoints.iter().map(move |(n, is)| (key(*id, *n), is.1)))
            .filter_map(|(id, member)| member.then_some(id))
            .collect();
        self.wanted.services.retain(|id, _| state.contains_key(id));
        self.wanted.instances.retain(|id, _| members.contains(id));
        for (id, endpoints) in state {
            let backends: Vec<_> = endpoints.iter().map(|(n, (chosen, _))| (*n, *chosen)).collect();
            self.wanted.set_service(service(*id, &backends));
            for (n, _) in endpoints.iter().filter(|(_, (_, member))| *member) {
                self.wanted.set_instance(instance(*id, *n));
            }
        }
    }

    fn apply(&mut self) -> Result<(), Error> {
        let delta = self.members.to(&self.wanted.instances);
        let member = |i: &Arc<Instance>| Member { cgroup: i.id + 1000, instance: i.clone() };
        let members = Delta {
            whole: delta.whole,
            left: delta.left.iter().map(member).collect(),
            came: delta.came.iter().map(member).collect(),
        };
        self.ledger
            .plan(&mut self.tables, &self.wanted.services, &members)
            .and_then(|plan| self.ledger.apply_services(&mut self.tables, &plan))
            .and_then(|()| self.ledger.apply_instances(&mut self.tables, &members))
            .inspect(|_| self.members.reach(&delta, |instance| instance.id))
            .inspect_err(|_| self.members = Applied::default())
            .map(drop)
    }

    fn restart(&mut self) {
        // As the kernel's data path does: what an earlier process retired may still be held.
        self.tables.grace_period().unwrap();
        self.ledger = Ledger::read(&self.tables).unwrap();
        self.members = Applied::default();
    }

    /// Where the backends of each other host are.
    fn elsewhere(&self) -> BTreeMap<u32, BTreeSet<u32>> {
        let mut all: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        let remote = self.tables.backends.iter().filter(|(_, b)| b.key != 0 && b.node != 0);
        remote.for_each(|(at, b)| {
            all.entry(b.node).or_default().insert(*at);
        });
        all
    }

    fn view(&self) -> View {
        let tables = &self.tables;
        let placed = tables.backends.values().filter(|b| b.key != 0);
        let listen = tables.listen.iter();
        View {
            reachable: tables.reachable(),
            keys: tables.services4.len(),
            keys6: tables.services6.len(),
            backends: placed.map(|b| (b.key, b.flags)).collect(),
            listen: listen
                .map(|(k, v)| (*k, (v.instance, tables.backend(v.backend).key)))
                .collect(),
            reached: tables
                .reached
                .iter()
                .map(|(key, port)| {
                    let backend = tables.backend(port.backend);
                    let holds = backend.generation == port.generation;
                    ((key.addr, key.port, key.protocol), if holds { backend.key } else { 0 })
                })
                .collect(),
            instances: tables.instances.iter().map(|(k, v)| (*k, v.id)).collect(),
            brought: tables.adopted.clone(),
        }
    }
}

/// What a host holds that is told of this state alone.
fn from_scratch(state: &BTreeMap<u32, Endpoints>) -> View {
    let mut host = Host::default();
    host.want(state);
    host.apply().unwrap();
    host.view()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever came before, refused writes and restarts among it, an apply that succeeds leaves
    /// what a first one would; one that fails leaves each service as it was or as it shall be.
    #[test]
    fn every_change_leads_where_a_fresh_start_would(
        steps in prop::collection::vec((state(), prop::option::of(0u32..40)), 1..12),
        restart in 0usize..12,
    ) {
        let mut host = Host::default();
        for (step, (state, fails_in)) in steps.iter().enumerate() {
            if step == restart {
                host.restart();
            }
            let before = host.view();
            host.want(state);
            host.tables.fails_in = *fails_in;
            let done = host.apply();
            host.tables.fails_in = None;
            let (after, wanted) = (host.view(), from_scratch(state));
            if done.is_ok() {
                prop_assert_eq!(&after, &wanted);
                for backend in host.tables.backends.values().filter(|b| b.key != 0) {
                    prop_assert!(host.tables.hot.values().any(|g| *g == backend.generation));
                }
                let known = host.ledger.elsewhere().map(|(node, at)| (node, at.collect()));
                prop_assert_eq!(known.collect::<BTreeMap<_, _>>(), host.elsewhere());
            }
            for port in before.reachable.keys().chain(wanted.reachable.keys()) {
                let [was, is, shall] = [&before, &after, &wanted].map(|v| v.reachable.get(port));
                prop_assert!(is == was || is == shall, "{:?}: {:?} {:?} {:?}", port, was, is, shall);
            }
        }
    }

    #[test]
    fn an_unchanged_state_writes_nothing(state in state(), whole in any::<bool>()) {
        let mut host = Host::default();
        host.want(&state);
        host.apply().unwrap();
        if whole {
            host.restart();
        }
        let before = host.tables.services4.clone();
        host.tables.fails_in = Some(0);
        host.apply().unwrap();
        prop_assert_eq!(before, host.tables.services4);
    }
}

fn endpoints(of: &[u8]) -> Endpoints {
    of.iter().map(|n| (*n, (true, true))).collect()
}

fn applied(host: &mut Host, state: &[(u32, &[u8])]) {
    host.want(&state.iter().map(|(id, of)| (*id, endpoints(of))).collect());
    host.apply().unwrap();
}

#[test]
fn what_is_the_same_is_not_looked_at() {
    let mut host = Host::default();
    applied(&mut host, &[(1, &[0]), (2, &[0])]);
    // Nobody else writes the tables; a look at this service would mend it.
    host.tables.backends.clear();
    applied(&mut host, &[(1, &[0]), (2, &[0, 1])]);
    let placed: Vec<u64> = host.view().backends.into_keys().collect();
    assert_eq!(placed, [key(2, 0), key(2, 1)]);
}

#[test]
fn the_reserve_lies_behind_the_draw() {
    let mut host = Host::default();
    applied(&mut host, &[(1, &[0, 1, 2, 3])]);
    let keys = |of: &[u8]| -> Vec<u64> { of.iter().map(|n| key(1, *n)).collect() };
    assert_eq!(host.view().reachable[&(1, 80)], [keys(&[0, 1, 1, 3]), keys(&[2])]);
    applied(&mut host, &[(1, &[2])]);
    assert_eq!(host.view().reachable[&(1, 80)], [keys(&[]), keys(&[2])]);
}

#[test]
fn a_backend_that_stays_keeps_its_place() {
    let mut host = Host::default();
    applied(&mut host, &[(1, &[0, 1])]);
    let index = host.ledger.backend(key(1, 1)).unwrap();
    applied(&mut host, &[(1, &[1, 2])]);
    assert_eq!(host.ledger.backend(key(1, 1)), Some(index), "its counters go on");
    assert_eq!(host.ledger.backend(key(1, 0)), None);
}

#[test]
fn a_place_is_used_anew_with_another_generation() {
    let mut host = Host::default();
    applied(&mut host, &[(1, &[0])]);
    let index = host.ledger.backend(key(1, 0)).unwrap();
    let first = host.tables.backend(index).generation;
    applied(&mut host, &[]);
    host.ledger.reclaim(&mut host.tables, true).unwrap();
    applied(&mut host, &[(2, &[0])]);
    assert_eq!(host.ledger.backend(key(2, 0)), Some(index));
    assert_ne!(host.tables.backend(index).generation, first, "a late release must not count");
}

#[test]
fn listen_keys_follow_the_backend_of_the_instance() {
    let mut host = Host::default();
    applied(&mut host, &[(1, &[7])]);
    let place = (mapped(instance(1, 7).address4.into()), 80u16.to_be());
    let backend = |host: &Host| host.tables.backend(host.tables.listen[&place].backend).key;
    assert_eq!((host.tables.listen[&place].instance, backend(&host)), (key(1, 7), key(1, 7)));
    // The instance is the same, and its backend is another one.
    let mut renamed = (*host.wanted.services[&1]).clone();
    renamed.ports[0].backends[0].key = key(1, 9);
    host.wanted.set_service(renamed);
    host.apply().unwrap();
    assert_eq!(backend(&host), key(1, 9));
    applied(&mut host, &[]);
    assert!(host.tables.listen.is_empty() && host.tables.instances.is_empty());
}

#[test]
fn what_other_hosts_reach_is_the_instances_own() {
    let mut host = Host::default();
    applied(&mut host, &[(1, &[2, 7])]);
    let at = |ip: &str, protocol| (mapped(ip.parse().unwrap()), 80u16.to_be(), protocol);
    let (four, six) =
        (at("10.111.1.2", abi::protocol::TCP), at("fd01::1:0:0:1:2", abi::protocol::TCP));
    let other = at("10.111.1.7", abi::protocol::TCP);
    let all: BTreeMap<_, _> = [(four, key(1, 2)), (six, key(1, 2)), (other, key(1, 7))].into();
    assert_eq!(host.view().reached, all);
    // It has no endpoint any more, and is a member still.
    host.wanted.set_service(service(1, &[(7, true)]));
    host.apply().unwrap();
    assert_eq!(host.view().reached, [(other, key(1, 7))].into());
    // It is reached at another address; and an adopted one at none.
    let mut moved = instance(1, 7);
    moved.fleet4 = Some(Ipv4Addr::new(10, 111, 1, 99));
    moved.ports.push((Protocol::Udp, 80));
    host.wanted.set_instance(moved.clone());
    host.apply().unwrap();
    let moved_to = at("10.111.1.99", abi::protocol::TCP);
    assert_eq!(host.view().reached, [(moved_to, key(1, 7))].into(), "no endpoint takes datagrams");
    host.wanted.set_instance(Instance { own_address: false, ..moved });
    host.apply().unwrap();
    assert!(host.view().reached.is_empty());
}

#[test]
fn published_ports_lead_to_the_service_and_leave_no_trace() {
    let mut host = Host::default();
    let publish = |host: &mut Host, id: u32, hosts: &[&str]| {
        let at = |host: &&str| Published { host: host.parse().unwrap(), port: 80 };
        let published = hosts.iter().map(at).collect();
        host.wanted.set_service(Service { published, ..service(id, &[]) });
    };
    let at = |host: &Host, ip: &str| {
        let key = (mapped(ip.parse().unwrap()), 8000_u16.to_be());
        host.tables.published.get(&key).map(|to| to.addr.to_ne_bytes()[3])
    };
    publish(&mut host, 1, &["[::]:8000"]);
    publish(&mut host, 2, &["10.0.0.1:8000"]);
    host.apply().unwrap();
    assert_eq!((at(&host, "::"), at(&host, "0.0.0.0")), (Some(1), Some(1)), "both families");
    assert_eq!(at(&host, "10.0.0.1"), Some(2));
    // A later agent finds what there is and goes on from it.
    host.ledger = Ledger::read(&host.tables).unwrap();
    publish(&mut host, 1, &[]);
    host.apply().unwrap();
    assert_eq!((at(&host, "::"), at(&host, "10.0.0.1")), (None, Some(2)));
    assert!(host.tables.marked.contains(&8000), "another address is still published there");
    publish(&mut host, 1, &["10.0.0.1:8000"]);
    publish(&mut host, 2, &[]);
    host.apply().unwrap();
    assert_eq!(at(&host, "10.0.0.1"), Some(1), "it moved");
    host.wanted.services.clear();
    host.apply().unwrap();
    assert!(host.tables.published.is_empty() && host.tables.marked.is_empty());
    assert!(!host.ledger.publishes());
    let nowhere = Published { host: "10.0.0.1:80".parse().unwrap(), port: 81 };
    host.wanted.set_service(Service { published: vec![nowhere], ..service(3, &[]) });
    assert!(matches!(host.apply(), Err(Error::Invalid { .. })));
    assert!(host.tables.services4.is_empty(), "nothing was done");
}

#[test]
fn too_much_is_refused_before_anything_changes() {
    let mut host = Host::default();
    applied(&mut host, &[(1, &[0]), (2, &[0])]);
    let before = host.view();
    let mut large = service(2, &[(0, true)]);
    let one = large.ports[0].backends[0].clone();
    large.ports[0].backends = vec![one; abi::capacity::BACKENDS as usize];
    host.wanted.set_service(large);
    host.wanted.services.remove(&1);
    host.wanted.set_service(service(3, &[(0, true)]));
    let error = host.apply().unwrap_err();
    assert!(matches!(error, Error::Full { map: "the backend table", .. }), "{error}");
    assert_eq!(host.view(), before);
    applied(&mut host, &[(2, &[0, 1])]);
    assert_eq!(host.view(), from_scratch(&[(2, endpoints(&[0, 1]))].into()));
}

#[test]
fn changes_that_fail_lose_no_slots() {
    let mut host = Host::default();
    applied(&mut host, &[(1, &[0, 1, 2, 3])]);
    let mut failed = 0;
    for round in 0..400 {
        let of: &[u8] = if round % 2 == 0 { &[0, 1, 2, 4] } else { &[0, 1, 2, 3] };
        host.want(&[(1, endpoints(of))].into());
        host.tables.fails_in = Some(round % 10);
        failed += u32::from(host.apply().is_err());
        host.tables.fails_in = None;
    }
    let last = host.tables.slots.keys().max().copied();
    assert!(failed > 100 && last < Some(128), "{failed} failed, {last:?} is the last slot");
}

/// Members that take so many places of each table.
fn members(count: u64, ports: u16, brought: u64) -> Vec<Instance> {
    let ports: Vec<_> = (1..=ports).map(|port| (Protocol::Tcp, port)).collect();
    let member = |id| Instance {
        id,
        ports: ports.clone(),
        brought: (0..brought).map(|n| 1 + id * brought + n).collect(),
        fleet4: None,
        fleet6: None,
        ..instance(1, 0)
    };
    (0..count).map(member).collect()
}

#[test]
fn members_that_are_too_many_change_nothing_either() {
    const INSTANCES: u64 = abi::capacity::INSTANCES as u64;
    const LISTENING: u64 = abi::capacity::BACKENDS as u64;
    const BROUGHT: u64 = abi::capacity::ADOPTED_LISTENERS as u64;
    let cases = [
        ("the table of instances", members(INSTANCES, 0, 0)),
        // Each port listens in both families.
        ("the table of listening addresses", members(LISTENING / 2 / 16, 16, 0)),
        ("the table of adopted listeners", members(BROUGHT / 8, 0, 8)),
    ];
    for (table, full) in cases {
        let mut host = Host::default();
        let one_more = Instance { id: 1 << 40, brought: vec![u64::MAX], ..instance(1, 1) };
        full.into_iter().for_each(|member| host.wanted.set_instance(member));
        host.apply().unwrap();
        let before = host.view();
        host.wanted.set_instance(one_more);
        host.wanted.set_service(service(7, &[(0, true)]));
        let error = host.apply().unwrap_err();
        assert!(matches!(error, Error::Full { map, .. } if map == table), "{error}");
        assert_eq!(host.view(), before, "{table}");
        // Counts are not mixed up by what was refused.
        host.wanted.instances.remove(&0);
        host.apply().unwrap();
        assert_ne!(host.view(), before, "{table}");
    }
}
