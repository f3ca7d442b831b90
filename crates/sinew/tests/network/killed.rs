//! The agent is killed at any moment of any work: callers do not notice, what was wanted comes true,
//! and nothing is left over from the work that was cut off.

mod beginnings;
mod census;
mod operation;
mod traffic;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use self::{
    beginnings::Beginnings,
    census::{Census, agents},
    operation::{Observed, Operation},
    traffic::{ANSWERED, Traffic},
};
use crate::{
    bpf,
    world::{World, eventually, eventually_or},
};

/// How many moments a test tries; SINEW_SEEDS is of all of them together, a hundred if it is unset.
fn seeds(share: u64) -> std::ops::Range<u64> {
    let all = std::env::var("SINEW_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(100);
    0..(all * share).div_ceil(100)
}

/// A small generator: moments need to differ, not to be good.
struct Random(u64);

impl Random {
    /// Neighbouring seeds have nothing in common.
    fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random.below(2);
        random
    }

    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    /// A moment of work that takes so long, or a little after it.
    fn moment(&mut self, length: Duration) -> Duration {
        length * self.below(1100) as u32 / 1000
    }
}

/// What nobody touches while `web` is changed.
const STEADY: &str = r#"
name: steady
services:
  steady:
    command: ["python3", "-u", "-m", "http.server", "8000"]
    port: 8000
    replicas: 2
"#;

/// A host with both services up, and callers of both.
struct Trial {
    world: World,
    bare: BTreeSet<String>,
    traffic: Traffic,
    census: Census,
    /// How long each kind of work takes when nobody is killed.
    lengths: BTreeMap<&'static str, Duration>,
    /// Work that had not ended when the agent was killed.
    cut_off: u64,
}

impl Trial {
    fn new() -> Self {
        let world = World::new();
        let bare = world.left();
        std::fs::write(world.path("answer"), "well\n").unwrap();
        std::fs::write(world.path("steady.yaml"), STEADY).unwrap();
        world.run(&["up", "-d", "-f", "steady.yaml"]);
        operation::write(&world, 3, 0);
        world.run(&["up", "-d"]);
        let traffic = Traffic::start(&world, &["steady", "web"]);
        let census = Census::new(&world);
        census.check(&world, "at first");
        let mut trial = Self { world, bare, traffic, census, lengths: BTreeMap::new(), cut_off: 0 };
        trial.nobody_noticed("at first", true);
        trial.measure();
        trial
    }

    /// Every caller was served since this was asked last: those of `web` too, if it was `there`.
    fn nobody_noticed(&mut self, when: &str, there: bool) {
        let mut served = false;
        eventually(&format!("{when}: there are calls"), || {
            let told = self.traffic.told();
            for (service, outcome) in &told {
                let is_served = outcome.keys().all(|how| how == ANSWERED);
                assert!(
                    is_served || (service == "web" && !there),
                    "{when}: {service}: {outcome:?}"
                );
            }
            served |= told.len() == 2;
            served
        });
    }

    /// How long each kind of work takes, from its order until what it orders has come true.
    fn measure(&mut self) {
        use Operation::{Change, Down, Drain, Restart, Scale};
        for operation in [Scale(5), Change(3, 1), Drain(0), Restart, Down] {
            let start = Instant::now();
            let after = operation.after(&Observed::of(&self.world));
            operation.run(&self.world);
            self.comes_true(&after, operation.kind());
            self.lengths.insert(operation.kind(), start.elapsed());
            self.restore();
        }
        self.traffic.told();
    }

    fn comes_true(&self, wanted: &Observed, when: &str) {
        let now = || Observed::of(&self.world);
        let say = || format!("wanted {wanted:?}\nthere is {:?}", now());
        eventually_or(&format!("{when}: what is wanted comes true"), say, || now() == *wanted);
    }

    /// Has all of `web` up again.
    fn restore(&mut self) {
        let is = Observed::of(&self.world);
        if is.replicas() < 2 {
            self.world.run(&["up", "-d"]);
        }
        if !is.held.is_empty() {
            self.world.run(&["restart", "web"]);
        }
    }

    fn pids(&self) -> BTreeSet<i64> {
        self.world.workloads("web").iter().filter_map(|one| one["pid"].as_i64()).collect()
    }

