//! Sinew under systemd, installed as the documentation says.

use serde_json::Value;

use crate::{machine::Machine, world::eventually};

const FILE: &str = "
name: site
services:
  web:
    command: python3 -u -m http.server 8080
    port: http:8080
    replicas: 2
    user: nobody
";

/// Instances of services: a session of `sinew exec` is shown for a moment after its end.
fn workloads(machine: &Machine) -> Vec<Value> {
    let Some(output) = machine.try_run(&["sinew", "ps", "--output", "json"]) else {
        return Vec::new();
    };
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
    all.into_iter().filter(|workload| !workload["service"].is_null()).collect()
}

fn processes(machine: &Machine) -> Vec<i64> {
    workloads(machine).iter().filter_map(|workload| workload["pid"].as_i64()).collect()
}

fn both_are_up(machine: &Machine) -> bool {
    let workloads = workloads(machine);
    workloads.len() == 2 && workloads.iter().all(|workload| workload["state"] == "up")
}

fn calls_are_answered(machine: &Machine) {
    let curl = ["sinew", "exec", "--", "curl", "-sf", "-o", "/dev/null", "http://web:8080/"];
    for _ in 0..8 {
        machine.run(&curl);
    }
}

fn agent(machine: &Machine) -> String {
    machine.run(&["systemctl", "show", "--property", "MainPID", "--value", "sinew"])
}

#[test]
fn a_service_of_systemd() {
    let mut machine = Machine::new();
    machine.boot();
    std::fs::write(machine.path("lib/sinew.yaml"), FILE).unwrap();
    machine.run(&["sinew", "up", "-d", "-f", "/var/lib/sinew.yaml"]);
    calls_are_answered(&machine);
    let first = processes(&machine);

    machine.run(&["systemctl", "restart", "sinew"]);
    eventually("both are up after a restart", || both_are_up(&machine));
    assert_eq!(processes(&machine), first, "workloads outlive a restart of the unit");

    let killed = agent(&machine);
    machine.run(&["kill", "-9", killed.trim()]);
    eventually("another agent runs", || !["0\n", &killed].contains(&agent(&machine).as_str()));
    eventually("both are up after a kill", || both_are_up(&machine));
    assert_eq!(processes(&machine), first, "workloads outlive a killed agent");

    machine.run(&["systemctl", "stop", "sinew"]);
    for process in &first {
        machine.run(&["kill", "-0", &process.to_string()]);
    }
    machine.run(&["systemctl", "start", "sinew"]);
    calls_are_answered(&machine);

    machine.cut_power();
    machine.boot();
    eventually("what was up returns after a boot", || both_are_up(&machine));
    calls_are_answered(&machine);

    machine.run(&["sinew", "down", "--purge", "--yes"]);
    let state = machine.try_run(&["systemctl", "is-active", "sinew"]).unwrap();
    assert_eq!(state.stdout, b"inactive\n", "an agent that was told to end is not started again");
    for left in ["/run/sinew", "/var/lib/sinew", "/sys/fs/bpf/sinew", "/sys/fs/cgroup/sinew"] {
        machine.run(&["test", "!", "-e", left]);
    }
}

const CACHE: &str = "
[Service]
ExecStart=/usr/bin/redis-server --bind 127.0.0.1 --port 6399 --save '' --dir /
";

#[test]
fn a_unit_is_adopted_through_its_restarts() {
    let mut machine = Machine::new();
    std::fs::write(machine.path("systemd/system/cache.service"), CACHE).unwrap();
    machine.boot();
    machine.run(&["systemctl", "start", "cache"]);
    let ping = ["sinew", "exec", "--", "redis-cli", "-h", "cache", "-p", "6399", "ping"];
    let answers = || {
        eventually("it answers by name", || {
            machine.try_run(&ping).is_some_and(|output| output.stdout == b"PONG\n")
        });
    };
    let is_up = || workloads(&machine).iter().any(|workload| workload["state"] == "up");

    machine.run(&["sinew", "adopt", "cache", "--service", "cache", "--port", "6399"]);
    answers();
    let first = processes(&machine);
    let cgroup = machine.run(&["cat", &format!("/proc/{}/cgroup", first[0])]);
    assert!(cgroup.ends_with("0::/system.slice/cache.service\n"), "it stays there: {cgroup}");

    machine.run(&["systemctl", "restart", "cache"]);
    eventually("its next process is seen", || is_up() && processes(&machine) != first);
    answers();
    machine.run(&["systemctl", "restart", "sinew"]);
    eventually("it stays adopted", is_up);
    answers();
    machine.run(&["systemctl", "stop", "cache"]);
    eventually("that it stopped is seen", || !is_up());
    machine.run(&["systemctl", "start", "cache"]);
    eventually("that it runs again is seen", is_up);
    answers();

    machine.run(&["sinew", "release", "cache/0"]);
    assert_eq!(workloads(&machine), Vec::<Value>::new());
    machine.run(&["redis-cli", "-p", "6399", "ping"]);
    machine.run(&["sinew", "down", "--purge", "--yes"]);
    let unknown = machine.try_run(&["sinew", "adopt", "nothing", "--service", "x", "--port", "1"]);
    assert!(!unknown.unwrap().status.success());
}
