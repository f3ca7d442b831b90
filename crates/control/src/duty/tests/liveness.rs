//! Who is declared dead when.

use std::{collections::BTreeMap, time::Duration};

use proptest::{collection::vec, prelude::*};
use sinew_model::NodeName;

use super::{World, node, s};
use crate::{
    duty::{
        Duty,
        liveness::{Standing, standing},
    },
    records::{Key, StoredSession},
    session::Now,
    store::Revision,
};

/// Hosts `n0`, `n1`, ... in zones, all heard of by `c1` or `c2`, and a duty that knows them.
async fn world(zones: &[&str]) -> World {
    let mut world = World::new().await;
    for (host, zone) in zones.iter().enumerate() {
        let name = format!("n{host}");
        world.open(&name, if host % 2 == 0 { "c1" } else { "c2" }).await;
        world.run(&name, zone, "orders", 1).await;
    }
    world.pass(s(15)).await;
    world
}

#[tokio::test]
async fn a_host_is_dead_when_it_was_not_heard_of_for_the_time_out() {
    let mut world = world(&["a", "a", "b"]).await;
    // Its stream ended: it has the time to come back.
    world.lose("n0", s(0)).await;
    world.pass(s(4)).await;
    assert_eq!(world.dead(), [""; 0]);
    world.pass(s(1)).await;
    assert_eq!(world.dead(), ["n0"]);
    world.open("n0", "c1").await;
    assert_eq!(world.dead(), [""; 0]);
    world.pass(s(70)).await;
    // It fell silent: the time has passed but for what it takes to come another way.
    world.lose("n1", s(5)).await;
    world.pass(s(1) - Duration::from_millis(250)).await;
    assert_eq!(world.dead(), [""; 0]);
    world.pass(Duration::from_millis(250)).await;
    assert_eq!(world.dead(), ["n1"]);
}

#[tokio::test]
async fn r08_who_takes_the_duty_gives_everybody_time() {
    let mut world = world(&["a", "a", "b"]).await;
    world.lose("n0", s(5)).await;
    world.duty = Duty::new(world.now);
    world.pass(s(9)).await;
    assert_eq!(world.dead(), [""; 0]);
    world.pass(s(1)).await;
    assert_eq!(world.dead(), ["n0"]);
}

#[tokio::test]
async fn r08_after_doubt_or_a_blink_everybody_gets_the_time_anew() {
    let mut world = world(&["a", "a", "b"]).await;
    world.lose("n0", s(0)).await;
    world.pass(s(4)).await;
    world.duty.doubt(world.now);
    world.pass(s(8)).await;
    assert_eq!(world.dead(), [""; 0]);
    // The process stood still.
    world.now.monotonic += s(30);
    world.pass(s(9)).await;
    assert_eq!(world.dead(), [""; 0]);
    world.pass(s(1) + Duration::from_millis(250)).await;
    assert_eq!(world.dead(), ["n0"]);
}

#[tokio::test]
async fn r08_sessions_of_a_replica_that_is_gone_get_time_to_come_to_another() {
    let mut world = world(&["a", "a", "b", "b", "a"]).await;
    world.delete(Key::Control("c2".to_owned())).await;
    world.pass(s(9)).await;
    assert_eq!(world.dead(), [""; 0]);
    world.open("n1", "c1").await;
    world.pass(s(2)).await;
    assert_eq!(world.dead(), ["n3"]);
}

#[tokio::test]
async fn r08_a_replica_that_loses_most_of_its_sessions_is_suspect_itself() {
    let mut world = world(&["a", "a", "b", "b", "c", "c", "d", "d"]).await;
    for host in [1, 3, 5] {
        world.lose(&format!("n{host}"), s(5)).await;
    }
    world.pass(s(9)).await;
    assert_eq!(world.dead(), [""; 0]);
    world.open("n1", "c1").await;
    world.pass(s(3)).await;
    assert_eq!(world.dead(), ["n3", "n5"]);
}

#[tokio::test]
async fn r10_when_more_than_half_are_gone_at_once_none_is_dead() {
    let mut world = world(&["a", "a", "b", "b", "c"]).await;
    for host in 0..3 {
        world.lose(&format!("n{host}"), s(5)).await;
    }
    world.pass(s(600)).await;
    assert_eq!(world.dead(), [""; 0]);
    let frozen = &world.duty.frozen()[0];
    assert_eq!((frozen.zone.as_ref(), frozen.gone, frozen.of), (None, 3, 5));
    // The others get the time to come back when the first one has.
    world.open("n0", "c1").await;
    world.pass(s(9)).await;
    assert_eq!(world.dead(), [""; 0]);
    world.open("n1", "c1").await;
    world.pass(s(2)).await;
    assert_eq!(world.dead(), ["n2"]);
}

