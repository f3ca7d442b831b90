//! What people do, and undo.

use sinew_model::{
    ZoneName,
    fleet::{EndpointStatus, Generation, Removal},
};

use super::{World, node, s, service};
use crate::{
    duty::{
        history::{self, KEPT, KEPT_BYTES},
        people, removal,
        rollback::{self, Rollback},
        zones,
    },
    records::{
        Key, StoredEndpoints,
        config::{Limits, Pausable},
    },
    store::{Op, Transaction},
};

fn zone(name: &str) -> ZoneName {
    name.parse().unwrap()
}

/// Two hosts in each of the zones a, b and c, each with two endpoints of `orders`.
async fn world() -> World {
    let mut world = World::new().await;
    for host in 0..6 {
        let name = format!("n{host}");
        world.open(&name, "c1").await;
        world.run(&name, ["a", "b", "c"][host / 2], "orders", 2).await;
    }
    world.pass(s(15)).await;
    world
}

fn share(world: &World, of: &str) -> u8 {
    world.registry.config().zones().get(&zone(of)).map_or(100, |(_, it)| it.percent)
}

async fn evacuate(world: &mut World, of: &str) {
    let plan = zones::evacuate(&zone(of), "power", false, world.now, &world.registry).unwrap();
    world.does(&plan).await;
}

#[tokio::test]
async fn r04_one_zone_at_a_time_is_taken_out() {
    let mut world = world().await;
    let plan = zones::evacuate(&zone("a"), "", false, world.now, &world.registry).unwrap();
    let radius = &plan.radius["a"];
    assert_eq!((plan.radius.len(), radius.hosts, radius.endpoints, radius.services), (1, 2, 4, 1));
    evacuate(&mut world, "a").await;
    assert_eq!(share(&world, "a"), 0);
    let refused = |of: &str, force| {
        let plan = zones::evacuate(&zone(of), "", force, world.now, &world.registry);
        plan.unwrap_err().to_string()
    };
    assert_eq!(
        refused("b", false),
        "zone a gets 0 % of its share: one zone at a time is taken out; bring it back with `sinew \
         return a`, or use --force"
    );
    assert_eq!(refused("a", true), "zone a is evacuated already: nothing to do");
    assert_eq!(
        refused("z", true),
        "no host of zone z has ever had a session; known zones: a, b, c"
    );
    zones::evacuate(&zone("b"), "", true, world.now, &world.registry).unwrap();
}

#[tokio::test]
async fn r04_what_others_cannot_carry_is_not_taken_out() {
    let mut world = world().await;
    world.run("n0", "a", "solo", 3).await;
    world.run("n2", "b", "solo", 2).await;
    let refused = zones::evacuate(&zone("a"), "", false, world.now, &world.registry);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "more than half of what is up of solo is in zone a: what is left may not carry it; start \
         more elsewhere, or use --force"
    );
    world.run("n2", "b", "solo", 3).await;
    zones::evacuate(&zone("a"), "", false, world.now, &world.registry).unwrap();
}

#[tokio::test]
async fn a_zone_comes_back_by_steps_while_it_is_well() {
    let mut world = world().await;
    evacuate(&mut world, "a").await;
    let early = zones::bring_back(&zone("b"), world.now, &world.registry).unwrap_err();
    assert_eq!(early.to_string(), "zone b has all of its share: nothing to do");
    let plan = zones::bring_back(&zone("a"), world.now, &world.registry).unwrap();
    world.does(&plan).await;
    let mut shares = vec![share(&world, "a")];
    for _ in 0..3 {
        world.pass(s(9)).await;
        assert_eq!(share(&world, "a"), *shares.last().unwrap(), "not before its time");
        world.pass(s(1)).await;
        shares.push(share(&world, "a"));
        // Another replica goes on with it.
        world.duty = crate::duty::Duty::new(world.now);
    }
    assert_eq!(shares, [10, 25, 50, 100]);
    assert!(world.registry.config().zones().is_empty());
    let rules: Vec<_> = world.history().await.iter().map(|it| it.action.words.clone()).collect();
    assert_eq!(
        rules,
        [
            "zone a is evacuated: new connections go elsewhere",
            "zone a comes back: it gets 10 % of its share",
            "zone a is well at 10 %: it gets 25 %",
            "zone a is well at 25 %: it gets 50 %",
            "zone a is well at 50 %: it gets 100 %",
        ]
    );
}

