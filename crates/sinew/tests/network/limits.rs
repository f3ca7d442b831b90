//! A limit that nothing of this machine can enforce.

use std::{
    fs,
    process::{Child, Command},
};

use crate::world::{World, cgroup2, tool};

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