#[tokio::test]
async fn r10_a_zone_of_which_most_is_gone_is_frozen_alone() {
    let mut world = world(&["a", "a", "a", "b", "b", "b", "b", "c"]).await;
    for host in [0, 1, 3] {
        world.lose(&format!("n{host}"), s(5)).await;
    }
    world.pass(s(60)).await;
    assert_eq!(world.dead(), ["n3"]);
    assert_eq!(world.duty.frozen()[0].zone.as_ref().unwrap().as_str(), "a");
    // The one host of a zone is a dead host like others.
    world.open("n0", "c1").await;
    world.open("n1", "c1").await;
    world.pass(s(60)).await;
    world.lose("n7", s(5)).await;
    world.pass(s(2)).await;
    assert_eq!(world.dead(), ["n3", "n7"]);
}

#[tokio::test]
async fn r10_while_hosts_are_lost_one_after_the_other_none_is_dead() {
    let mut world = world(&["a", "b", "c", "d", "e", "f"]).await;
    for host in 0..4 {
        world.lose(&format!("n{host}"), s(5)).await;
        world.pass(s(1)).await;
        assert_eq!(world.dead(), ["n0"], "the first was alone");
    }
    world.pass(s(60)).await;
    assert_eq!(world.dead(), ["n0"]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Open { host: usize, control: usize },
    Lose { host: usize, silent: u64 },
    Control { control: usize, there: bool },
    Doubt,
    Pass { quarters: u32 },
}

fn step(hosts: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..hosts, 0..2usize).prop_map(|(host, control)| Step::Open { host, control }),
        3 => (0..hosts, 0..6u64).prop_map(|(host, silent)| Step::Lose { host, silent }),
        1 => (0..2usize, any::<bool>()).prop_map(|(control, there)| Step::Control { control, there }),
        1 => Just(Step::Doubt),
        6 => (1..30u32).prop_map(|quarters| Step::Pass { quarters }),
    ]
}

/// Remembers every look, and reckons from all of them.
#[derive(Default)]
struct Naive {
    looks: Vec<Look>,
    doubts: Vec<Duration>,
    began: Duration,
}

struct Look {
    now: Now,
    hosts: Vec<Host>,
}

#[derive(Clone)]
struct Host {
    name: String,
    zone: String,
    revision: Revision,
    standing: Standing,
    silent: Duration,
    control: String,
    dead: Option<Duration>,
}

impl Look {
    fn of(world: &World) -> Self {
        let of = |(node, revision, session): (&NodeName, Revision, &StoredSession)| Host {
            name: node.to_string(),
            zone: world.registry.zone(node).unwrap().to_string(),
            revision,
            standing: standing(&world.registry, session),
            silent: Duration::from_millis(session.silent_ms),
            control: session.control.clone(),
            dead: session.dead_since_ms.map(Duration::from_millis),
        };
        Self { now: world.now, hosts: world.registry.sessions().map(of).collect() }
    }

    fn died_lately(&self, host: &Host) -> bool {
        host.dead.is_some_and(|since| since + s(60) > self.now.wall)
    }

    fn is_frozen(&self, zone: Option<&str>) -> bool {
        let counted = self.hosts.iter().filter(|host| {
            let old = host.dead.is_some() && !self.died_lately(host);
            zone.is_none_or(|zone| host.zone == zone) && !old
        });
        let (mut gone, mut of) = (0, 0);
        for host in counted {
            of += 1;
            gone += usize::from(host.standing != Standing::Live);
        }
        gone * 2 > of && (zone.is_none() || gone > 1)
    }
}

fn is_gone(standing: Standing) -> bool {
    matches!(standing, Standing::Lost | Standing::Orphaned)
}

impl Naive {
    /// When a host that is gone was seen to be so first.
    fn noticed(&self, host: &str) -> Duration {
        let last = self.looks.last().unwrap();
        let find = |look: &Look| {
            let found = look.hosts.iter().find(|it| it.name == host);
            found.map(|it| (it.revision, it.standing))
        };
        let now = find(last);
        let same = self.looks.iter().rev().take_while(|look| find(look) == now);
        same.last().unwrap().now.monotonic
    }

