//! A host that goes, and goes on.

use std::fs;

use serde_json::Value;

use crate::world::World;

fn joined(name: &str) -> World {
    let mut world = World::new(name, 3);
    for (number, more) in [(1, None), (2, Some("--placement")), (3, None)] {
        let options: Vec<&str> = ["--zone", "a"].into_iter().chain(more).collect();
        world.start_agent(number, &options);
    }
    for number in [1, 2, 3] {
        world.wait("a session", || world.status(number)["session"].is_object());
    }
    world.serve(2, "web", 2);
    world.serve(3, "web", 1);
    world.wait("both hosts", || {
        let mut said = world.calls(1, "web", 20);
        said.sort();
        said.dedup();
        said == ["h2", "h3"]
    });
    world
}

/// What of the network is on the host's disk, and in its kernel.
fn traces(world: &World, number: u8) -> Vec<String> {
    let files = ["identity.json", "identity.pending", "mirror.json", "around.json"];
    let there = |name: &&&str| world.file(number, "state").join(name).exists();
    let mut traces: Vec<String> = files.iter().filter(there).map(ToString::to_string).collect();
    for family in ["-4", "-6"] {
        let mut ip = world.host(number).command("ip").unwrap();
        let routes = ip.args([family, "route", "show", "table", "all"]).output().unwrap();
        let routes = String::from_utf8(routes.stdout).unwrap();
        let of_fleet = |line: &&str| line.contains("10.111.") || line.contains(" via ");
        traces.extend(routes.lines().filter(of_fleet).map(str::to_owned));
    }
    traces
}

fn endpoints(world: &World, number: u8) -> usize {
    let known = world.sinew(number, &["services", "web", "--output", "json"]);
    known["endpoints"].as_array().map_or(0, Vec::len)
}

/// Whether host 1 knows that what host 2 runs takes no calls any more.
fn drains(world: &World) -> bool {
    let known = world.sinew(1, &["services", "web", "--output", "json"]);
    let endpoints = known["endpoints"].as_array().unwrap();
    endpoints.iter().any(|it| it["node"] == "h2" && it["state"] == "draining")
}

#[test]
fn a_host_leaves_in_good_order_and_what_it_runs_goes_on() {
    let mut world = joined("leave");
    assert!(!traces(&world, 2).is_empty(), "as long as it is in");
    let file = world.file(1, "batch.yaml");
    fs::write(&file, "name: batch\nservices:\n  job:\n    command: sleep 1000\n").unwrap();
    world.sinew(1, &["place", "-f", file.to_str().unwrap()]);
    let runs = |world: &World| {
        let listed = world.sinew(2, &["ps", "--output", "json"]);
        let is_it = |it: &Value| it["service"] == "job" && it["state"] == "up";
        listed.as_array().is_some_and(|all| all.iter().any(is_it))
    };
    world.wait("what is placed", || runs(&world));
    let refused = world.try_sinew(2, &["leave"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes"), "{refused:?}");
    // Of two that have it leave at once, one does.
    let left = std::thread::scope(|scope| {
        let first =
            scope.spawn(|| world.sinew(2, &["leave", "--grace", "3", "--yes", "--output", "json"]));
        world.wait("the first to begin", || drains(&world));
        let second = world.try_sinew(2, &["leave", "--grace", "0", "--yes"]);
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(said.contains("leaving its network already"), "{second:?}");
        first.join().unwrap()
    });
    assert_eq!(left, serde_json::json!({"node": "h2", "told": true, "placed": ["batch"]}));
    // Nobody waits for its death: it has said that nothing is there.
    world.wait("the endpoints to go", || endpoints(&world, 1) == 1);
    assert_eq!(world.calls(1, "web", 10), ["h3"; 10]);
    assert_eq!(world.calls(2, "web", 10), ["h2"; 10]);
    assert_eq!(world.status(2), Value::Null);
    assert_eq!(traces(&world, 2), [""; 0]);
    let again = world.try_sinew(2, &["leave", "--yes"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("in no network"), "{again:?}");

    // The token of its unit file does not take it back.
    world.kill_agent(2);
    let token = world.token().to_owned();
    let control = world.host(1).address().to_string();
    world.start_agent(2, &["--join", &control, "--token", &token]);
    assert_eq!(world.status(2), Value::Null);
    assert_eq!(world.calls(2, "web", 5), ["h2"; 5]);
    assert!(runs(&world), "what was placed goes on as its own");
    world.sinew(2, &["down", "batch", "--yes"]);
    assert!(!runs(&world));
    let log = fs::read_to_string(world.file(2, "agent.log")).unwrap();
    assert!(log.contains("has left the network that it was in as h2"), "{log}");
    assert_eq!(endpoints(&world, 1), 1);
}

#[test]
fn a_host_leaves_while_no_control_is_there() {
    let mut world = joined("leave-r1");
    world.kill_control();
    world.wait("no session", || world.status(2)["session"].is_null());
    let left = world.try_sinew(2, &["leave", "--yes"]);
    let said = String::from_utf8_lossy(&left.stdout).into_owned();
    assert!(left.status.success(), "{left:?}");
    for words in ["h2 has left", "control could not be told", "sinew nodes forget h2"] {
        assert!(said.contains(words), "{words} in {said}");
    }
    assert_eq!(world.calls(2, "web", 10), ["h2"; 10]);
    assert_eq!(traces(&world, 2), [""; 0]);
    world.start_control();
    world.wait("its death", || endpoints(&world, 1) == 1);
    assert_eq!(world.calls(1, "web", 10), ["h3"; 10]);
}
