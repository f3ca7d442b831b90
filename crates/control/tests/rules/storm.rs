//! Random cuts and heals of agents, replicas that die and start, the store away: nothing is lost,
//! nothing comes back, generations never go back, and no more is removed than the cap.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::world::{STEP, World, orders, s};

const ZONES: [&str; 5] = ["a", "a", "b", "b", "c"];

struct Storm {
    world: World,
    next_instance: u32,
    away_until: Duration,
    dead: BTreeSet<String>,
    died: Vec<(Duration, String)>,
}

impl Storm {
    async fn new(seed: u64) -> Self {
        let store = crate::embedded().await;
        let mut world = World::new(store, 3, &ZONES, 3, seed).await;
        world.pass(s(15)).await;
        let away_until = world.now.monotonic;
        let mut storm =
            Self { world, next_instance: 100, away_until, dead: BTreeSet::new(), died: Vec::new() };
        storm.check();
        storm
    }

    async fn blow(&mut self) {
        let world = &mut self.world;
        let agent = world.random.below(ZONES.len());
        match world.random.below(60) {
            0 => world.agents[agent].cut = true,
            1..5 => world.agents[agent].cut = false,
            5 if world.replicas.len() > 1 => {
                let number = world.random.below(world.replicas.len());
                world.kill(number);
            }
            6 if world.replicas.len() < 3 && !world.away => world.start().await,
            7 if world.random.below(4) == 0 => {
                world.away = true;
                let steps = u32::try_from(world.random.below(60)).unwrap();
                self.away_until = world.now.monotonic + STEP * steps;
            }
            8 => {
                self.next_instance += 1;
                world.change(agent, &[self.next_instance], &[]);
            }
            9 => {
                let oldest = world.agents[agent].truth.first().copied();
                world.change(agent, &[], oldest.as_slice());
            }
            _ => (),
        }
        if world.away && world.now.monotonic >= self.away_until {
            world.away = false;
        }
        world.step().await;
        self.check();
    }

    fn check(&mut self) {
        self.check_deaths();
        self.check_cap();
        let world = &self.world;
        let stored = world.stored();
        for agent in &world.agents {
            let of = |instance: &u32| sinew_model::fleet::EndpointKey {
                node: agent.node.clone(),
                instance: *instance,
            };
            for instance in &agent.acked_gone {
                assert!(!stored.contains(&of(instance)), "{} is back", of(instance));
            }
            let served = agent.served_until == Some(world.now.monotonic);
            if served && agent.acked && !world.away {
                for instance in &agent.truth {
                    assert!(stored.contains(&of(instance)), "{} is lost", of(instance));
                }
            }
        }
    }

    /// Who is declared dead had no session for the time-out; never more than half at once.
    fn check_deaths(&mut self) {
        let now = self.world.now.monotonic;
        let dead: BTreeSet<String> = self.world.dead().into_iter().collect();
        for name in dead.difference(&self.dead) {
            let agent = self.world.agents.iter().find(|it| it.node.as_str() == name).unwrap();
            let served = agent.served_until.unwrap_or_default();
            assert!(served + s(5) <= now + STEP, "{name} had a session at {served:?}, now {now:?}");
            self.died.push((now, name.clone()));
        }
        self.died.retain(|(at, _)| *at + s(59) > now);
        let still = self.died.iter().filter(|(_, name)| dead.contains(name));
        let lately: BTreeSet<_> = still.map(|(_, name)| name).collect();
        assert!(lately.len() * 2 <= ZONES.len(), "{lately:?} at once");
        self.dead = dead;
    }

