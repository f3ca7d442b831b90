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

/// Where the policy lies on the machine.
const POLICY: &str = "lib/policy/policy.yaml";
const DROP_IN: &str = "[Service]\nEnvironment=SINEW_POLICY=/var/lib/policy/policy.yaml\n";

struct Site {
    machine: Machine,
}

impl Site {
    fn new() -> Self {
        let mut machine = Machine::new();
        let drop_in = machine.path("systemd/system/sinew.service.d");
        fs::create_dir(&drop_in).unwrap();
        fs::write(drop_in.join("policy.conf"), DROP_IN).unwrap();
        fs::create_dir(machine.path("lib/policy")).unwrap();
        machine.boot();
        Self { machine }
    }

    /// Allows alice what `line` says, and nothing else.
    fn allow(&self, line: &str) {
        let text = format!("rules:\n  - user: alice\n    {line}\n");
        fs::write(self.machine.path(POLICY), text).unwrap();
    }

    /// A program of `user` that sinew has not started and that serves a port; its process.
    fn outsider(&self, user: &str, port: &str) -> String {
        let unit = format!("--unit={user}-{port}");
        let user = format!("--uid={user}");
        let program =
            ["/usr/bin/python3", "-m", "http.server", "--directory", "/proc/self/fdinfo", port];
        let program = [&["systemd-run", "--quiet", &unit, &user, "--"], &program[..]].concat();
        self.machine.run(&program);
        let url = format!("http://127.0.0.1:{port}/");
        eventually("it serves", || {
            let answer = self.machine.try_run(&["curl", "-s", "-o", "/dev/null", &url]);
            answer.is_some_and(|answer| answer.status.success())
        });
        let unit = unit.strip_prefix("--unit=").unwrap();
        let pid = self.machine.run(&["systemctl", "show", "--value", "-p", "MainPID", unit]);
        pid.trim().to_owned()
    }

    fn adopt(&self, pid: &str, name: &str, port: &str) -> (bool, String) {
        let port = format!("http:{port}");
        let adopt = ["sinew", "adopt", pid, "--service", name, "--port", &port];
        self.machine.run_as("alice", &adopt)
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

#[test]
fn a_line_of_the_policy_allows_what_it_names() {
    let site = Site::new();
    let machine = &site.machine;
    let refused = |(well, said): (bool, String), line: &str| {
        let asked = format!("allow it in /var/lib/policy/policy.yaml: `{line}`");
        assert!(!well && said.contains(&asked), "{line}: {said}");
    };
    let well = |(well, said): (bool, String)| assert!(well, "{said}");

    let as_nobody = || site.up("alice", "theirs", "user: nobody");
    refused(as_nobody(), "run_as: [nobody]");
    site.allow("run_as: [nobody]");
    well(as_nobody());
    eventually("it runs as nobody", || {
        let (_, logs) = machine.run_as("alice", &["sinew", "logs", "theirs"]);
        logs.lines().any(|line| line.ends_with("| 65534"))
    });
    refused(site.up("alice", "roots", "user: root"), "run_as: [root]");

    let at_80 = || site.up("alice", "front", "publish: 80:http");
    refused(at_80(), "publish_below_1024: [80]");
    // A bad line changes nothing, and is told.
    site.allow("publish_below_1024: [8080]");
    refused(at_80(), "publish_below_1024: [80]");
    well(as_nobody());
    let said = machine.try_run(&["sinew", "doctor"]).unwrap().stdout;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("policy.yaml:3:26: rules[0].publish_below_1024"), "{said}");
    site.allow("publish_below_1024: [80]");
    well(at_80());
    machine.run(&["curl", "-sf", "-o", "/dev/null", "http://127.0.0.1:80/"]);
    refused(as_nobody(), "run_as: [nobody]");

    well(site.up("root", "shop", ""));
    let scale = || machine.run_as("alice", &["sinew", "scale", "shop=2"]);
    refused(scale(), "change: [shop]");
    site.allow("change: [shop]");
    well(scale());
    well(machine.run_as("alice", &["sinew", "down", "shop"]));
}

#[test]
fn members_adopt_what_is_their_own_or_what_the_policy_names() {
    let site = Site::new();
    let (hers, theirs) = (site.outsider("alice", "9001"), site.outsider("nobody", "9002"));
    let calls = |name: &str| {
        let url = format!("http://{name}/");
        let call = ["sinew", "exec", "--", "curl", "-sf", "-o", "/dev/null", &url];
        let (well, said) = site.machine.run_as("alice", &call);
        assert!(well, "{said}");
    };
    let (well, said) = site.adopt(&hers, "hers", "9001");
    assert!(well, "{said}");
    calls("hers.sinew.internal:9001");

    let (well, said) = site.adopt(&theirs, "theirs", "9002");
    let why = format!("process {theirs} is of user 65534, and you are user 4711");
    assert!(!well && said.contains(&why) && said.contains("`adopt: [65534]`"), "{said}");
    site.allow("adopt: [nobody]");
    let (well, said) = site.adopt(&theirs, "theirs", "9002");
    assert!(well, "{said}");
    calls("theirs.sinew.internal:9002");
    let (well, said) = site.adopt("1", "first", "9003");
    assert!(!well, "{said}");
    // What she has adopted is hers to let go, with the line or without.
    site.allow("adopt: []");
    let (well, said) = site.machine.run_as("alice", &["sinew", "release", "theirs/0"]);
    assert!(well, "{said}");
}
