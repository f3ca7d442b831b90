//! Programs of the host call services by name, when the agent is told whose; no others do, and
//! nothing of it touches names that others answer for.

use std::{fs, os::unix::process::CommandExt as _, process::Command};

use serde_json::Value;

use crate::{
    life::WEB,
    names::{NameServer, resolver},
    world::{World, eventually, kill},
};

/// Runs a program below the cgroup of the world, but in none of Sinew's; says what it printed.
fn outside(world: &World, program: &str, arguments: &[&str]) -> String {
    let place = world.cgroup().join("host");
    fs::create_dir_all(&place).unwrap();
    let procs = place.join("cgroup.procs");
    let mut command = Command::new(program);
    command.args(arguments);
    // SAFETY: writes a file between fork and exec; the path was made before.
    unsafe { command.pre_exec(move || fs::write(&procs, "0")) };
    let output = command.output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text.trim().to_owned()
}

fn curl(world: &World) -> String {
    let url = "http://web.sinew.internal:8000/";
    outside(world, "curl", &["-s", "-o", "/dev/null", "-w", "%{http_code}", url])
}

/// Asks for names; an address each, or what is wrong.
fn look_up(world: &World, names: &[&str]) -> String {
    let script = "import socket, sys
for name in sys.argv[1:]:
    try: print(socket.gethostbyname(name), end=' ')
    except OSError as e: print('unknown', end=' ')";
    let mut arguments = vec!["-c", script];
    arguments.extend(names);
    outside(world, "python3", &arguments)
}

/// `(connections to web, from whom)`, by the agent.
fn calls(world: &World, source: &str) -> u64 {
    let edges = world.api("/v1/edges");
    let edges: Vec<&Value> = edges.as_array().unwrap().iter().collect();
    let to_web = edges.iter().filter(|e| e["destination"] == "web" && e["source"] == source);
    to_web.map(|edge| edge["connects"].as_u64().unwrap()).sum()
}

fn doctor(world: &World, check: &str) -> Vec<(String, String)> {
    let findings = world.try_run(&["doctor", "--output", "json"]).stdout;
    let findings: Value = serde_json::from_slice(&findings).unwrap();
    let findings = findings.as_array().unwrap().iter().filter(|f| f["check"] == check);
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    findings.map(|f| (text(f, "verdict"), text(f, "found"))).collect()
}

#[test]
fn programs_of_the_host_call_services_by_name() {
    let world = World::new();
    let _upstream = NameServer::start();
    // Everything of this world lies below: members, supervisors, the resolver.
    let reach = world.cgroup().to_str().unwrap().to_owned();
    world.start_agent_with(&["--reach", &reach]);
    world.file(WEB);
    world.run(&["up", "-d"]);
    assert_eq!(curl(&world), "200");
    assert_eq!(calls(&world, "exec"), 1, "counted once, as one of no service");
    // What the resolver passes on does not come back to it.
    assert_eq!(look_up(&world, &["example.org", "example.com"]), "192.0.2.7 192.0.2.7");
    // A member has both programs.
    let member = world.member("import socket; print(socket.gethostbyname('example.org'))");
    assert_eq!(member, "192.0.2.7");
    world.run(&["exec", "--", "curl", "-sS", "http://web:8000/"]);
    assert_eq!(calls(&world, "exec"), 2, "a member's call is counted once");
    assert_eq!(world.api("/v1/agent")["reach"][0]["cgroup"], *reach);
    assert_eq!(world.api("/v1/agent")["reach"][0]["missing"].as_array().unwrap().len(), 0);
    let well = format!("what runs in {reach} may call services");
    assert_eq!(doctor(&world, "reach"), [("ok".to_owned(), well)]);

    // It stays without an agent, and with another resolver.
    world.kill_agent(world.agent());
    assert_eq!(curl(&world), "200");
    world.start_agent_with(&["--reach", &reach]);
    let first = resolver(&world);
    kill(first, rustix::process::Signal::KILL).unwrap();
    eventually("there is another resolver", || ![0, first].contains(&resolver(&world)));
    eventually("it answers", || curl(&world) == "200");
    assert_eq!(look_up(&world, &["example.org"]), "192.0.2.7");

    // A link that somebody removed is told, and is there again after a restart.
    let links = world.pins().join("links/reach");
    let link = fs::read_dir(links).unwrap().next().unwrap().unwrap().path().join("sock_release");
    fs::remove_file(link).unwrap();
    let told = format!("{reach} lacks programs of Sinew's: sock_release");
    assert_eq!(doctor(&world, "reach"), [("warns".to_owned(), told)]);
    world.kill_agent(world.agent());
    world.start_agent_with(&["--reach", &reach]);
    assert_eq!(doctor(&world, "reach")[0].0, "ok");

    // It goes with the option.
    world.kill_agent(world.agent());
    world.start_agent();
    assert_eq!(look_up(&world, &["web.sinew.internal"]), "192.0.2.7", "asked of the host's own");
    assert_eq!(doctor(&world, "reach"), []);
    assert!(world.member("import socket; print(socket.gethostbyname('web'))").starts_with("127."));

    world.kill_agent(world.agent());
    world.start_agent_with(&["--reach", &reach]);
    assert_eq!(curl(&world), "200");
    world.run(&["down", "--purge", "--yes"]);
    assert!(!world.pins().exists(), "a purge leaves none");
}

#[test]
fn what_is_no_cgroup_is_refused() {
    let world = World::new();
    let refused = world.try_run(&["agent", "--reach", "/tmp"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("/tmp is not in the cgroup2"), "{text}");
}
