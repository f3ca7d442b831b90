//! Placed services over hosts that come, die and return.

use std::collections::BTreeMap;

use sinew_model::{Command, Project, Service, ServiceName, fleet::Resources};

use super::{World, node, s};
use crate::{
    duty::{placing, rollback},
    records::{Key, StoredNode, config::Pausable},
    session::Now,
};

fn project(services: &[(&str, u16)]) -> Project {
    let one = |(name, replicas): &(&str, u16)| {
        let mut service = Service::new(Command::Shell((*name).to_owned()), "/".into());
        service.replicas = *replicas;
        service.limits.cpu_millis = Some(100);
        (name.parse().unwrap(), service)
    };
    Project { name: "shop".parse().unwrap(), services: services.iter().map(one).collect() }
}

async fn host(world: &mut World, name: &str, zone: &str, cpu_millis: u64) {
    world.open(name, "c1").await;
    let capacity = if cpu_millis == 0 {
        Resources::default()
    } else {
        Resources { cpu_millis, memory_bytes: 1 << 30 }
    };
    let stored = StoredNode {
        zone: zone.parse().unwrap(),
        labels: BTreeMap::new(),
        capacity,
        version: "0.1.0".to_owned(),
        protocol: 1,
        boot_id: "b".to_owned(),
        address4: None,
        address6: None,
        proven4: false,
        proven6: false,
        instances4: None,
        instances6: None,
        first_seen_ms: 1,
    };
    world.put(Key::Node(node(name)), &stored).await;
}

/// Hosts a, b and c in zones of their own, and d that runs nothing for others.
async fn world() -> World {
    let mut world = World::new().await;
    for name in ["a", "b", "c"] {
        host(&mut world, name, &format!("z{name}"), 1000).await;
    }
    host(&mut world, "d", "zd", 0).await;
    world.pass(s(15)).await;
    world
}

async fn put(world: &mut World, services: &[(&str, u16)]) {
    let plan = placing::put(&project(services), "me", world.now, &world.registry).unwrap();
    world.does(&plan).await;
}

fn runs(world: &World, host: &str) -> Vec<(String, u16)> {
    let assigned = world.registry.placed().of(&node(host));
    assigned.services.iter().map(|(name, it)| (name.to_string(), it.replicas)).collect()
}

fn web(replicas: u16) -> Vec<(String, u16)> {
    vec![("web".to_owned(), replicas)]
}

#[tokio::test]
async fn replicas_are_spread_and_what_a_dead_host_had_runs_elsewhere_after_a_while() {
    let mut world = world().await;
    let plan = placing::put(&project(&[("web", 3)]), "me", world.now, &world.registry).unwrap();
    // Shown before it is done: a replica in each zone.
    assert_eq!(plan.radius.keys().collect::<Vec<_>>(), ["za", "zb", "zc"]);
    assert_eq!(plan.inputs["replicas"], "web on a: 0 -> 1, web on b: 0 -> 1, web on c: 0 -> 1");
    world.does(&plan).await;
    assert_eq!(world.pass(s(1)).await, ["replicas that begin or end: 3, on hosts: 3"]);
    assert_eq!(["a", "b", "c"].map(|host| runs(&world, host)), [web(1), web(1), web(1)]);
    assert_eq!(runs(&world, "d"), []);
    let told = world.registry.placed().generation(&node("c"));
    world.lose("c", s(5)).await;
    world.pass(s(60)).await;
    assert_eq!(world.dead(), ["c"]);
    assert_eq!(runs(&world, "c"), web(1), "it may come back");
    world.pass(s(6)).await;
    assert_eq!(runs(&world, "c"), []);
    assert!(world.registry.placed().generation(&node("c")) > told, "it is told when it is back");
    let sum: u16 = ["a", "b"].iter().flat_map(|host| runs(&world, host)).map(|(_, n)| n).sum();
    assert_eq!(sum, 3);
    // It is back: nothing moves that need not.
    let before = world.registry.placed().placement();
    world.open("c", "c1").await;
    assert_eq!(world.pass(s(30)).await, [""; 0]);
    assert_eq!(world.registry.placed().placement(), before);
}

#[tokio::test]
async fn r08_r10_nothing_is_placed_elsewhere_while_many_hosts_are_gone_or_somebody_paused_it() {
    let mut world = world().await;
    put(&mut world, &[("web", 3)]).await;
    world.pass(s(1)).await;
    let before = world.registry.placed().placement();
    for name in ["b", "c", "d"] {
        world.lose(name, s(5)).await;
    }
    assert_eq!(world.pass(s(300)).await, [""; 0]);
    assert_eq!(world.registry.placed().placement(), before);
    let pause =
        crate::duty::people::pause(Pausable::Placement, "me", "", world.now, &world.registry);
    world.does(&pause.unwrap()).await;
    for name in ["b", "d"] {
        world.open(name, "c1").await;
    }
    world.pass(s(300)).await;
    assert_eq!(world.dead(), ["c"]);
    assert_eq!(world.registry.placed().placement(), before);
}

