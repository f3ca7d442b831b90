//! All that an agent makes on a host, line by line: what there is, and what there should be for
//! what is wanted. The difference was leaked or lost.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use serde_json::Value;
use sinew_abi::{BackendPlace, capacity};

use crate::{
    bpf,
    world::{World, eventually_or, tool},
};

pub(super) type Lines = BTreeSet<String>;

/// Of these each instance has its own; the rest does not change from one moment to another.
const PER_INSTANCE: [&str; 2] = ["run/workloads/", "state/logs/"];
/// Of each launched instance, in its directory.
const FILES: [&str; 5] = ["ctl.sock", "instance.json", "lock", "spec.json", "state.json"];
/// Whoever starts an agent says where it logs.
const AGENT_LOG: &str = "state/agent.log";
/// First address of all instances.
const INSTANCES4: u32 = u32::from_be_bytes([127, 80, 0, 0]);

/// What is there however many instances there are.
pub(super) struct Census {
    constant: Lines,
    /// Whether the kernel's objects have to be the very same ones.
    same_objects: bool,
}

impl Census {
    /// Of a host where all is well, and as long as nothing is purged.
    pub(super) fn new(world: &World) -> Self {
        Self { constant: constant(world, true), same_objects: true }
    }

    /// Of a host where all is well, and of those like it.
    pub(super) fn of_any(world: &World) -> Self {
        Self { constant: constant(world, false), same_objects: false }
    }

    /// Waits until there is what should be, and nothing else.
    pub(super) fn check(&self, world: &World, when: &str) {
        let differences = || {
            let (found, expected) = (self.found(world), self.expected(world));
            let lost = expected.difference(&found).map(|line| format!("- {line}\n"));
            let leaked = found.difference(&expected).map(|line| format!("+ {line}\n"));
            lost.chain(leaked).collect::<String>()
        };
        let what = format!("{when}: nothing is leaked (+) or lost (-)");
        eventually_or(&what, differences, || differences().is_empty());
    }

    fn expected(&self, world: &World) -> Lines {
        let mut lines = self.constant.clone();
        lines.insert("1 agent".to_owned());
        let all = world.json(&["ps"]);
        let (mut instances, mut backends, mut services) = (0, 0, BTreeSet::new());
        for instance in all.as_array().unwrap().iter().filter(|one| one["state"] != "stopped") {
            instances += 1;
            let address = instance["address"].as_str().unwrap();
            lines.extend([1, 2].map(|kind| format!("address {address} on lo, {kind}")));
            match instance["service"].as_str() {
                Some(service) => {
                    backends += 1;
                    services.insert(service);
                    lines.extend(launched(service, instance));
                }
                None => lines.extend(session(instance)),
            }
        }
        lines.extend(counts(instances, backends, services.len()));
        lines
    }

    fn found(&self, world: &World) -> Lines {
        let mut lines = constant(world, self.same_objects);
        for path in below(world.cgroup(), &|path| path.is_dir()) {
            let name = relative(&path, world.cgroup());
            let pids = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
            let pids: Vec<&str> = pids.lines().collect();
            match pids.as_slice() {
                [_] if !name.starts_with("members/") => {
                    lines.insert(format!("one process in {name}"));
                }
                _ => lines.extend(pids.iter().map(|pid| format!("process {pid} in {name}"))),
            }
            lines.insert(format!("cgroup {name}"));
        }
        let workloads = world.path("run/workloads");
        let files = below(&workloads, &|path| !path.is_dir()).into_iter();
        // What was being written goes with its directory.
        let files =
            files.filter(|path| path.extension().is_none_or(|extension| extension != "new"));
        lines.extend(files.map(|path| format!("file {}", relative(&path, &world.path("")))));
        lines.extend(addresses());
        for map in ["INSTANCES", "SERVICES4", "SERVICES6"] {
            let pinned = below(&world.pins(), &|path| path.ends_with(map));
            lines.extend(pinned.iter().map(|path| format!("{} of {map}", bpf::keys(path))));
        }
        lines.insert(format!("{} of BACKENDS", backends(world)));
        lines.extend(strays(world));
        lines
    }
}

/// What an instance has that the agent launched.
fn launched(service: &str, instance: &Value) -> Lines {
    let (replica, pid) = (&instance["replica"], &instance["pid"]);
    let files = FILES.map(|file| format!("file run/workloads/{service}.{replica}/{file}"));
    let others = [
        format!("cgroup members/svc-{service}"),
        format!("cgroup members/svc-{service}/{replica}"),
        format!("process {pid} in members/svc-{service}/{replica}"),
        format!("cgroup shims/{service}.{replica}"),
        format!("one process in shims/{service}.{replica}"),
    ];
    files.into_iter().chain(others).collect()
}

/// What a command has that joined by itself.
fn session(instance: &Value) -> Lines {
    let (replica, pid) = (&instance["replica"], &instance["pid"]);
    let lines = [
        format!("cgroup members/exec-{replica}"),
        format!("process {pid} in members/exec-{replica}"),
        format!("file run/workloads/.exec.{replica}/instance.json"),
    ];
    lines.into()
}

