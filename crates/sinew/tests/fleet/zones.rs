//! What people and the duty of control do with zones and hosts, as callers see it.

use crate::world::World;

/// What is paused and limited.
fn overview(world: &World) -> serde_json::Value {
    world.sinew(1, &["pause", "--output", "json"])
}

fn words(world: &World) -> Vec<String> {
    let history = world.sinew(1, &["history", "--output", "json"]);
    let entries = history.as_array().unwrap().iter();
    entries.map(|entry| entry["words"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_zone_is_evacuated_and_comes_back_and_a_dead_host_leaves() {
    let mut world = World::new("zones", 3);
    for (number, zone) in [(1, "c"), (2, "a"), (3, "b")] {
        world.start_agent(number, &["--zone", zone]);
    }
    world.serve(2, "web", 1);
    world.serve(3, "web", 1);
    let calls = |wanted: &[&str]| {
        world.wait(&format!("calls to {wanted:?}"), || {
            let mut said = world.calls(1, "web", 30);
            said.sort();
            said.dedup();
            said == wanted
        });
    };
    calls(&["h2", "h3"]);

    let would = world.sinew(1, &["evacuate", "a", "--dry-run", "--output", "json"]);
    assert_eq!(would["done"]["radius"]["a"]["endpoints"], 1, "{would}");
    calls(&["h2", "h3"]);
    world.sinew(1, &["evacuate", "a"]);
    calls(&["h3"]);
    let refused = world.try_sinew(1, &["evacuate", "b"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("one zone at a time"));
    world.sinew(1, &["limits", "set", "return_step_ms=1000"]);
    world.sinew(1, &["return", "a"]);
    world.wait("zone a", || overview(&world)["zones"].as_array().unwrap().is_empty());
    calls(&["h2", "h3"]);
    assert!(words(&world).contains(&"zone a is well at 50 %: it gets 100 %".to_owned()));

    let paused = world.sinew(1, &["pause", "all", "--output", "json"]);
    let before = paused["done"]["generation"].as_u64().unwrap() - 1;
    assert_eq!(overview(&world)["pauses"][0]["by"], "root");
    world.sinew(1, &["rollback", &before.to_string()]);
    assert_eq!(overview(&world)["pauses"], serde_json::json!([]));

    world.cut(2);
    world.wait("the death of h2", || words(&world).iter().any(|it| it.contains("dead host h2")));
    calls(&["h3"]);
    world.heal(2);
    calls(&["h2", "h3"]);
}