#[tokio::test]
async fn r06_a_zone_that_is_not_well_stops_on_its_way_back() {
    let sick = |world: &World, status| {
        let of = world.registry.of_node(&service("orders"), &node("n0"));
        let mut endpoints: StoredEndpoints = of.endpoints.unwrap().clone();
        endpoints.get_mut(&0).unwrap().status = status;
        endpoints
    };
    for (status, why) in [
        (Some(EndpointStatus::Unhealthy), "1 endpoints are unhealthy, 0 were"),
        (Some(EndpointStatus::Starting), "3 endpoints are up, 4 were"),
        (None, "host n1 has no session"),
    ] {
        let mut world = world().await;
        evacuate(&mut world, "a").await;
        let plan = zones::bring_back(&zone("a"), world.now, &world.registry).unwrap();
        world.does(&plan).await;
        world.pass(s(7)).await;
        match status {
            Some(status) => {
                let endpoints = sick(&world, status);
                world.put(Key::Endpoints(service("orders"), node("n0")), &endpoints).await;
            }
            None => world.lose("n1", s(0)).await,
        }
        let done = world.pass(s(4)).await;
        assert_eq!(done, [format!("zone a stops on its way back at 10 %: {why}")]);
        world.pass(s(60)).await;
        assert_eq!(share(&world, "a"), 10, "until somebody says so");
        // It goes on where it stopped.
        let plan = zones::bring_back(&zone("a"), world.now, &world.registry).unwrap();
        world.does(&plan).await;
        world.open("n1", "c1").await;
        world.pass(s(11)).await;
        assert_eq!(share(&world, "a"), 25, "{why}");
    }
}

#[tokio::test]
async fn r09_pauses_stay_until_they_are_ended() {
    let mut world = world().await;
    let pause = people::pause(Pausable::All, "me", "storm", world.now, &world.registry).unwrap();
    world.does(&pause).await;
    let again = people::pause(Pausable::All, "you", "", world.now, &world.registry).unwrap_err();
    assert_eq!(again.to_string(), "all is paused by me: nothing to do");
    let part = people::resume(Pausable::Removals, &world.registry).unwrap_err();
    assert_eq!(part.to_string(), "removals is not paused by itself, but all is: nothing to do");
    let resume = people::resume(Pausable::All, &world.registry).unwrap();
    world.does(&resume).await;
    assert!(!world.registry.config().is_paused(Pausable::Removals));
}

#[tokio::test]
async fn a_host_that_a_person_takes_out_goes_whole() {
    let mut world = world().await;
    world.run("n0", "a", "solo", 100).await;
    let plan = removal::withdraw(&node("n0"), world.now, &world.registry).unwrap();
    world.does(&plan).await;
    world.pass(s(1)).await;
    assert_eq!(world.registry.endpoints(&service("solo")), 0);
    assert!(
        world.registry.graves(&service("solo")).all(|it| it.stored.removal == Removal::Withdrawn)
    );
    let nobody = removal::withdraw(&node("n9"), world.now, &world.registry).unwrap_err();
    assert_eq!(nobody.to_string(), "host n9 has never had a session: see `sinew nodes`");
}

#[tokio::test]
async fn r15_the_history_tells_what_was_done_and_why() {
    let mut world = world().await;
    world.lose("n0", s(5)).await;
    world.pass(s(2)).await;
    let history = world.history().await;
    let [declared, removed] = &history[..] else { panic!("{history:?}") };
    assert!(declared.generation < removed.generation);
    assert_eq!(declared.action.inputs["host"], "n0");
    assert_eq!(declared.action.diff[0].key, "sinew/sessions/n0");
    let after = declared.action.diff[0].after.as_ref().unwrap();
    assert!(after["dead_since_ms"].is_u64());
    assert_eq!(removed.action.radius["a"].endpoints, 2);
    assert_eq!(
        removed.action.diff[0].before.as_ref().unwrap(),
        &serde_json::json!({ "instances": [0, 1] })
    );
    // What was computed from the same is not done twice.
    let plan = people::pause(Pausable::All, "me", "", world.now, &world.registry).unwrap();
    let other = people::pause(Pausable::Removals, "me", "", world.now, &world.registry).unwrap();
    world.does(&plan).await;
    let transaction = history::recorded(&other, "me", world.now, None);
    assert!(!world.commit(transaction).await);
}