    /// The callers leave: no connection is counted as open any more, and a purge leaves nothing.
    fn end(self) {
        let Self { world, bare, traffic, .. } = self;
        drop(traffic);
        let active = || {
            let services = ["web", "steady"].map(|name| world.json(&["services", name]));
            let endpoints = services.iter().flat_map(|one| one["endpoints"].as_array().unwrap());
            endpoints.map(|one| one["active"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        let say = || format!("{:?}", active());
        eventually_or("every close was counted", say, || active().iter().all(|open| *open == 0));
        let objects = world.kernel_objects();
        world.run(&["down", "--purge", "--yes"]);
        is_bare(&world, &bare, &objects, "at the end");
    }

    fn seed(&mut self, seed: u64) {
        let mut random = Random::new(seed);
        let before = Observed::of(&self.world);
        let operation = Operation::draw(&mut random, &before);
        let length = self.lengths[operation.kind()];
        let pids = self.pids();
        let after = operation.after(&before);
        let moment = random.moment(length);
        let when = format!("seed {seed}, {operation:?}, killed after {moment:?} of {length:?}");
        let there = !matches!(operation, Operation::Down);

        let mut order = operation.order(&self.world);
        let mut order = order.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The moment is what is drawn: it is not waited for something.
        std::thread::sleep(moment);
        let was_done = end_agents(&self.world, &mut order);
        self.cut_off += u64::from(was_done.is_none());
        self.nobody_noticed(&format!("{when}, without an agent"), there);
        if random.below(4) == 0 {
            // Its successor ends at its beginning.
            let mut next = self.world.sinew(&["agent"]);
            let mut next = next.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(random.moment(Duration::from_millis(80)));
            next.kill().unwrap();
            next.wait().unwrap();
        }
        self.world.start_agent();
        let was_ordered = order.wait().unwrap().success();

        // An order that was cut off was taken as a whole or not at all.
        let is_either = |is: &Observed| *is == after || (*is == before && was_done != Some(true));
        let now = || Observed::of(&self.world);
        let say = || format!("before {before:?}\nwanted {after:?}\nthere is {:?}", now());
        eventually_or(&format!("{when}: it is one or the other"), say, || is_either(&now()));
        self.census.check(&self.world, &when);
        // What is down already cannot be ordered down again.
        if now() != after || !(was_ordered || matches!(operation, Operation::Down)) {
            operation.run(&self.world);
        }
        self.comes_true(&after, &when);
        self.census.check(&self.world, &format!("{when}, ordered again"));
        if matches!(operation, Operation::Restart) {
            assert!(self.pids().is_disjoint(&pids), "{when}: every process is another one");
        }
        self.nobody_noticed(&when, there);
        self.restore();
        self.traffic.told();
    }
}

/// A purge left nothing: neither what shows on a host nor any of these objects.
fn is_bare(world: &World, bare: &BTreeSet<String>, objects: &BTreeSet<(String, u32)>, when: &str) {
    assert_eq!(world.left(), *bare, "{when}");
    assert_eq!(agents(world), Vec::<i32>::new(), "{when}");
    let left = || objects.iter().filter(|object| bpf::exists(object)).collect::<Vec<_>>();
    let say = || format!("{:?}", left());
    // The kernel frees them after a grace period.
    eventually_or(&format!("{when}: no kernel object is left"), say, || left().is_empty());
}

/// Kills every agent of the host; whether the order had ended before, and well.
fn end_agents(world: &World, order: &mut Child) -> Option<bool> {
    let ended = order.try_wait().unwrap();
    for agent in agents(world) {
        world.kill_agent(agent);
    }
    ended.map(|status| status.success())
}

fn changes(lane: u64) {
    let mut trial = Trial::new();
    for seed in seeds(40) {
        trial.seed(seed * 2 + lane);
    }
    println!("{} of {} orders were cut off", trial.cut_off, seeds(40).end);
    assert!(trial.cut_off * 4 > seeds(40).end, "the moments miss the work");
    trial.end();
}

#[test]
fn killed_at_any_point_of_a_change_it_converges() {
    changes(0);
}

#[test]
fn killed_at_any_point_of_another_change_it_converges() {
    changes(1);
}

#[test]
fn killed_at_its_beginning_and_at_its_end_it_leaves_nothing() {
    let trial = Beginnings::new();
    let (mut ups, mut purges) = (0, 0);
    for seed in seeds(10) {
        let mut random = Random::new(seed);
        ups += u64::from(trial.first_up(&mut random));
        purges += u64::from(trial.purge(&mut random));
    }
    println!("of {} each, {ups} beginnings and {purges} ends were cut off", seeds(10).end);
    assert!((ups + purges) * 4 > seeds(10).end, "the moments miss the work");
}
