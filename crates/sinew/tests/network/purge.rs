//! A purge leaves nothing, whatever was in use: looked for in the whole system.

use std::{collections::BTreeSet, fs, net::TcpStream};

use crate::{
    adopted::Outside,
    bpf,
    life::calls,
    world::{World, eventually, eventually_or},
};

const PROJECT: &str = r#"
name: trial
services:
  web:
    command: ["python3", "-u", "-m", "http.server", "8000"]
    port: http:8000
    replicas: 2
    publish: ["[::]:18000:http"]
    limits: {memory: 256MiB, pids: 64, cpu: 1}
    health: {tcp: http}
"#;

/// Numbers of the maps of this world.
fn maps(world: &World) -> BTreeSet<u32> {
    let pinned = world.kernel_objects().into_iter();
    pinned.filter(|(kind, _)| kind == "map").map(|(_, number)| number).collect()
}

#[test]
fn a_purge_leaves_nothing_of_all_that_was_in_use() {
    let world = World::new();
    let mut outside = Outside::new(&world);
    outside.redis("moved", 6379);
    outside.redis("hooked", 6400);
    let host = outside.place("host");
    // The output of agents is the test's own.
    fs::write(world.path("agent.log"), "").unwrap();
    world.file(PROJECT);
    let before = world.traces();

    let reach = host.to_str().unwrap();
    world.start_agent_with(&["--reach", reach]);
    world.run(&["up", "-d"]);
    let adopt = |what: &str, name: &str, port: &str| {
        world.run(&["adopt", what, "--service", name, "--port", port]);
    };
    let moved = fs::read_to_string(outside.place("moved").join("cgroup.procs")).unwrap();
    adopt(moved.trim(), "cache", "6379");
    adopt(outside.place("hooked").to_str().unwrap(), "store", "6400");
    assert_eq!(world.member(&calls(20)), "{'ok': 20}");
    eventually("the published port answers", || TcpStream::connect("127.0.0.1:18000").is_ok());
    let uses = |link: &str| world.pins().join("links").join(link).exists();
    assert!(uses("published") && uses("reach") && uses("hooked") && uses("watch"));
    // One that was killed and one that found what it left.
    world.kill_agent(world.agent());
    world.start_agent_with(&["--reach", reach]);
    assert_eq!(world.member(&calls(20)), "{'ok': 20}");

    let maps = maps(&world);
    let there = bpf::related(&maps);
    let pinned = world.kernel_objects();
    // Some programs use no map.
    assert!(pinned.difference(&there).all(|(kind, _)| kind == "prog"), "{pinned:?}");
    let there = &there | &pinned;
    let kinds: BTreeSet<&str> = there.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["link", "map", "prog"].into());
    assert!(world.traces().len() > before.len() + 10, "it is in use: {:?}", world.traces());

    let purged = world.try_run(&["down", "--purge", "--yes"]);
    let log = fs::read_to_string(world.path("agent.log")).unwrap();
    assert!(purged.status.success(), "{purged:?}\n{log}");
    let new: Vec<String> = world.traces().difference(&before).cloned().collect();
    assert_eq!(new, [""; 0], "{log}");
    assert_eq!(world.traces(), before);
    // The kernel frees them after a grace period.
    eventually_or(
        "nothing is left in the kernel",
        || format!("{:?}", bpf::related(&maps)),
        || bpf::related(&maps).is_empty() && !there.iter().any(bpf::exists),
    );
    for program in ["moved", "hooked"] {
        let procs = outside.place(program).join("cgroup.procs");
        assert!(!fs::read_to_string(procs).unwrap().is_empty(), "{program} goes on where it was");
    }
    assert!(host.exists(), "it was the user's");
}
