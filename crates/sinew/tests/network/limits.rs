//! A limit that nothing of this machine can enforce.

use std::{
    fs,
    process::{Child, Command},
};

use crate::{
    life::{WEB, calls},
    world::{World, cgroup2, tool},
};

/// A process in a cgroup: those below get no controller of memory then.
struct Inhabitant(Child);

impl Inhabitant {
    fn of(world: &World) -> Self {
        fs::create_dir_all(world.cgroup()).unwrap();
        let child = Command::new("sleep").arg("1000000").spawn().unwrap();
        fs::write(world.cgroup().join("cgroup.procs"), child.id().to_string()).unwrap();
        Self(child)
    }
}

impl Drop for Inhabitant {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes the controller's hierarchy of version 1 out of the sight of this thread and what it starts.
fn unmount(controller: &str) {
    // SAFETY: affects the calling thread alone, which runs one test.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
    tool("mount", &["--make-rprivate", "/"]);
    for line in fs::read_to_string("/proc/thread-self/mountinfo").unwrap().lines() {
        let (mount, kind) = line.split_once(" - ").unwrap();
        if kind.starts_with("cgroup ") && kind.split([' ', ',']).any(|word| word == controller) {
            tool("umount", &["--lazy", mount.split(' ').nth(4).unwrap()]);
        }
    }
    assert!(cgroup2().exists());
}

/// Shows this thread, and what it starts, a machine whose cgroups are of version 2 alone, mounted where
/// systemd mounts them.
fn version_2_alone() {
    // SAFETY: affects the calling thread alone, which runs one test.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
    tool("mount", &["--make-rprivate", "/"]);
    tool("umount", &["--lazy", "--recursive", "/sys/fs/cgroup"]);
    tool("mount", &["-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"]);
}

#[test]
fn a_machine_of_version_2_alone_runs_all_but_what_it_cannot_limit() {
    version_2_alone();
    let world = World::new();
    assert_eq!(world.cgroup().parent().unwrap(), std::path::Path::new("/sys/fs/cgroup"));
    world.file(WEB);
    fs::write(world.path("agent.log"), "").unwrap();
    let before = world.traces();
    world.run(&["up", "-d"]);
    assert_eq!(world.member(&calls(20)), "{'ok': 20}");
    world.kill_agent(world.agent());
    world.start_agent();
    assert_eq!(world.member(&calls(20)), "{'ok': 20}");

    // On this machine nobody may have given the controllers to version 2.
    let limits = world.try_run(&["doctor", "--output", "json"]).stdout;
    let limits: serde_json::Value = serde_json::from_slice(&limits).unwrap();
    let limits = limits.as_array().unwrap().iter().find(|f| f["check"] == "limits").unwrap();
    let pids = WEB.replace("  worker:", "    limits: {pids: 100}\n  worker:");
    world.file(&pids);
    let up = world.try_run(&["up", "-d"]);
    let found = limits["found"].as_str().unwrap();
    assert!(!found.contains("version 1"), "{found}");
    let promised = found.starts_with("enforced: ") && found.contains("pids");
    assert_eq!(up.status.success(), promised, "{found}: {up:?}");
    world.run(&["down", "--purge", "--yes"]);
    assert_eq!(world.traces(), before);
}

#[test]
fn what_cannot_be_enforced_is_refused_and_nothing_is_started() {
    let world = World::new();
    unmount("memory");
    let _inhabitant = Inhabitant::of(&world);
    let up = |file: &str| {
        world.file(file);
        let mut command = world.sinew(&["up", "-d"]);
        command.env("SINEW_CGROUP", world.cgroup().join("members")).output().unwrap()
    };
    let file = "name: trial\nservices:\n  web:\n    command: [sleep, '1000000']\n";
    let refused = up(&format!("{file}    limits: {{memory: 64MiB}}\n"));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(
        text.contains("services.web.limits.memory")
            && text.contains("the memory controller is neither available to")
            && text.contains("or remove the limit"),
        "{text}"
    );
    assert_eq!(world.json(&["ps"]).as_array().unwrap().len(), 0);
    let taken = up(file);
    assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
}
