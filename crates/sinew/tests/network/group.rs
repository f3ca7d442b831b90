//! Members of the group `sinew`, who are not root by another name, and those who are not members.

use std::fs;

use crate::{machine::Machine, world::eventually};

const FILE: &str = "
name: hers
services:
  web:
    command: [sh, -c, 'id -u; exec python3 -u -m http.server 8080']
    port: http:8080
";

/// What a member of the group may not ask for, and what she is told.
const REFUSED: [(&str, &str); 4] = [
    ("user: root", "only root may run as root, another user than you"),
    ("publish: 80:http", "only root may publish port 80, which is below 1024"),
    ("privileges: {keep_capabilities: [CAP_NET_ADMIN]}", "only root may keep CAP_NET_ADMIN"),
    ("privileges: {no_new_privileges: false}", "only root may turn it off"),
];

struct Site {
    machine: Machine,
}

impl Site {
    fn new() -> Self {
        let mut machine = Machine::new();
        machine.boot();
        Self { machine }
    }

    /// A file of hers, with a line more for its service.
    fn up(&self, user: &str, name: &str, line: &str) -> (bool, String) {
        let path = format!("lib/{name}.yaml");
        let text = FILE.replace("hers", name).replace("web", name);
        fs::write(self.machine.path(&path), format!("{text}    {line}\n")).unwrap();
        self.machine.run_as(user, &["sinew", "up", "-d", "-f", &format!("/var/{path}")])
    }
}

#[test]
fn the_group_runs_what_is_its_own() {
    let site = Site::new();
    let machine = &site.machine;
    let as_alice = |command: &[&str]| machine.run_as("alice", command);
    let (well, said) = site.up("alice", "hers", "replicas: 2");
    assert!(well, "{said}");
    let (well, said) = as_alice(&["sinew", "exec", "--", "sh", "-c", "id -u; curl -sf hers:8080"]);
    assert!(well && said.starts_with("4711\n"), "{said}");
    eventually("her services run as herself", || {
        let (_, logs) = as_alice(&["sinew", "logs", "hers"]);
        logs.lines().filter(|line| line.ends_with("| 4711")).count() == 2
    });

    for (line, why) in REFUSED {
        let (well, said) = site.up("alice", "more", line);
        assert!(!well && said.contains(why), "{line}: {said}");
    }
    let (_, projects) = as_alice(&["sinew", "services"]);
    assert!(!projects.contains("more"), "nothing of it was done: {projects}");

    let (well, said) = site.up("root", "roots", "");
    assert!(well, "{said}");
    for command in [
        &["sinew", "scale", "roots=0"][..],
        &["sinew", "restart", "roots"],
        &["sinew", "drain", "roots/0"],
        &["sinew", "down", "roots"],
        &["sinew", "down", "--purge", "--yes"],
    ] {
        let (well, said) = as_alice(command);
        assert!(!well && said.contains("have root do it"), "{command:?}: {said}");
    }
    let (well, said) = as_alice(&["sinew", "down", "hers"]);
    assert!(well, "{said}");
}

#[test]
fn strangers_are_kept_out() {
    let site = Site::new();
    let machine = &site.machine;
    for command in [&["sinew", "ps"][..], &["sinew", "exec", "--", "true"]] {
        let (well, said) = machine.run_as("mallory", command);
        assert!(!well && said.contains("group"), "{command:?}: {said}");
    }
    for path in ["/run/sinew/workloads", "/var/lib/sinew", "/sys/fs/bpf/sinew"] {
        let (well, said) = machine.run_as("mallory", &["ls", path]);
        assert!(!well && said.contains("Permission denied"), "{path}: {said}");
    }
    // Members of the group look no further than the API.
    for path in ["/run/sinew/workloads", "/var/lib/sinew", "/sys/fs/bpf/sinew"] {
        let (well, said) = machine.run_as("alice", &["ls", path]);
        assert!(!well && said.contains("Permission denied"), "{path}: {said}");
    }
}
