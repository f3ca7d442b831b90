//! What people do on a host while everything else is down.

use serde_json::Value;

use crate::world::World;

#[test]
fn r14_each_host_is_looked_at_and_changed_while_no_control_is_there() {
    let mut world = World::new("alone", 2);
    for number in [1, 2] {
        world.start_agent(number, &["--zone", if number == 1 { "a" } else { "b" }]);
        world.serve(number, "web", 2);
    }
    let all = |number: u8| {
        let known = world.sinew(number, &["services", "web", "--output", "json"]);
        known["endpoints"].as_array().map_or(0, Vec::len)
    };
    for number in [1, 2] {
        world.wait("the endpoints of both", || {
            world.calls(number, "web", 1);
            all(number) == 4
        });
    }
    world.kill_control();
    for (number, other, zone) in [(1, "h2", "b"), (2, "h1", "a")] {
        world.wait("the loss to be seen", || world.status(number)["session"].is_null());
        let fleet = world.status(number);
        assert!(fleet["lost"].as_str().unwrap().contains("no session with control"), "{fleet}");
        assert_eq!(fleet["hosts"][other], zone, "{fleet}");
        let told = world.try_sinew(number, &["status"]);
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(told.contains("what is known stays in use"), "{told}");

        let explained = world.sinew(number, &["explain", "exec", "web", "--output", "json"]);
        let endpoints = explained["endpoints"].as_array().unwrap();
        let there = |it: &&Value| it["node"] == other && it["zone"] == zone;
        assert_eq!(endpoints.iter().filter(there).count(), 2, "{explained}");
        assert_eq!(endpoints.iter().filter(|it| it["node"].is_null()).count(), 2, "{explained}");

        world.sinew(number, &["drain", "web/0"]);
        let explained = world.sinew(number, &["explain", "exec", "web", "--output", "json"]);
        let state = |name: &str| {
            let endpoints = explained["endpoints"].as_array().unwrap();
            endpoints.iter().find(|it| it["workload"] == name).map(|it| it["state"].clone())
        };
        assert_eq!(state("web/1"), Some("up".into()), "{explained}");

        world.sinew(number, &["down", "web", "--yes"]);
        let listed = world.sinew(number, &["ps", "--output", "json"]);
        assert_eq!(listed, serde_json::json!([]), "{listed}");
        // What runs elsewhere is called still, by what was known last.
        assert_eq!(world.calls(number, "web", 3), [other; 3]);
        world.serve(number, "web", 2);
        let own = format!("h{number}");
        world.wait("what runs here", || world.calls(number, "web", 3) == [own.as_str(); 3]);
    }
}
