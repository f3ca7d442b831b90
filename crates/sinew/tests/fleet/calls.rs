//! Programs of one host call those of another by name.

use crate::world::World;

fn hears(world: &World, number: u8) -> bool {
    world.status(number)["session"].is_object()
}

#[test]
fn a_service_of_another_host_is_called_by_name_and_r1_goes_on_without_control() {
    let mut world = World::new("calls", 3);
    for number in [1, 2] {
        world.start_agent(number, &["--zone", "a"]);
    }
    for number in [1, 2] {
        world.wait("a session", || hears(&world, number));
    }
    world.serve(1, "web", 2);
    world.wait("the name", || world.status(2)["names"] == 1);
    assert_eq!(world.calls(2, "web", 20), ["h1"; 20]);
    assert_eq!(world.calls(1, "web", 5), ["h1"; 5]);
    let known = world.sinew(2, &["services", "web", "--output", "json"]);
    assert_eq!(known["endpoints"].as_array().unwrap().len(), 2, "{known}");
    assert_eq!(known["endpoints"][0]["node"], "h1", "{known}");

    // The agent of the callee goes and comes back under calls; nobody is told otherwise.
    world.kill_agent(1);
    assert_eq!(world.calls(2, "web", 20), ["h1"; 20]);
    world.start_agent(1, &[]);
    for _ in 0..20 {
        assert_eq!(world.calls(2, "web", 10), ["h1"; 10]);
    }
    world.wait("a session of the callee", || hears(&world, 1));
    assert_eq!(world.calls(2, "web", 20), ["h1"; 20]);

    world.kill_control();
    assert_eq!(world.calls(2, "web", 20), ["h1"; 20]);
    world.kill_agent(2);
    world.start_agent(2, &[]);
    assert_eq!(world.calls(2, "web", 20), ["h1"; 20]);
    assert!(world.status(2)["session"].is_null());
    // One that was killed before it wrote anything further begins from the same.
    world.kill_agent(2);
    world.start_agent(2, &[]);
    assert_eq!(world.calls(2, "web", 20), ["h1"; 20]);

    world.start_control();
    for number in [1, 2] {
        world.wait("a session again", || hears(&world, number));
    }
    world.start_agent(3, &["--zone", "b"]);
    world.wait("the third host's session", || hears(&world, 3));
    world.wait("the name on the third host", || world.status(3)["names"] == 1);
    assert_eq!(world.calls(3, "web", 10), ["h1"; 10]);
    // What runs in the caller's own zone comes first; elsewhere the nearest that there is.
    world.serve(3, "web", 1);
    world.wait("the local one", || world.calls(3, "web", 4).iter().all(|said| said == "h3"));
    assert_eq!(world.calls(2, "web", 10), ["h1"; 10]);
}

#[test]
fn an_instance_that_ends_while_its_agent_is_away_is_gone_for_the_others() {
    let mut world = World::new("ended", 2);
    for number in [1, 2] {
        world.start_agent(number, &["--zone", "a"]);
    }
    world.serve(1, "web", 2);
    world.wait("both", || {
        world.calls(2, "web", 1);
        endpoints(&world) == 2
    });
    let pid = world.sinew(1, &["ps", "--output", "json"])[1]["pid"].as_i64().unwrap();
    world.kill_agent(1);
    let scaled = world.file(1, "web.yaml");
    let text = std::fs::read_to_string(&scaled).unwrap().replace("replicas: 2", "replicas: 1");
    std::fs::write(&scaled, text).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    world.start_agent(1, &[]);
    world.sinew(1, &["scale", "web=1"]);
    world.wait("one of them to go", || endpoints(&world) == 1);
    assert_eq!(world.calls(2, "web", 10), ["h1"; 10]);
}

fn endpoints(world: &World) -> usize {
    let known = world.sinew(2, &["services", "web", "--output", "json"]);
    known["endpoints"].as_array().map_or(0, Vec::len)
}

#[test]
fn connections_with_a_dead_host_are_closed_and_calls_go_elsewhere() {
    let mut world = World::new("dead", 4);
    for number in [1, 2, 3, 4] {
        world.start_agent(number, &["--zone", "a"]);
    }
    world.serve(3, "web", 1);
    world.wait("the service", || world.calls(2, "web", 1) == ["h3"]);
    let held = world.hold(2, "web");
    world.cut(3);
    assert_eq!(held.end(), "ConnectionAbortedError");
    world.wait("the endpoint to go", || endpoints(&world) == 0);
    world.serve(4, "web", 1);
    world.wait("calls elsewhere", || world.calls(2, "web", 3) == ["h4"; 3]);
    world.heal(3);
    world.wait("the host to be back", || endpoints(&world) == 2);
}

#[test]
fn a_host_with_addresses_of_the_instance_network_runs_what_is_its_own_and_says_why_no_more() {
    let mut world = World::new("overlap", 1);
    world.host(1).ip("address add 10.111.0.7/24 dev eth0").unwrap();
    world.start_agent(1, &["--zone", "a"]);
    world.wait("a session", || hears(&world, 1));
    world.serve(1, "web", 1);
    assert_eq!(world.calls(1, "web", 5), ["h1"; 5]);
    let told = || world.sinew(1, &["status", "--output", "json"])["warnings"].to_string();
    assert!(told().contains("overlaps the address 10.111.0.7"), "{}", told());
    world.host(1).ip("address del 10.111.0.7/24 dev eth0").unwrap();
    // Looked at anew with the next change.
    world.sinew(1, &["scale", "web=2"]);
    world.wait("no word of it", || !told().contains("overlaps"));
}
