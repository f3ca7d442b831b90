//! Hosts that are gone for good, and what they leave.

use sinew_model::{Balance, NodeName, Outlier, fleet::ServiceRecord};

use super::{World, node, s, service};
use crate::{
    duty::{
        Duty, capacity,
        forgetting::forget,
        people::{self, Refused},
        plan::Rule,
    },
    networks,
    records::{Key, StoredService, StoredSlice, config::Pausable},
    session::milliseconds,
};

fn record(failures: u32) -> ServiceRecord {
    let outlier = Outlier { consecutive_failures: failures, ..Outlier::default() };
    ServiceRecord { ports: Vec::new(), balance: Balance::default(), outlier }
}

/// Hosts a, b and c with slices 0, 1 and 2; each offers `orders`.
async fn world() -> World {
    let mut world = World::new().await;
    networks::open(&world.store, Some("10.111.0.0/22".parse().unwrap())).await.unwrap();
    let mut orders = StoredService::default();
    for (index, name) in (0..).zip(["a", "b", "c"]) {
        world.open(name, "c1").await;
        world.run(name, "z", "orders", 2).await;
        world.put(Key::Slice(index), &StoredSlice::Given(node(name))).await;
        orders.say(&node(name), &record(1));
    }
    world.put(Key::Service(service("orders")), &orders).await;
    world.pass(s(15)).await;
    world
}

fn orders(world: &World) -> (u32, Vec<NodeName>) {
    let owned = world.registry.of_node(&service("orders"), &node("a")).owned.unwrap();
    let failures = owned.service.record.as_ref().unwrap().outlier.consecutive_failures;
    (failures, owned.service.owners.iter().cloned().collect())
}

#[tokio::test]
async fn a_dead_host_has_no_word_in_what_a_service_is() {
    let mut world = world().await;
    let mut says = world.registry.of_node(&service("orders"), &node("a")).owned.unwrap().clone();
    assert!(!says.service.say(&node("a"), &record(2)));
    world.put(Key::Service(service("orders")), &says.service).await;
    assert_eq!(orders(&world).0, 1);
    world.lose("b", s(5)).await;
    world.pass(s(1)).await;
    assert_eq!(orders(&world), (1, vec![node("a"), node("c")]), "one of two");
    let mut session = world.registry.session(&node("c")).1.unwrap().clone();
    session.dead_since_ms = Some(milliseconds(world.now.wall));
    world.put(Key::Session(node("c")), &session).await;
    world.pass(s(30)).await;
    assert_eq!(orders(&world), (2, vec![node("a")]), "who is left says it");
    assert_eq!(world.registry.services_of(&node("b")).count(), 0);
}

#[tokio::test]
async fn a_host_is_forgotten_when_it_is_dead_and_its_slice_rests() {
    let mut world = world().await;
    let ask = |world: &World, name: &str| forget(&node(name), world.now, &world.registry);
    assert_eq!(ask(&world, "b"), Err(Refused::Alive { node: node("b") }));
    assert_eq!(ask(&world, "x"), Err(Refused::NoHost { node: node("x") }));
    // Dead, and what it had may not be removed.
    let pause = people::pause(Pausable::Removals, "me", "", world.now, &world.registry).unwrap();
    let mut session = world.registry.session(&node("b")).1.unwrap().clone();
    session.dead_since_ms = Some(milliseconds(world.now.wall));
    world.put(Key::Session(node("b")), &session).await;
    world.does(&pause).await;
    assert_eq!(ask(&world, "b"), Err(Refused::Remains { node: node("b"), services: 1 }));
    let resume = people::resume(Pausable::Removals, &world.registry).unwrap();
    world.does(&resume).await;
    world.pass(s(20)).await;

    let plan = ask(&world, "b").unwrap();
    assert_eq!(plan.rule, Rule::Forget);
    // It came back meanwhile: it is not forgotten.
    let mut again = session.clone();
    again.dead_since_ms = None;
    world.put(Key::Session(node("b")), &again).await;
    assert!(!world.commit(plan.transaction()).await);
    world.put(Key::Session(node("b")), &session).await;
    let plan = ask(&world, "b").unwrap();
    world.does(&plan).await;
    assert!(world.registry.session(&node("b")).1.is_none());
    assert_eq!(world.registry.given_slice(&node("b")), None);

    let now_ms = milliseconds(world.now.wall);
    let full = |world: &World, at| {
        let now = crate::session::Now { wall: at, ..world.now };
        capacity::nearly_full(now, &world.registry)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(world.registry.slice(&node("d"), now_ms).unwrap().index, 3, "the last");
    assert_eq!(world.registry.slice(&node("e"), now_ms).unwrap().index, 4, "there are four");
    world.registry.release_slice(&node("e"));
    world.put(Key::Slice(3), &StoredSlice::Given(node("d"))).await;
    assert_eq!(
        full(&world, world.now.wall),
        ["4 of 4 slices of the instance networks: no more are taken at 4; `sinew nodes forget` \
          gives back that of a host that is gone for good"]
    );
    assert_eq!(full(&world, world.now.wall + s(3600)), [""; 0]);
    assert_eq!(world.registry.slice(&node("e"), now_ms + 3_600_000).unwrap().index, 1);
}

#[tokio::test]
async fn who_is_dead_for_a_month_is_forgotten() {
    let mut world = world().await;
    world.lose("b", s(5)).await;
    world.pass(s(20)).await;
    let month = s(30 * 86_400);
    world.now.wall += month - s(60);
    assert_eq!(world.pass(s(30)).await, [""; 0]);
    let told = world.pass(s(60)).await;
    assert_eq!(told, ["host b is forgotten: it is gone for good"]);
    let last = world.history().await.pop().unwrap();
    assert_eq!((last.action.rule, &*last.action.inputs["host"]), (Rule::Forget, "b"));

    // Not while removals are paused.
    world.lose("c", s(5)).await;
    world.pass(s(20)).await;
    let pause = people::pause(Pausable::All, "me", "", world.now, &world.registry).unwrap();
    world.does(&pause).await;
    world.now.wall += month;
    world.duty = Duty::new(world.now);
    assert_eq!(world.pass(s(30)).await, [""; 0]);
}