    fn dead(&self) -> Vec<String> {
        let last = self.looks.last().unwrap();
        let gone: Vec<_> = last.hosts.iter().filter(|host| is_gone(host.standing)).collect();
        let newest = gone.iter().map(|host| self.noticed(&host.name)).max().unwrap_or_default();
        let lately = last.hosts.iter().filter(|host| last.died_lately(host)).count() + gone.len();
        let mut dead = Vec::new();
        for host in gone {
            let mut due = self.due(last, host);
            if lately > 1 {
                due = due.max((newest + s(2)).min(due + s(10)));
            }
            let frozen = last.is_frozen(None) || last.is_frozen(Some(&host.zone));
            if due <= last.now.monotonic && !frozen {
                dead.push(host.name.clone());
            }
        }
        dead
    }

    fn due(&self, last: &Look, host: &Host) -> Duration {
        let noticed = self.noticed(&host.name);
        let mut anew = self.doubts.clone();
        anew.push(self.began);
        for pair in self.looks.windows(2) {
            for zone in [None, Some(host.zone.as_str())] {
                if pair[0].is_frozen(zone) && !pair[1].is_frozen(zone) {
                    anew.push(pair[1].now.monotonic);
                }
            }
        }
        let of = last.hosts.iter();
        let of = of.filter(|it| it.control == host.control && it.standing != Standing::Dead);
        let lost = of.clone().filter(|it| is_gone(it.standing)).count();
        if host.standing == Standing::Orphaned || (lost > 1 && lost * 2 > of.count()) {
            anew.push(noticed);
        }
        let due = (noticed - host.silent + s(5)).max(noticed + s(1));
        anew.into_iter().map(|from| from + s(10)).fold(due, Duration::max)
    }
}

async fn run(zones: Vec<bool>, steps: Vec<Step>) {
    let names: Vec<&str> = zones.iter().map(|first| if *first { "a" } else { "b" }).collect();
    let mut world = World::new().await;
    let mut heard = BTreeMap::new();
    for (host, zone) in names.iter().enumerate() {
        world.open(&format!("n{host}"), "c1").await;
        world.run(&format!("n{host}"), zone, "orders", 1).await;
    }
    let mut naive = Naive { began: world.now.monotonic, ..Naive::default() };
    for step in steps {
        match step {
            Step::Open { host, control } => {
                let host = format!("n{}", host % names.len());
                world.open(&host, ["c1", "c2"][control]).await;
                heard.remove(&host);
            }
            Step::Lose { host, silent } => {
                let host = format!("n{}", host % names.len());
                let session = world.registry.session(&node(&host)).1.unwrap();
                if session.lost_since_ms.is_none() && session.dead_since_ms.is_none() {
                    world.lose(&host, s(silent)).await;
                    heard.insert(host, world.now.monotonic - s(silent));
                }
            }
            Step::Control { control, there } => {
                let key = Key::Control(["c1", "c2"][control].to_owned());
                if there { world.put(key, &()).await } else { world.delete(key).await }
            }
            Step::Doubt => {
                world.duty.doubt(world.now);
                naive.doubts.push(world.now.monotonic);
            }
            Step::Pass { quarters } => {
                for _ in 0..quarters {
                    world.now.monotonic += s(1) / 4;
                    world.now.wall += s(1) / 4;
                    naive.looks.push(Look::of(&world));
                    let found = world.duty.liveness.look(world.now, &world.registry);
                    let dead: Vec<_> =
                        found.dead.iter().map(|(node, _)| node.to_string()).collect();
                    assert_eq!(dead, naive.dead(), "at {:?}", world.now.monotonic);
                    for (host, at) in found.dead {
                        let since = heard.get(host.as_str()).copied().unwrap_or(naive.began);
                        assert!(since + s(5) <= world.now.monotonic, "{host} was heard of");
                        let plan =
                            crate::duty::removal::declare(&host, at, world.now, &world.registry);
                        assert!(world.commit(plan.unwrap().transaction()).await);
                    }
                    naive.looks.push(Look::of(&world));
                    let again = world.duty.liveness.look(world.now, &world.registry);
                    assert_eq!(again.dead.len(), naive.dead().len());
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn hosts_are_dead_when_the_naive_model_says_so(
        zones in vec(any::<bool>(), 1..7),
        steps in vec(step(7), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(zones, steps));
    }
}