#[tokio::test]
async fn r15_a_rollback_sets_back_what_was_set_and_says_what_it_does_not() {
    let mut world = world().await;
    let set = |world: &World, percent: u64| {
        let changes = [("removal_cap_percent".to_owned(), percent)].into();
        people::set_limits(&changes, &world.registry).unwrap()
    };
    let plan = set(&world, 20);
    world.does(&plan).await;
    let then = Generation(world.registry.revision().0);
    let plan = set(&world, 30);
    world.does(&plan).await;
    evacuate(&mut world, "a").await;
    let plan = zones::bring_back(&zone("a"), world.now, &world.registry).unwrap();
    world.does(&plan).await;
    let plan = people::pause(Pausable::Placement, "me", "", world.now, &world.registry).unwrap();
    world.does(&plan).await;
    world.lose("n0", s(5)).await;
    world.pass(s(3)).await;
    // Somebody changes it behind the history's back.
    world.delete(Key::Pause(Pausable::Placement)).await;

    let history = world.history().await;
    let undo = |world: &World| rollback::plan(then, &history, world.now, &world.registry).unwrap();
    let Rollback { plan, not_undone } = undo(&world);
    let plan = plan.unwrap();
    assert_eq!((plan.changes.len(), plan.radius["a"].hosts), (2, 1));
    let whys: Vec<_> = not_undone.iter().map(|it| it.why.as_str()).collect();
    assert_eq!(
        whys,
        [
            "it was changed since, and not by what is in the history",
            "a host comes back by itself, with its next session and report",
            "a host comes back by itself, with its next session and report",
        ]
    );
    world.does(&plan).await;
    assert_eq!(share(&world, "a"), 100);
    assert_eq!(world.registry.config().limits().removal_cap_percent, 20);
    assert_eq!(world.dead(), ["n0"]);
    // The rollback is undone as other actions are.
    let history = world.history().await;
    let before = Generation(history[history.len() - 2].generation.0);
    let back = rollback::plan(before, &history, world.now, &world.registry).unwrap();
    world.does(&back.plan.unwrap()).await;
    assert_eq!(world.registry.config().limits().removal_cap_percent, 30);
    assert_eq!(share(&world, "a"), 10);
    let future = rollback::plan(Generation(1 << 40), &[], world.now, &world.registry);
    assert!(future.unwrap_err().to_string().contains("has not been yet"));
}

#[tokio::test]
async fn limits_are_changed_within_their_bounds() {
    let mut world = world().await;
    let set = |world: &World, name: &str, value: u64| {
        people::set_limits(&[(name.to_owned(), value)].into(), &world.registry)
    };
    let told = |refused: Result<_, people::Refused>| refused.unwrap_err().to_string();
    assert!(told(set(&world, "nodes", 0)).starts_with("nodes is 0: is from 1 to 4096: "));
    assert_eq!(told(set(&world, "nodes", 4096)), "the limits are so: nothing to do");
    let plan = set(&world, "tombstone_life_ms", 60_000).unwrap();
    world.does(&plan).await;
    assert_eq!(
        told(set(&world, "removal_interval_ms", 60_001)),
        "removal_interval_ms is 60001, and tombstones are kept for tombstone_life_ms 60000: they \
         are kept for longer"
    );
    assert_eq!(
        world.registry.config().limits(),
        &Limits { tombstone_life_ms: 60_000, ..Limits::default() }
    );
}

#[tokio::test]
async fn the_history_is_bounded() {
    let mut world = world().await;
    let first = 1_000_000;
    for chunk in 0..102 {
        let put = |all: Transaction, id: u64| all.then(Op::put(Key::History(id).bytes(), "{}"));
        let ids = (first + chunk * 100)..(first + (chunk + 1) * 100);
        world.commit(ids.fold(Transaction::new(), put)).await;
    }
    world.pass(s(1)).await;
    let history = world.registry.config().history();
    let oldest = history.keys().next().copied();
    assert_eq!((history.len(), oldest), (KEPT, Some(first + 200)));
    // Large ones: fewer.
    for id in 0..70 {
        let value = vec![b' '; 512 << 10];
        world.commit(Transaction::put(Key::History(2_000_000 + id).bytes(), value)).await;
    }
    world.pass(s(1)).await;
    let config = world.registry.config();
    assert!(config.history_bytes() <= KEPT_BYTES, "{}", config.history_bytes());
    let kept: Vec<_> = config.history().keys().copied().collect();
    assert_eq!(kept, (2_000_006..2_000_070).collect::<Vec<_>>(), "the newest");
}