/// How much of the kernel's maps is taken.
fn counts(instances: usize, backends: usize, services: usize) -> [String; 4] {
    [
        format!("{instances} of INSTANCES"),
        format!("{services} of SERVICES4"),
        format!("{services} of SERVICES6"),
        format!("{backends} of BACKENDS"),
    ]
}

/// What does not depend on how many instances there are.
fn constant(world: &World, objects: bool) -> Lines {
    let mut lines = Lines::new();
    let mut sets = 0;
    for path in below(&world.pins(), &|_| true) {
        let name = relative(&path, &world.pins());
        match name.split_once("/programs-") {
            // Of this machine and this boot, and of when they were loaded.
            Some((_, rest)) if rest.contains('/') => {
                lines.insert(format!("pin {}", rest.split_once('/').unwrap().1));
            }
            Some(_) => sets += 1,
            None => drop(lines.insert(format!("pin {name}"))),
        }
    }
    lines.insert(format!("{sets} set of programs"));
    if objects {
        let objects = world.kernel_objects().into_iter();
        lines.extend(objects.map(|(kind, number)| format!("{kind} {number}")));
    }
    for arguments in [
        &["-o", "route", "show", "table", "local"][..],
        &["-6", "-o", "route", "show", "table", "all"],
        &["-6", "-o", "rule", "show"],
    ] {
        lines.extend(tool("ip", arguments).lines().map(|line| format!("ip {}", nameless(line))));
    }
    for name in ["members", "shims", "resolver"] {
        lines.insert(format!("cgroup {name}"));
    }
    lines.insert("one process in resolver".to_owned());
    for directory in ["run", "state"] {
        for path in below(&world.path(directory), &|path| !path.is_dir()) {
            let name = relative(&path, &world.path(""));
            if name != AGENT_LOG && !PER_INSTANCE.iter().any(|per| name.starts_with(per)) {
                lines.insert(format!("file {name}"));
            }
        }
    }
    lines
}

/// A line in which the network of the host, drawn when it began, is just `fd`.
fn nameless(line: &str) -> String {
    let word = |word: &str| match word.strip_prefix("fd") {
        Some(rest) => format!("fd:{}", rest.splitn(4, ':').skip(3).collect::<String>()),
        None => word.to_owned(),
    };
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// IPv6 addresses of instances on `lo`, by the IPv4 address of the same instance.
fn addresses() -> Lines {
    let told = tool("ip", &["-6", "-o", "addr", "show", "lo", "scope", "global"]);
    let addresses =
        told.lines().filter_map(|line| line.split_whitespace().nth(3)?.split('/').next());
    let name = |address: &str| {
        let segments = address.parse::<Ipv6Addr>().unwrap().segments();
        let low = (u32::from(segments[6]) << 16) | u32::from(segments[7]);
        format!("address {} on lo, {}", Ipv4Addr::from(INSTANCES4 + low), segments[3])
    };
    addresses.map(name).collect()
}

/// Processes that are of this host and in none of its cgroups; one agent is meant to be.
fn strays(world: &World) -> Lines {
    let shown = world.cgroup().file_name().unwrap().to_str().unwrap();
    let is_outside = |(pid, _): &(i32, String)| {
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        !cgroups.is_empty() && !cgroups.contains(shown)
    };
    let outside = processes(world).into_iter().filter(is_outside);
    let line = |(pid, command): (i32, String)| format!("process {pid}: {command}");
    let (agents, strays): (Vec<_>, Vec<_>) = outside.partition(|(_, command)| is_agent(command));
    let agents = format!("{} agent", agents.len());
    strays.into_iter().map(line).chain([agents]).collect()
}

/// Agents of this host, whether they answer already or not.
pub(super) fn agents(world: &World) -> Vec<i32> {
    let all = processes(world).into_iter();
    all.filter(|(_, command)| is_agent(command)).map(|(pid, _)| pid).collect()
}

fn is_agent(command: &str) -> bool {
    command.ends_with("sinew agent")
}

/// Processes that were started with this host's directories, with their commands.
fn processes(world: &World) -> Vec<(i32, String)> {
    let here = world.path("").display().to_string();
    let read = |pid: i32, file| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
    };
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.map(|pid| (pid, read(pid, "cmdline")))
        .filter(|(pid, command)| command.contains(&here) || read(*pid, "environ").contains(&here))
        .collect()
}

fn backends(world: &World) -> usize {
    let pinned = below(&world.pins(), &|path| path.ends_with("BACKENDS"));
    let all = pinned.iter().flat_map(|path| bpf::values::<BackendPlace>(path, capacity::BACKENDS));
    all.filter(|place| place.backend.key != 0).count()
}

/// All below `path` that `is` lets in; it need not be there any more when it is looked at.
fn below(path: &Path, is: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(below(&path, is));
        }
        if is(&path) {
            found.push(path);
        }
    }
    found
}

fn relative(path: &Path, to: &Path) -> String {
    path.strip_prefix(to).unwrap().display().to_string()
}
