//! The choice in the real kernel: states of services are written into the pinned maps, a member
//! connects, and whom it gets must be one that the model allows.
//!
//! `SINEW_CHOICE_CASES` says how many cases, `SINEW_CHOICE_SEED` which.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::Arc,
};

use aya::maps::{Array, HashMap, Map, MapData};
use sinew_abi as abi;
use sinew_datapath::{Service, backend_key};
use sinew_model::{Balance, Protocol};

use crate::{
    model::{Caller, Case, Ejection, Family, Fitness, PLACES, Policy, Queue, Random, Replica},
    world::{World, instance4, instance6, service4},
};

const PORT: u16 = 7007;
const CASES: u64 = 150;
/// Calls of a case at least, when every outcome came sooner.
const CALLS: u64 = 12;
/// Draws of a case at most, for each time that its least likely outcome comes on average: one that
/// does not come in so many comes by chance once in 10^10 cases.
const PATIENCE: f64 = 25.0;
/// Outcomes that are less likely need not come.
const LIKELY: f64 = 0.02;

/// Holds the listeners of all places, each made in its replica's cgroup, and calls from another.
const MEMBER: &str = r#"
import collections, socket, sys
members, places = sys.argv[1], eval(sys.argv[2])
kinds = {4: socket.AF_INET, 6: socket.AF_INET6}
def move(cgroup): open(f"{members}/{cgroup}/cgroup.procs", "w").write("0")
def new(family, only6=1):
    s = socket.socket(kinds[family]); s.settimeout(20)
    if family == 6: s.setsockopt(41, 26, only6)
    return s
listeners, waiting, kept = {}, collections.defaultdict(collections.deque), []
for place, families in enumerate(places):
    move(f"1-{place}")
    for family in families:
        s = new(family); s.bind(("::" if family == 6 else "0.0.0.0", 7007)); s.listen(64)
        listeners[place, family] = s
move("2-0")
def connect(family, only6, to):
    s = new(family, only6); s.connect((to, 7007)); return s
def wait_at(place, family, s): waiting[place, family].append(s.getsockname()[1])
def serve(place, family):
    c, peer = listeners[place, family].accept(); c.close()
    expected = waiting[place, family].popleft()
    return "ok" if peer[1] == expected else f"{peer} instead of {expected}"
print("ready", flush=True)
last = None
for line in sys.stdin:
    what, *given = line.split()
    try:
        if what == "call": last = connect(int(given[0]), int(given[1]), given[2]); said = "ok"
        elif what == "got":
            at = int(given[0]), int(given[1])
            wait_at(*at, last); said = serve(*at); last.close()
        elif what == "fill":
            at = int(given[0]), int(given[1])
            s = connect(at[1], 1, given[2]); wait_at(*at, s); s.close(); said = "ok"
        elif what == "drain": said = serve(int(given[0]), int(given[1]))
    except ConnectionRefusedError: said = "refused"
    except Exception as e: said = repr(e)
    print(said, flush=True)
"#;

