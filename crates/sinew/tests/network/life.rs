//! A project's life, as its user sees it.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
};

use crate::{
    bpf,
    world::{World, eventually, kill},
};

pub(crate) const WEB: &str = r#"
name: trial
services:
  web:
    command: ["python3", "-u", "-m", "http.server", "8000"]
    port: 8000
    replicas: 3
  worker:
    command: ["sleep", "1000000"]
    depends_on: [web]
"#;

/// Calls the service by name `n` times, each on a connection of its own; prints what came of it.
pub(crate) fn calls(n: u32) -> String {
    format!(
        r#"
import socket, collections
c = collections.Counter()
for i in range({n}):
    try:
        s = socket.create_connection(("web", 8000), timeout=5)
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        c["ok" if s.recv(99).startswith(b"HTTP/1.0 200") else "bad"] += 1
        s.close()
    except Exception as e: c[repr(e)] += 1
print(dict(c))
"#
    )
}

#[test]
fn up_call_kill_scale_down_purge() {
    let world = World::new();
    let before = world.left();
    let file = world.file(WEB);
    let up = world.run(&["up", "-d", "-f", file.to_str().unwrap()]);
    assert!(up.contains("ready"), "{up}");
    assert_eq!(world.member(&calls(50)), "{'ok': 50}");

    let services = world.json(&["services"]);
    let worker = services.as_array().unwrap().iter().find(|s| s["name"] == "worker").unwrap();
    assert_eq!(worker["up"], 1, "without a port too");
    let web = services.as_array().unwrap().iter().find(|s| s["name"] == "web").unwrap();
    let endpoints = web["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 3);
    assert!(endpoints.iter().all(|e| e["state"] == "up"), "{endpoints:?}");
    let taken: u64 = endpoints.iter().map(|e| e["connections"].as_u64().unwrap()).sum();
    assert_eq!(taken, 50);

    kill(world.pid("web", 1), rustix::process::Signal::KILL).unwrap();
    assert_eq!(world.member(&calls(100)), "{'ok': 100}", "nobody noticed");
    eventually("web/1 is back", || {
        world.workloads("web").iter().all(|w| w["state"] == "up" && w["pid"].is_u64())
    });

    world.run(&["scale", "web=1"]);
    eventually("one is left", || world.workloads("web").len() == 1);
    assert_eq!(world.member(&calls(20)), "{'ok': 20}");
    let same = world.pid("worker", 0);
    world.run(&["up", "-d", "-f", file.to_str().unwrap()]);
    assert_eq!(world.workloads("web").len(), 3, "the file says three");
    assert_eq!(world.pid("worker", 0), same, "what did not change goes on");

    world.run(&["down"]);
    assert!(world.json(&["ps"]).as_array().unwrap().is_empty());
    let objects = world.kernel_objects();
    let kinds: BTreeSet<&str> = objects.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["link", "map", "prog"].into(), "{objects:?}");
    assert!(objects.iter().all(bpf::exists));
    world.run(&["down", "--purge", "--yes"]);
    assert_eq!(world.left(), before);
    // The kernel frees them after a grace period.
    eventually("every program, map and link is gone", || !objects.iter().any(bpf::exists));
}

