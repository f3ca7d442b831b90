//! The rules one by one, over each store.

use std::{collections::BTreeSet, sync::Arc};

use sinew_control::{
    duty::{history, people, plan::Plan, rollback, zones},
    records::{
        Key,
        config::{Pausable, StoredLead},
    },
    session::Outcome,
    store::{Op, Range, Span, Store, Transaction},
};
use sinew_model::fleet::Generation;

use crate::world::{World, s};

type Shared = Arc<dyn Store>;

async fn world(store: Shared, zones: &[&str], instances: u32) -> World {
    let mut world = World::new(store, 2, zones, instances, 1).await;
    world.pass(s(15)).await;
    assert_eq!(world.stored(), world.truth());
    world
}

async fn does(world: &mut World, plan: &Plan) -> bool {
    let recorded = history::recorded(plan, "me", world.now, None);
    let outcome = world.commit(recorded).await;
    world.observer.follow(world.revision).await;
    matches!(outcome, Outcome::Done(_))
}

/// Of a host that forgot what it ran, nothing goes.
pub(crate) async fn r02_empty_is_not_everything(store: Shared) {
    let mut world = world(store, &["a", "a", "b"], 20).await;
    let all = world.stored();
    let truth = std::mem::take(&mut world.agents[0].truth);
    world.agents[0].forget();
    world.pass(s(5)).await;
    assert_eq!(world.stored(), all);
    world.agents[0].truth = truth;
    world.agents[0].forget();
    world.pass(s(5)).await;
    assert_eq!((world.stored(), world.dead()), (all, Vec::new()));
}

/// Four of ten vanish: one host's endpoints, or the cap, go in an interval.
pub(crate) async fn r03_no_more_than_the_cap_is_removed(store: Shared) {
    let zones = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let mut world = world(store, &zones, 2).await;
    for agent in &mut world.agents[..4] {
        agent.cut = true;
    }
    let mut seen = Vec::new();
    for _ in 0..160 {
        world.step().await;
        seen.push((world.now.monotonic, world.stored().len()));
        let (now, left) = *seen.last().unwrap();
        let before = seen.iter().filter(|(at, _)| *at + s(10) > now).map(|(_, left)| *left);
        assert!(before.max().unwrap() - left <= 2, "at {now:?}");
    }
    assert_eq!((world.dead().len(), world.stored().len()), (4, 12));
    world.agents.iter_mut().for_each(|agent| agent.cut = false);
    world.pass(s(10)).await;
    assert_eq!((world.stored(), world.dead()), (world.truth(), Vec::new()));
}

/// The replica of one zone dies: hosts of the other one notice nothing.
pub(crate) async fn r05_a_zone_does_without_the_controllers_of_another(store: Shared) {
    let mut world = World::new(store, 2, &["a", "a", "b", "b"], 2, 1).await;
    world.prefer([0, 0, 1, 1]);
    world.pass(s(15)).await;
    let of_b: Vec<_> =
        world.agents[2..].iter().map(|it| (it.generation, it.known.clone())).collect();
    let epochs = |world: &World| {
        let epoch = |agent: &crate::world::Agent| {
            world.observer.registry.session(&agent.node).1.unwrap().epoch
        };
        world.agents[2..].iter().map(epoch).collect::<Vec<_>>()
    };
    let before = epochs(&world);
    world.kill(0);
    world.prefer([0; 4]);
    world.pass(s(60)).await;
    let now: Vec<_> =
        world.agents[2..].iter().map(|it| (it.generation, it.known.clone())).collect();
    assert_eq!((now, epochs(&world)), (of_b, before));
    assert_eq!((world.stored(), world.dead()), (world.truth(), Vec::new()));
}

/// Who had the duty once writes nothing more.
pub(crate) async fn r07_an_old_duty_writes_nothing(store: Shared) {
    let mut world = world(store, &["a", "a", "b"], 2).await;
    let (old, _) = world.observer.registry.config().lead().unwrap().clone();
    let registry = &world.observer.registry;
    let plan = people::pause(Pausable::All, "old", "", world.now, registry).unwrap();
    // Another takes it.
    let lead = StoredLead { control: "other".to_owned(), since_ms: 1 };
    let lead = serde_json::to_vec(&lead).unwrap();
    world.commit(Transaction::new().then(Op::delete(Key::Lead.bytes()))).await;
    world.commit(Transaction::put(Key::Lead.bytes(), lead)).await;
    world.observer.follow(world.revision).await;
    let (new, _) = world.observer.registry.config().lead().unwrap().clone();
    assert!(new > old);
    let late = history::recorded(&plan, "old", world.now, Some(old));
    assert!(matches!(world.commit(late).await, Outcome::Conflict(_)));
    let good = history::recorded(&plan, "new", world.now, Some(new));
    assert!(matches!(world.commit(good).await, Outcome::Done(_)));
}

/// After the store was away, and with a new holder of the duty, everybody gets time.
pub(crate) async fn r08_stale_signals_remove_nothing(store: Shared) {
    let mut world = world(store, &["a", "a", "b", "c", "d"], 2).await;
    world.away = true;
    world.agents[0].cut = true;
    world.pass(s(60)).await;
    world.agents[0].cut = false;
    world.away = false;
    let mut never = true;
    for _ in 0..80 {
        world.step().await;
        never &= world.dead().is_empty();
    }
    assert!(never && world.stored() == world.truth());
}

