//! What goes with dead hosts.

use super::{World, node, s, service};
use crate::{records::Key, session::milliseconds};

/// Hosts with so many endpoints of `orders` each, all of zone `z`.
async fn world(hosts: u32, endpoints: u32) -> World {
    let mut world = World::new().await;
    for host in 0..hosts {
        world.open(&format!("n{host}"), "c1").await;
        world.run(&format!("n{host}"), "z", "orders", endpoints).await;
    }
    world.pass(s(15)).await;
    world
}

fn left(world: &World) -> usize {
    world.registry.endpoints(&service("orders"))
}

#[tokio::test]
async fn r03_one_dead_host_of_three_leaves_at_once() {
    let mut world = world(3, 2).await;
    world.lose("n1", s(5)).await;
    let done = world.pass(s(1)).await;
    assert_eq!(
        done,
        [
            "host n1 is dead: it was not heard of for the session time-out",
            "2 endpoints of dead host n1 go, of 1 services"
        ]
    );
    assert_eq!((left(&world), world.dead()), (4, vec!["n1"]));
    // It is back: what it reports is taken, as the session's tests show.
    world.open("n1", "c2").await;
    assert_eq!(world.dead(), [""; 0]);
}

#[tokio::test]
async fn r03_no_more_than_the_cap_goes_when_several_hosts_vanish() {
    let mut world = world(10, 4).await;
    for host in 0..4 {
        world.lose(&format!("n{host}"), s(5)).await;
    }
    world.pass(s(3)).await;
    assert_eq!(world.dead().len(), 4);
    // Of 40: the first one's 4, which are the cap too.
    assert_eq!(left(&world), 36);
    let mut most = 0;
    let mut seen = vec![(world.now.monotonic, 36)];
    for _ in 0..200 {
        world.pass(s(1) / 4).await;
        seen.push((world.now.monotonic, left(&world)));
        let before = seen.iter().filter(|(at, _)| *at + s(10) > world.now.monotonic);
        let before = before.map(|(_, left)| *left).max().unwrap();
        most = most.max(before - left(&world));
    }
    assert_eq!((left(&world), most), (24, 4), "and never more in an interval");
}

#[tokio::test]
async fn r03_the_last_that_serve_go_by_the_cap() {
    let mut world = world(3, 1).await;
    world.run("n0", "z", "solo", 20).await;
    world.lose("n0", s(5)).await;
    world.pass(s(2)).await;
    assert_eq!(world.dead(), ["n0"]);
    let solo = service("solo");
    assert_eq!((left(&world), world.registry.endpoints(&solo)), (2, 18));
    world.pass(s(10)).await;
    assert_eq!(world.registry.endpoints(&solo), 17, "of 18, one");
}

#[tokio::test]
async fn a_thousand_endpoints_of_a_dead_host_go_in_bounded_writes() {
    let mut world = world(3, 1000).await;
    world.lose("n0", s(5)).await;
    let done = world.pass(s(2)).await;
    assert_eq!(left(&world), 2000);
    assert!((17..25).contains(&done.len()), "{}", done.len());
}

#[tokio::test]
async fn what_was_computed_before_a_host_came_back_is_not_done() {
    let mut world = world(3, 2).await;
    world.lose("n1", s(5)).await;
    let at = world.registry.session(&node("n1")).0;
    let declare = super::super::removal::declare(&node("n1"), at, world.now, &world.registry);
    world.open("n1", "c2").await;
    assert!(!world.commit(declare.unwrap().transaction()).await);
    // It died, and came back while its endpoints were to go.
    let mut session = world.registry.session(&node("n1")).1.unwrap().clone();
    session.dead_since_ms = Some(milliseconds(world.now.wall));
    world.put(Key::Session(node("n1")), &session).await;
    let bury = super::super::removal::bury(&node("n1"), world.now, &world.registry).unwrap();
    world.open("n1", "c1").await;
    assert!(!world.commit(bury.transaction()).await);
    assert_eq!(left(&world), 6);
}

#[tokio::test]
async fn a_plan_tells_whom_it_touches() {
    let mut world = world(3, 2).await;
    world.run("n1", "z", "other", 1).await;
    world.lose("n1", s(5)).await;
    let at = world.registry.session(&node("n1")).0;
    let plan = super::super::removal::declare(&node("n1"), at, world.now, &world.registry).unwrap();
    let radius = &plan.radius["z"];
    assert_eq!((radius.hosts, radius.endpoints, radius.services), (1, 3, 2));
    assert_eq!(plan.inputs["host"], "n1");
}
