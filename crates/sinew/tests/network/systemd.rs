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

fn workloads(machine: &Machine) -> Vec<Value> {
    let Some(output) = machine.try_run(&["sinew", "ps", "--output", "json"]) else {
        return Vec::new();
    };
    serde_json::from_slice(&output.stdout).unwrap_or_default()
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
