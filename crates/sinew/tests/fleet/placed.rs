//! Services that run wherever there is room.

use std::fs;

use serde_json::Value;

use crate::world::World;

const FILE: &str = "\
name: shop
services:
  web:
    command: python3 -m http.server 8080
    port: 8080
    replicas: 3
    placement: {labels: {disk: ssd}}
";

/// What each host runs of the service, as they say themselves.
fn runs(world: &World, hosts: &[u8]) -> Vec<usize> {
    let up = |host: &u8| {
        let listed = world.sinew(*host, &["ps", "--output", "json"]);
        let of = |it: &&Value| it["service"] == "web" && it["state"] == "up";
        listed.as_array().map_or(0, |all| all.iter().filter(of).count())
    };
    hosts.iter().map(up).collect()
}

#[test]
fn replicas_are_spread_over_hosts_and_a_dead_hosts_run_elsewhere() {
    let mut world = World::new("placed", 4);
    for (number, more) in [
        (1, vec!["--zone", "a", "--label", "disk=ssd", "--placement"]),
        (2, vec!["--zone", "b", "--label", "disk=ssd", "--placement"]),
        (3, vec!["--zone", "c", "--label", "disk=ssd", "--placement"]),
        // It runs only what is its own.
        (4, vec!["--zone", "d", "--label", "disk=ssd"]),
    ] {
        world.start_agent(number, &more);
    }
    let file = world.file(1, "shop.yaml");
    fs::write(&file, FILE).unwrap();
    let file = file.to_string_lossy().into_owned();
    world.wait("all hosts", || {
        let nodes = world.sinew(1, &["nodes", "--output", "json"]);
        let told = |node: &&Value| node["told"].is_object() && node["session"].is_object();
        nodes["nodes"]
            .as_array()
            .or(nodes.as_array())
            .is_some_and(|all| all.iter().filter(told).count() == 4)
    });
    let shown = world.sinew(1, &["place", "-f", &file, "--dry-run", "--output", "json"]);
    assert_eq!(shown["done"]["radius"].as_object().map(serde_json::Map::len), Some(3), "{shown}");
    assert!(world.sinew(1, &["placement", "--output", "json"]).as_array().unwrap().is_empty());
    world.sinew(1, &["place", "-f", &file]);
    world.wait("a replica on each", || runs(&world, &[1, 2, 3, 4]) == [1, 1, 1, 0]);
    // Called from where nothing of it runs.
    let called = |world: &World| {
        let call = ["exec", "--", "curl", "-sf", "-o", "/dev/null", "http://web:8080/"];
        world.try_sinew(4, &call).status.success()
    };
    world.wait("the fourth host to call it", || called(&world));

    world.sinew(1, &["limits", "set", "reschedule_ms=0"]);
    world.crash(3);
    world.wait("three on two hosts", || runs(&world, &[1, 2]).iter().sum::<usize>() == 3);
    let placed = world.sinew(1, &["placement", "--output", "json"]);
    assert!(placed[0]["hosts"].get("h3").is_none(), "{placed}");
    assert!(called(&world));

    world.sinew(1, &["unplace", "shop"]);
    world.wait("none", || runs(&world, &[1, 2]) == [0, 0]);
    let history = world.sinew(1, &["history", "--output", "json"]).to_string();
    for rule in ["\"place\"", "\"spread\"", "\"unplace\"", "\"host-dead\""] {
        assert!(history.contains(rule), "{rule} in {history}");
    }
}
