//! What the operator's handbook says of backups: two files bring it all back.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
};

use serde_json::Value;

use crate::{
    life::{WEB, calls},
    world::{World, eventually},
};

/// What callers know of services: it has to be the same again.
fn known(world: &World) -> Vec<Value> {
    let services = world.json(&["services"]);
    let known = services.as_array().unwrap().iter();
    known
        .map(|s| serde_json::json!([s["name"], s["address4"], s["address6"], s["ports"]]))
        .collect()
}

/// A name whose first choice of an address is that of `web`, and that comes behind it in any order of
/// names: who asks first has it.
const RIVAL: &str = "z1526105";

#[test]
fn a_restored_state_brings_everything_back() {
    let world = World::new();
    let rival = format!("  {RIVAL}:\n    command: sleep 1000000\n");
    world.file(&format!("name: trial\nservices:\n{rival}"));
    world.run(&["up", "-d"]);
    world.file(&format!("{WEB}{rival}"));
    world.run(&["up", "-d"]);
    world.run(&["scale", "web=2"]);
    let before = known(&world);
    let address = |name: &str| -> std::net::Ipv4Addr {
        let service = before.iter().find(|service| service[0] == name).unwrap();
        service[1].as_str().unwrap().parse().unwrap()
    };
    assert_eq!(address("web").to_bits(), address(RIVAL).to_bits() + 1, "they are rivals");
    // While it runs.
    fs::copy(world.path("state/state.json"), world.path("backup.json")).unwrap();
    world.run(&["down", "--purge", "--yes"]);
    assert!(!world.path("state").exists());

    fs::DirBuilder::new().mode(0o700).create(world.path("state")).unwrap();
    fs::copy(world.path("backup.json"), world.path("state/state.json")).unwrap();
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(world.path("state/state.json"), private).unwrap();
    world.start_agent();
    eventually("what was up is up", || {
        let web = world.workloads("web");
        web.len() == 2
            && web.iter().all(|w| w["state"] == "up")
            && !world.workloads("worker").is_empty()
    });
    assert_eq!(known(&world), before);
    assert_eq!(world.member(&calls(10)), "{'ok': 10}");
    // The file is applied as the change that it is: none, but for the scale.
    world.run(&["up", "-d"]);
    assert_eq!(world.workloads("web").len(), 3);
}