    /// In an interval all of one host goes, or what the cap allows.
    fn check_cap(&self) {
        let (registry, now) = (&self.world.observer.registry, self.world.now.wall);
        let mut hosts: BTreeMap<&str, usize> = BTreeMap::new();
        let graves: Vec<_> = registry.graves(&ORDERS).collect();
        for grave in &graves {
            let ago = now.saturating_sub(Duration::from_millis(grave.stored.at_ms));
            if grave.stored.capped && ago < s(10) {
                *hosts.entry(grave.key.node.as_str()).or_default() += 1;
            }
        }
        let removed: usize = hosts.values().sum();
        let all = registry.endpoints(&ORDERS) + removed;
        let cap = self.world.limits().removal_cap(all);
        assert!(hosts.len() <= 1 || removed <= cap, "{hosts:?} of {all}");
    }

    async fn calm(mut self) {
        let world = &mut self.world;
        world.away = false;
        world.agents.iter_mut().for_each(|agent| agent.cut = false);
        world.pass(s(30)).await;
        let world = &self.world;
        assert_eq!(world.dead(), [""; 0]);
        let (stored, truth) = (world.stored(), world.truth());
        let lost: Vec<_> = truth.difference(&stored).collect();
        let back: Vec<_> = stored.difference(&truth).collect();
        assert!(lost.is_empty() && back.is_empty(), "lost {lost:?}, back {back:?}");
        for agent in &world.agents {
            assert!(agent.known == truth, "{} knows it all", agent.node);
        }
    }
}

static ORDERS: std::sync::LazyLock<sinew_model::ServiceName> = std::sync::LazyLock::new(orders);

/// How many hosts were declared dead in all storms: without any, these tests would show little.
async fn storms(seeds: std::ops::Range<u64>) -> usize {
    let mut deaths = 0;
    for seed in seeds {
        eprintln!("seed {seed}");
        let mut storm = Storm::new(seed).await;
        for _ in 0..240 {
            let before = storm.dead.len();
            storm.blow().await;
            deaths += storm.dead.len().saturating_sub(before);
        }
        storm.calm().await;
    }
    deaths
}

#[tokio::test]
async fn partitions_lose_nothing_and_bring_nothing_back_1() {
    assert!(storms(0..25).await > 0);
}

#[tokio::test]
async fn partitions_lose_nothing_and_bring_nothing_back_2() {
    assert!(storms(25..50).await > 0);
}

#[tokio::test]
async fn partitions_lose_nothing_and_bring_nothing_back_3() {
    assert!(storms(50..75).await > 0);
}

#[tokio::test]
async fn partitions_lose_nothing_and_bring_nothing_back_4() {
    assert!(storms(75..100).await > 0);
}

#[tokio::test]
async fn r01_a_day_without_the_store_changes_nothing() {
    let mut world = World::new(crate::embedded().await, 2, &ZONES, 3, 7).await;
    world.pass(s(15)).await;
    let known: Vec<_> = world.agents.iter().map(|agent| agent.known.clone()).collect();
    let sessions: Vec<_> = world.agents.iter().map(|agent| agent.served_until.is_some()).collect();
    assert_eq!(sessions, [true; 5]);
    world.away = true;
    // A host changes meanwhile, another is cut off for a while.
    world.pass(s(60)).await;
    world.change(0, &[50], &[0]);
    world.agents[1].cut = true;
    world.pass(s(3600)).await;
    world.agents[1].cut = false;
    // The rest of the day by larger steps: nothing happens in them.
    for _ in 0..22 {
        world.now.monotonic += s(3600 - 10);
        world.now.wall += s(3600 - 10);
        for agent in &mut world.agents {
            agent.rest(world.now.monotonic);
        }
        for replica in &mut world.replicas {
            replica.rest(world.now.monotonic);
        }
        world.pass(s(10)).await;
    }
    for (agent, known) in world.agents.iter().zip(known) {
        assert_eq!(agent.known, known, "{}", agent.node);
    }
    world.away = false;
    world.pass(s(60)).await;
    assert_eq!((world.stored(), world.dead()), (world.truth(), Vec::new()));
    assert!(world.agents.iter().all(|agent| agent.known == world.truth()));
}