#[tokio::test]
async fn a_project_that_is_changed_taken_away_or_set_back_is_followed() {
    let mut world = world().await;
    put(&mut world, &[("web", 3), ("db", 1)]).await;
    world.pass(s(1)).await;
    let first = world.registry.revision();
    let same = placing::put(&project(&[("web", 3), ("db", 1)]), "me", world.now, &world.registry);
    assert!(same.unwrap_err().to_string().contains("nothing to do"));
    let other = Project { name: "other".parse().unwrap(), ..project(&[("db", 1)]) };
    let taken = placing::put(&other, "me", world.now, &world.registry).unwrap_err().to_string();
    assert_eq!(taken, "service db is placed by project shop: one of them needs another name");
    put(&mut world, &[("web", 2)]).await;
    world.pass(s(1)).await;
    let all = |world: &World| -> BTreeMap<ServiceName, u16> {
        let placement = world.registry.placed().placement();
        placement.into_iter().map(|(name, hosts)| (name, hosts.values().sum())).collect()
    };
    assert_eq!(all(&world), BTreeMap::from([("web".parse().unwrap(), 2)]));
    let entries = world.history().await;
    let back = rollback::plan(
        sinew_model::fleet::Generation(first.0),
        &entries,
        world.now,
        &world.registry,
    );
    world.does(&back.unwrap().plan.unwrap()).await;
    world.pass(s(1)).await;
    let both = BTreeMap::from([("db".parse().unwrap(), 1), ("web".parse().unwrap(), 3)]);
    assert_eq!(all(&world), both);
    let name = "shop".parse().unwrap();
    let plan = placing::remove(&name, world.now, &world.registry).unwrap();
    world.does(&plan).await;
    world.pass(s(1)).await;
    assert!(all(&world).is_empty());
    assert_eq!(["a", "b", "c"].map(|host| runs(&world, host).len()), [0; 3]);
    let none = placing::remove(&name, world.now, &world.registry).unwrap_err().to_string();
    assert_eq!(none, "no project shop is placed: `sinew placement` lists them");
    let words: Vec<_> = world.history().await.iter().map(|it| it.action.words.clone()).collect();
    assert!(words.contains(&"project shop is placed no more".to_owned()), "{words:?}");
}

#[tokio::test]
async fn what_has_no_room_is_told_and_placed_when_there_is() {
    let mut world = world().await;
    put(&mut world, &[("web", 31)]).await;
    world.pass(s(1)).await;
    let told: Vec<_> =
        placing::unplaced(world.now, &world.registry).values().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "replicas without a place: 1; of the hosts 3 lack the room, 0 a label, and 1 take no more"
        ]
    );
    host(&mut world, "e", "za", 1000).await;
    assert_eq!(world.pass(s(1)).await, ["replicas that begin or end: 1, on hosts: 1"]);
    assert_eq!(runs(&world, "e"), web(1));
}

#[tokio::test]
async fn r11_what_cannot_be_read_takes_nothing_down_and_what_is_too_much_is_refused() {
    let mut world = world().await;
    put(&mut world, &[("web", 3)]).await;
    world.pass(s(1)).await;
    let before = world.registry.placed().placement();
    // As of a newer version, and read by one that began just now.
    let key = Key::Project("shop".parse().unwrap());
    world.put(key.clone(), &serde_json::json!({"hologram": true})).await;
    assert!(world.registry.is_placement_poisoned());
    world.put(Key::Project("more".parse().unwrap()), &serde_json::json!([])).await;
    assert_eq!(world.pass(s(10)).await, [""; 0]);
    assert_eq!(world.registry.placed().placement(), before);
    world.delete(key).await;
    world.delete(Key::Project("more".parse().unwrap())).await;
    world.pass(s(1)).await;
    assert!(world.registry.placed().placement().is_empty());

    let refused = |change: fn(&mut Service)| {
        let mut project = project(&[("big", 1)]);
        project.services.values_mut().for_each(change);
        let plan = placing::put(&project, "me", world.now, &world.registry);
        plan.unwrap_err().to_string()
    };
    let large = refused(|it| drop(it.env.insert("A".to_owned(), "x".repeat(300 << 10))));
    assert!(large.starts_with("the project has 30") && large.contains("262144"), "{large}");
    let invalid = refused(|it| it.replicas = u16::MAX);
    assert!(invalid.contains("65535"), "{invalid}");
}

#[tokio::test]
async fn where_everything_runs_is_decided_no_more_often_than_it_may_change() {
    let mut world = world().await;
    put(&mut world, &[("web", 3)]).await;
    world.pass(s(3)).await;
    let (at, _) = world.duty.decided.unwrap();
    let look = |world: &mut World, ms| {
        let later = std::time::Duration::from_millis(ms);
        let now = Now { monotonic: at + later, wall: world.now.wall + later };
        assert!(world.duty.next(now, &world.registry).is_none());
        world.duty.decided.unwrap().0
    };
    assert_eq!(look(&mut world, 999), at);
    assert!(look(&mut world, 1000) > at);
    // What people want is decided at once.
    world.now.monotonic = at + std::time::Duration::from_millis(1200);
    put(&mut world, &[("web", 2)]).await;
    assert!(world.duty.next(world.now, &world.registry).is_some());
}