/// A pause holds whoever has the duty.
pub(crate) async fn r09_a_pause_is_durable(store: Shared) {
    let mut world = world(store, &["a", "a", "b"], 2).await;
    let registry = &world.observer.registry;
    let pause = people::pause(Pausable::Removals, "me", "", world.now, registry).unwrap();
    assert!(does(&mut world, &pause).await);
    world.agents[0].cut = true;
    world.pass(s(30)).await;
    // All replicas are others now.
    world.start().await;
    world.kill(0);
    world.kill(0);
    world.pass(s(60)).await;
    assert_eq!((world.stored().len(), world.dead()), (6, Vec::new()));
    let resume = people::resume(Pausable::Removals, &world.observer.registry).unwrap();
    assert!(does(&mut world, &resume).await);
    world.pass(s(30)).await;
    assert_eq!((world.stored().len(), world.dead()), (4, vec!["n0".to_owned()]));
}

/// Most are gone at once: nobody is dead.
pub(crate) async fn r10_mass_death_is_not_believed(store: Shared) {
    let mut world = world(store, &["a", "a", "b", "b", "c"], 2).await;
    for agent in &mut world.agents[..3] {
        agent.cut = true;
    }
    world.pass(s(120)).await;
    assert_eq!((world.stored().len(), world.dead()), (10, Vec::new()));
    world.agents.iter_mut().for_each(|agent| agent.cut = false);
    world.pass(s(15)).await;
    assert_eq!((world.stored(), world.dead()), (world.truth(), Vec::new()));
}

/// What is only shown changes nothing; what is done is told, and undone.
pub(crate) async fn r15_what_is_done_is_told_and_undone(store: Shared) {
    let mut world = world(store, &["a", "a", "b", "b", "c", "c"], 2).await;
    let before = world.revision;
    let registry = &world.observer.registry;
    let plan = zones::evacuate(&"a".parse().unwrap(), "", false, world.now, registry).unwrap();
    assert_eq!((plan.radius["a"].hosts, plan.radius["a"].endpoints), (2, 4));
    let entries = world.store.range(Range::of(Span::prefix("sinew/zones/"))).await.unwrap();
    assert_eq!((entries.revision, entries.entries.len()), (before, 0));
    let then = Generation(before.0);
    assert!(does(&mut world, &plan).await);
    let stored = world.store.range(Range::of(Span::prefix("sinew/history/"))).await.unwrap();
    let entries: Vec<_> = stored.entries.iter().map(|it| history::read(it).unwrap()).collect();
    assert_eq!(entries.last().unwrap().action.who, "me");
    let undo = rollback::plan(then, &entries, world.now, &world.observer.registry).unwrap();
    assert!(does(&mut world, &undo.plan.unwrap()).await);
    assert!(world.observer.registry.config().zones().is_empty());
}

/// What is declared is held: no more is taken, in words.
pub(crate) async fn r16_no_more_is_taken_than_is_declared(store: Shared) {
    let mut world = world(store, &["a", "a", "b"], 2).await;
    let limits = [("service_endpoints".to_owned(), 7), ("nodes".to_owned(), 3)].into();
    let plan = people::set_limits(&limits, &world.observer.registry).unwrap();
    assert!(does(&mut world, &plan).await);
    world.agents[0].held_is_fine = true;
    world.change(0, &[10, 11], &[]);
    world.pass(s(2)).await;
    assert_eq!(world.stored().len(), 7);
    let held = world.agents[0].held.clone().unwrap();
    assert!(held.starts_with("1 of its endpoints on the host are not taken"), "{held}");
    // Room is made, and the host says again what it runs.
    world.change(1, &[], &[0]);
    world.pass(s(2)).await;
    world.change(0, &[], &[]);
    world.pass(s(2)).await;
    assert_eq!(world.stored(), world.truth());
    // Of services too: there is one.
    let limits = [("services".to_owned(), 1)].into();
    let plan = people::set_limits(&limits, &world.observer.registry).unwrap();
    assert!(does(&mut world, &plan).await);
    world.agents[2].held_is_fine = true;
    world.agents[2].also = Some("other".parse().unwrap());
    world.change(2, &[], &[]);
    world.pass(s(2)).await;
    let held = world.agents[2].held.clone().unwrap();
    assert!(held.starts_with("the service is not taken: there are at most 1"), "{held}");
    assert_eq!(world.observer.registry.services().count(), 1);
    world.join("n9", "b");
    world.pass(s(5)).await;
    let known: BTreeSet<_> =
        world.observer.registry.sessions().map(|(node, ..)| node.to_string()).collect();
    assert_eq!(known.len(), 3);
    let why = world.agents[3].goodbye.clone().unwrap();
    assert!(why.starts_with("the network has 3 hosts, and no more are declared"), "{why}");
}

/// After an outage snapshots are given out by a rate.
pub(crate) async fn r13_snapshots_are_given_out_by_a_rate(store: Shared) {
    let mut world = world(store, &["a", "a", "b"], 50).await;
    for number in 0..60 {
        world.join(&format!("m{number}"), "b");
    }
    let rate = 20_000;
    world.give_out(rate);
    let mut given = Vec::new();
    while world.agents.iter().any(|agent| agent.known.len() < 150) {
        world.step().await;
        given.push((
            world.now.monotonic,
            world.agents.iter().map(|it| it.snapshot_bytes).sum::<usize>(),
        ));
        assert!(given.len() < 4000, "all get theirs");
    }
    for (at, bytes) in &given {
        let from = given.iter().filter(|(then, _)| *then + s(10) <= *at).map(|(_, bytes)| *bytes);
        let lately = bytes - from.max().unwrap_or(0);
        // Of each replica: what fills in ten seconds, and what the bucket held.
        assert!(lately <= 2 * rate * 12, "{lately} bytes in ten seconds");
    }
}
