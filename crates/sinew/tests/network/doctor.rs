//! What `sinew doctor` sees of a machine that is not as it should be, and that it is right.

use std::{fs, net::TcpListener};

use serde_json::Value;

use crate::{
    life::{WEB, calls},
    world::{World, tool},
};

/// `verdict: found` of a check.
fn finding(world: &World, check: &str) -> String {
    let findings = world.try_run(&["doctor", "--output", "json"]).stdout;
    let findings: Value = serde_json::from_slice(&findings).unwrap();
    let finding = findings.as_array().unwrap().iter().find(|f| f["check"] == check).unwrap();
    format!("{}: {}", finding["verdict"].as_str().unwrap(), finding["found"].as_str().unwrap())
}

#[test]
fn an_interface_lo_that_is_down_is_told() {
    let world = World::new();
    assert_eq!(finding(&world, "loopback"), "ok: the interface lo is up");
    assert_eq!(finding(&world, "close"), "ok: connections to what drains can be closed");
    tool("ip", &["link", "set", "lo", "down"]);
    let down = "the interface lo of this network namespace is down";
    assert_eq!(finding(&world, "loopback"), format!("blocks: {down}"));
    world.start_agent();
    let log = fs::read_to_string(world.path("agent.log")).unwrap();
    assert!(log.contains(&format!("{down}: nobody reaches anything")), "{log}");
    let warns = || world.api("/v1/agent")["warnings"].to_string().contains(down);
    assert!(warns());

    tool("ip", &["link", "set", "lo", "up"]);
    assert!(!warns());
    world.file(WEB);
    world.run(&["up", "-d"]);
    assert_eq!(world.member(&calls(5)), "{'ok': 5}");
}

#[test]
fn who_has_an_address_of_the_network_is_told_without_an_agent() {
    let world = World::new();
    let well = "ok: nobody is at addresses of services and instances";
    assert_eq!(finding(&world, "addresses"), well);
    let stranger = TcpListener::bind("127.80.0.1:7000").unwrap();
    let found = finding(&world, "addresses");
    let own = format!("(process {}) is at 127.80.0.1:7000/tcp", std::process::id());
    assert!(found.starts_with("blocks: ") && found.contains(&own), "{found}");
    let agent = world.try_run(&["agent"]);
    assert!(!agent.status.success(), "it does block");
    assert!(String::from_utf8_lossy(&agent.stderr).contains(&own), "{agent:?}");
    drop(stranger);
    assert_eq!(finding(&world, "addresses"), well);
}

#[test]
fn a_host_without_ipv6_is_told_and_works() {
    let world = World::new();
    assert_eq!(finding(&world, "ipv6"), "ok: IPv6 is on");
    for interface in ["all", "default", "lo"] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "1").unwrap();
    }
    assert_eq!(finding(&world, "ipv6"), "warns: IPv6 is off in this network namespace");
    world.file(WEB);
    world.run(&["up", "-d"]);
    assert_eq!(world.member(&calls(5)), "{'ok': 5}");
    assert_eq!(finding(&world, "ipv6"), "warns: IPv6 is off in this network namespace");
}