#[test]
fn run_keeps_exit_code_environment_and_signals() {
    let world = World::new();
    world.file(WEB);
    world.run(&["up", "-d"]);
    let output = world
        .sinew(&[
            "run",
            "--service",
            "tool",
            "--port",
            "9000",
            "--",
            "sh",
            "-c",
            "echo $MINE; exit 7",
        ])
        .env("MINE", "my own")
        .output()
        .unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), b"my own\n".as_slice()));
    let output = world.try_run(&["exec", "--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(output.status.signal(), Some(15), "the program is the process that was started");
    assert_eq!(world.try_run(&["exec", "--", "/no/such"]).status.code(), Some(127));
}

#[test]
fn a_running_command_is_an_instance() {
    let world = World::new();
    world.file(WEB);
    world.run(&["up", "-d"]);
    let mut server = world
        .sinew(&[
            "run",
            "--service",
            "extra",
            "--port",
            "7000",
            "--",
            "python3",
            "-m",
            "http.server",
            "7000",
        ])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("it is called by its name", || {
        world.try_run(&["exec", "--", "curl", "-sf", "http://extra:7000/"]).status.success()
    });
    server.kill().unwrap();
    server.wait().unwrap();
    eventually("its name leads nowhere", || {
        !world.try_run(&["exec", "--", "curl", "-sf", "http://extra:7000/"]).status.success()
    });
}

#[test]
fn names_members_and_strangers() {
    let world = World::new();
    world.file(WEB);
    world.run(&["up", "-d"]);
    let answer = world.member(
        r#"
import socket
a = socket.gethostbyname("web"); b = socket.gethostbyname("web.sinew.internal")
print(a == b, a.startswith("127."))
try: socket.gethostbyname("nosuch.sinew.internal"); print("found")
except socket.gaierror as e: print(e.errno == socket.EAI_NONAME)
"#,
    );
    assert_eq!(answer, "True True\nTrue");
    let address = world.member("import socket; print(socket.gethostbyname('web'))");
    let stranger =
        Command::new("curl").args(["-sf", &format!("http://{address}:8000/")]).output().unwrap();
    assert!(!stranger.status.success(), "a process that is no member reaches no service");
}

#[test]
fn mistakes_are_told_with_place_and_remedy() {
    let world = World::new();
    world.file("services:\n  web:\n    command: x\n    replica: 3\n");
    let output = world.try_run(&["up", "-d"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text.contains("sinew.yaml:4:5") && text.contains("did you mean \"replicas\"?"),
        "{text}"
    );
    assert!(!world.path("state/state.json").exists(), "nothing was done");
}

#[test]
fn members_may_not_call_the_api_unless_they_are_let() {
    let world = World::new();
    world.file(WEB);
    world.run(&["up", "-d"]);
    let sinew = env!("CARGO_BIN_EXE_sinew");
    for nested in [&["ps"][..], &["exec", "--", "true"]] {
        let mut arguments = vec!["exec", "--", sinew];
        arguments.extend(nested);
        let refused = world.try_run(&arguments);
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success());
        assert!(text.contains("a member of Sinew's network may not call"), "{text}");
        assert!(text.contains("--members-call"), "{text}");
    }
    world.kill_agent(world.agent());
    world.start_agent_with(&["--members-call"]);
    world.run(&["exec", "--", sinew, "ps"]);
    world.run(&["exec", "--", sinew, "exec", "--", "true"]);
}

#[test]
fn the_addresses_of_the_network_are_for_it_alone() {
    let world = World::new();
    world.file(WEB);
    let stranger = "import socket; s = socket.create_server(('127.70.0.1', 5300))
print('listens', flush=True); import time; time.sleep(1000)";
    let mut stranger =
        Command::new("python3").args(["-c", stranger]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(stranger.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "listens\n");
    let refused = world.try_run(&["up", "-d"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    let who = format!("python3 (process {}) is at 127.70.0.1:5300/tcp", stranger.id());
    assert!(!refused.status.success() && text.contains(&who), "{text}");
    assert!(text.contains("have it listen elsewhere"), "{text}");
    stranger.kill().unwrap();
    stranger.wait().unwrap();

    // Users other than root cannot keep it from its start.
    let script = "import os, socket, time; os.setuid(65534)
s = socket.create_server(('127.70.0.1', 5300)); print('listens', flush=True); time.sleep(1000)";
    let mut user =
        Command::new("python3").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(user.stdout.take().unwrap()).read_line(&mut line).unwrap();
    world.run(&["up", "-d"]);
    let told = String::from_utf8_lossy(&world.try_run(&["doctor"]).stdout).into_owned();
    assert!(told.contains("is at 127.70.0.1:5300/tcp"), "{told}");
    user.kill().unwrap();
    user.wait().unwrap();

    // Another agent would give the same addresses to others; this one may come back.
    let second = world
        .sinew(&["agent"])
        .env("SINEW_RUN", world.path("second"))
        .env("SINEW_STATE", world.path("second-state"))
        .env("SINEW_PINS", world.path("second-pins"))
        .env("SINEW_CGROUP", world.path("second-cgroup"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success(), "{text}");
    assert!(text.contains("a second agent needs a network namespace of its own"), "{text}");
    world.kill_agent(world.agent());
    world.start_agent();
}