struct Member {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Member {
    fn new(world: &World) -> Self {
        let families = |(v4, v6): (bool, bool)| match (v4, v6) {
            (true, true) => "(4, 6)",
            (true, false) => "(4,)",
            (false, true) => "(6,)",
            (false, false) => "()",
        };
        let places = PLACES.map(families).join(", ");
        let members = world.base().join("members");
        let arguments = ["-c", MEMBER, members.to_str().unwrap(), &format!("({places})")];
        let mut child = world
            .command(2, 0, "python3", &arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut member = Self { child, orders, answers };
        assert_eq!(member.answer(), "ready");
        member
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn ask(&mut self, order: &str) -> String {
        writeln!(self.orders, "{order}").unwrap();
        self.answer()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The pinned maps that a case is written into, and its outcome read from.
struct Tables {
    hot: Array<MapData, abi::BackendHot>,
    service_hot: Array<MapData, abi::ServiceHot>,
    outliers: Array<MapData, abi::Outlier>,
    slots: Array<MapData, u32>,
    services4: HashMap<MapData, abi::ServiceKey4, abi::Service>,
    /// The backend at each place, and its generation.
    backends: Vec<(u32, u32)>,
}

/// Times at which nothing of a case depends on how fast the test is: what lapses does so after half
/// of the time since the machine was started, and is as old as that or new.
struct Clock {
    now_ns: u64,
    half_ns: u64,
}

impl Clock {
    /// The clock of the programs, which moves in ticks.
    fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
        let now_ns = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
        Self { now_ns, half_ns: now_ns / 2 }
    }

    /// `ejected_until_ns` and `probe_ns`.
    fn ejection(&self, ejection: Ejection) -> (u64, u64) {
        match ejection {
            Ejection::Never => (0, 0),
            Ejection::Lasts => (self.now_ns * 2, 0),
            Ejection::Ended => (1, 0),
            // By a processor whose tick has come already.
            Ejection::Tried => (1, self.now_ns + 10_000_000),
            Ejection::Lapsed => (1, 1),
        }
    }
}

impl Tables {
    fn open(world: &World) -> Self {
        let maps = world.pins().join(format!("v{}", abi::ABI_VERSION));
        let mut config: Array<_, abi::Config> = array(&maps, "CONFIG");
        let patient = abi::Config { hung_after_ns: Clock::now().half_ns, ..get(&config, 0) };
        config.set(0, patient, 0).unwrap();
        let all: Array<_, abi::BackendPlace> = array(&maps, "BACKENDS");
        let backend = |place: u32| {
            let key = backend_key(1, place, PORT, Protocol::Tcp, 0);
            let index = (0..64).find(|index| get(&all, *index).backend.key == key).unwrap();
            (index, get(&all, index).backend.generation)
        };
        let services4 = MapData::from_pin(maps.join("SERVICES4")).unwrap();
        // What is written to the hash has to be what callers find.
        let mut copies: Array<_, abi::NearService> = array(&maps, "NEAR_SERVICES");
        copies.set(abi::near::service4(&key()), abi::NearService::ZERO, 0).unwrap();
        Self {
            hot: array(&maps, "BACKEND_HOT"),
            service_hot: array(&maps, "SERVICE_HOT"),
            outliers: array(&maps, "OUTLIERS"),
            slots: array(&maps, "SLOTS"),
            services4: Map::HashMap(services4).try_into().unwrap(),
            backends: (0..PLACES.len() as u32).map(backend).collect(),
        }
    }

    fn service(&self) -> abi::Service {
        self.services4.get(&key(), 0).unwrap()
    }

    /// The places in the order of the slots.
    fn order(&self, service: &abi::Service) -> Vec<usize> {
        let slots = (0..service.len).map(|at| get(&self.slots, service.base + at));
        let place = |index| self.backends.iter().position(|(is, _)| *is == index).unwrap();
        slots.map(place).collect()
    }

    /// All replicas of the case as they are, and the others as tempting as can be.
    fn write(&mut self, case: &Case, service: &abi::Service) {
        let clock = Clock::now();
        let rule = get(&self.outliers, service.index);
        let rule = abi::Outlier { probe_ns: clock.half_ns, ..rule };
        self.outliers.set(service.index, rule, 0).unwrap();
        for (place, (index, generation)) in self.backends.iter().enumerate() {
            let mut hot =
                abi::BackendHot { generation: *generation, weight: 256, ..abi::BackendHot::ZERO };
            if let Some(replica) = case.replicas.iter().find(|r| r.place == place) {
                (hot.ejected_until_ns, hot.probe_ns) = clock.ejection(replica.ejection);
                hot.queue_empty_ns = if replica.queue == Queue::Hangs { 1 } else { clock.now_ns };
                hot.active = replica.active;
                hot.weight = replica.weight;
                hot.connect_ewma_us = if replica.slow { 50_000 } else { 0 };
            }
            self.hot.set(*index, hot, 0).unwrap();
        }
        let mut counts = get(&self.service_hot, service.index);
        (counts.panic, counts.no_backend) = (0, 0);
        self.service_hot.set(service.index, counts, 0).unwrap();
    }

    /// The places that were given a connection.
    fn taken(&self) -> Vec<usize> {
        let given = |(index, _): &(u32, u32)| get(&self.hot, *index).connections;
        let places = self.backends.iter().map(given).enumerate();
        places.flat_map(|(place, n)| std::iter::repeat_n(place, n as usize)).collect()
    }
}

fn key() -> abi::ServiceKey4 {
    let addr = u32::from_ne_bytes(service4(1).octets());
    abi::ServiceKey4 { addr, port: PORT.to_be(), protocol: abi::protocol::TCP }
}

fn array<T: aya::Pod>(maps: &Path, name: &str) -> Array<MapData, T> {
    Map::Array(MapData::from_pin(maps.join(name)).unwrap()).try_into().unwrap()
}

fn get<T: aya::Pod>(array: &Array<MapData, T>, index: u32) -> T {
    array.get(&index, 0).unwrap()
}

/// Where the connection of `caller` to `replica` waits: place and family.
fn queue_at(replica: &Replica, family: Family) -> String {
    format!("{} {}", replica.place, if family == Family::V4 { 4 } else { 6 })
}

struct Trial {
    world: World,
    member: Member,
    tables: Tables,
}

impl Trial {
    fn new() -> Self {
        let mut world = World::new();
        world.service(1, PORT, Protocol::Tcp, PLACES.len() as u32);
        world.client(2);
        let member = Member::new(&world);
        let tables = Tables::open(&world);
        Self { world, member, tables }
    }

    /// Makes the service what it is in the case, whose replicas get the order of the slots.
    fn prepare(&mut self, case: &mut Case) -> abi::Service {
        let mut service = Service::clone(&self.world.wanted.services[&1]);
        let port = &mut service.ports[0];
        port.balance = match case.policy {
            Policy::LeastLoad => Balance::LeastLoad,
            Policy::RoundRobin => Balance::RoundRobin,
            Policy::Random => Balance::Random,
        };
        for (place, backend) in port.backends.iter_mut().enumerate() {
            let replica = case.replicas.iter().find(|r| r.place == place);
            let families = replica.map_or((true, true), |r| r.families);
            backend.in_choice = replica.is_some();
            backend.weight = replica.map_or(256, |r| r.weight);
            backend.address4 = families.0.then(|| instance4(1, place as u32));
            backend.address6 = families.1.then(|| instance6(1, place as u32));
        }
        self.world.wanted.services.insert(1, Arc::new(service));
        self.world.apply();
        let service = self.tables.service();
        let order = self.tables.order(&service);
        let slot = |r: &Replica| order.iter().position(|place| *place == r.place).unwrap();
        case.replicas.sort_by_key(slot);
        assert_eq!(case.replicas.len(), order.len(), "one slot each");
        case.step = service.step as usize;
        service
    }

    /// Lets a connection wait at each replica whose queue is not empty, or takes it away again.
    fn queues(&mut self, case: &Case, fill: bool) {
        for replica in case.replicas.iter().filter(|r| r.queue != Queue::Empty) {
            let Some(family) = replica.reached(case.caller) else { continue };
            let at = queue_at(replica, family);
            let place = replica.place as u32;
            let order = match (fill, family) {
                (true, Family::V4) => format!("fill {at} {}", instance4(1, place)),
                (true, Family::V6) => format!("fill {at} {}", instance6(1, place)),
                (false, _) => format!("drain {at}"),
            };
            assert_eq!(self.member.ask(&order), "ok", "{order}: {case:?}");
        }
    }

    /// One call; answers the slot that was taken.
    fn call(&mut self, case: &Case, service: &abi::Service) -> Option<usize> {
        self.tables.write(case, service);
        let turn = get(&self.tables.service_hot, service.index).turn;
        let said = self.member.ask(match case.caller {
            Caller::V4 => "call 4 0 127.64.0.1",
            Caller::V6 => "call 6 1 fd53:696e:6577::1",
            Caller::Both => "call 6 0 fd53:696e:6577::1",
        });
        let places = self.tables.taken();
        let slot = |place: &usize| case.replicas.iter().position(|r| r.place == *place);
        let taken = match places[..] {
            [] => None,
            [place] => Some(slot(&place).unwrap_or_else(|| panic!("{place} of {case:?}"))),
            _ => panic!("{places:?} of {case:?}"),
        };
        assert_eq!(said, if taken.is_some() { "ok" } else { "refused" }, "{taken:?} of {case:?}");
        self.check(case, service, taken, turn);
        taken
    }

    /// What was counted says the same, and the connection lies where it should.
    fn check(&mut self, case: &Case, service: &abi::Service, taken: Option<usize>, turn: u64) {
        let what = || format!("slot {taken:?} of {case:#?}");
        let len = case.replicas.len();
        let allowed = match case.policy {
            Policy::RoundRobin => case.chances_from((turn % len as u64) as usize),
            _ => case.chances(),
        };
        assert!(allowed.contains_key(&taken), "{}\nallowed: {allowed:?}", what());
        let replica = taken.map(|slot| case.replicas[slot]);
        let counts = get(&self.tables.service_hot, service.index);
        let sick = replica.is_some_and(|r| r.fitness(case.caller) == Fitness::Sick);
        assert_eq!(counts.panic, u64::from(sick), "{}", what());
        assert_eq!(counts.no_backend, u64::from(taken.is_none()), "{}", what());
        let Some(replica) = replica else { return };
        let (index, _) = self.tables.backends[replica.place];
        assert_eq!(get(&self.tables.hot, index).active, replica.active + 1, "{}", what());
        let at = queue_at(&replica, replica.reached(case.caller).unwrap());
        assert_eq!(self.member.ask(&format!("got {at}")), "ok", "{}", what());
    }

    /// Calls until everything came that is likely enough.
    fn run(&mut self, mut case: Case) -> u64 {
        let service = self.prepare(&mut case);
        let mut missing = case.chances();
        missing.retain(|_, chance| *chance >= LIKELY);
        let rarest = missing.values().copied().fold(1.0, f64::min);
        self.queues(&case, true);
        let most = (PATIENCE / rarest) as u64;
        let mut calls = 0;
        while calls < CALLS || !missing.is_empty() {
            assert!(calls < most.max(CALLS), "not once in {calls} calls: {missing:?} of {case:#?}");
            let taken = self.call(&case, &service);
            missing.remove(&taken);
            calls += 1;
        }
        self.queues(&case, false);
        calls
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn the_kernel_takes_what_the_model_allows() {
    let first = variable("SINEW_CHOICE_SEED").unwrap_or(1);
    let mut trial = Trial::new();
    let mut calls = 0;
    for seed in first..first + variable("SINEW_CHOICE_CASES").unwrap_or(CASES) {
        // Told when a case fails.
        println!("SINEW_CHOICE_SEED={seed} SINEW_CHOICE_CASES=1");
        calls += trial.run(Random(seed).case());
    }
    println!("{calls} calls");
}
