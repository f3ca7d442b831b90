//! A process that dies gets no more connections, from the moment that nothing can keep it alive:
//! long before it has closed its listener. The servers here are of a process that listens and one
//! that answers, so that the listener lives on and shows who was told of whose death.

use aya::maps::{Array, MapData};
use rustix::process::Signal;
use sinew_abi::{BackendHot, BackendPlace, DYING};
use sinew_datapath::{Carrier, Datapath as _};

use crate::world::{World, eventually, instance4, signal};

/// The process that listens ends in order at SIGUSR1.
const SERVER: &str = r#"
import os, signal, socket, sys
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))
own = socket.create_server(("0.0.0.0", 8080))
if os.fork() == 0:
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    while True:
        s, _ = own.accept()
        s.sendall(s.getsockname()[0].encode())
        s.close()
print("ready")
while True: signal.pause()
"#;

const CALLS: &str = r#"
import socket, collections
c = collections.Counter()
for i in range(30):
    try:
        s = socket.create_connection(("127.64.0.1", 8080), timeout=5)
        c[s.makefile().read()] += 1
    except OSError as e: c[repr(e)] += 1
print(*sorted(c))
"#;

struct Replicas {
    world: World,
    pids: [u32; 2],
    backends: Array<MapData, BackendPlace>,
    hot: Array<MapData, BackendHot>,
    /// Their backends.
    places: [u32; 2],
}

impl Replicas {
    fn new() -> Self {
        let mut world = World::new();
        world.service(1, 8080, sinew_model::Protocol::Tcp, 2);
        world.client(2);
        let pids = [0, 1].map(|n| {
            let pid = world.python_server(1, n, SERVER);
            world.wait_listening(1, n);
            pid
        });
        let hot = world.map("BACKEND_HOT");
        let backends: Array<MapData, BackendPlace> = world.map("BACKENDS");
        let places = [0, 1].map(|n| {
            let address = u32::from_ne_bytes(instance4(1, n).octets());
            (0..64).find(|i| backends.get(i, 0).unwrap().backend.addr4 == address).unwrap()
        });
        Self { world, pids, backends, hot, places }
    }

    fn dying(&self, n: usize) -> bool {
        self.backends.get(&self.places[n], 0).unwrap().listener4.cookie & DYING != 0
    }

    /// Has the death of one begun at a time: waiting for a clock would not show more.
    fn since(&mut self, n: usize, dying_ns: u64) {
        let hot = self.hot.get(&self.places[n], 0).unwrap();
        self.hot.set(self.places[n], BackendHot { dying_ns, ..hot }, 0).unwrap();
    }

    /// Whether user space is told that one dies.
    fn told(&self, n: u32) -> bool {
        self.world.stats(1, n, 8080).dying
    }

    /// Who answers.
    fn answers(&self) -> String {
        self.world.python(2, 0, CALLS)
    }

    fn unlink(&self, program: &str) {
        std::fs::remove_file(self.world.pins().join("links").join(program)).unwrap();
    }

    /// Ends the first replica's listening process and waits until that is known.
    fn end(&mut self, with: Signal) {
        assert!(!self.dying(0));
        signal(self.pids[0], with);
        eventually("the death is known", || self.dying(0));
        assert!(!self.dying(1), "its neighbour lives");
    }
}

#[test]
fn who_dies_gets_no_more_connections() {
    let mut replicas = Replicas::new();
    let [first, second] = [0, 1].map(|n| instance4(1, n).to_string());
    assert_eq!(replicas.answers(), format!("{first} {second}"));
    replicas.end(Signal::KILL);
    replicas.since(0, u64::MAX);
    assert_eq!(replicas.answers(), second);
    assert!(replicas.told(0) && !replicas.told(1));
    // The one that answers holds the listener still, and after a while it is believed.
    replicas.since(0, 0);
    assert!(!replicas.told(0));
    assert_eq!(replicas.answers(), format!("{first} {second}"));
    // Better one that dies than none.
    replicas.since(0, u64::MAX);
    signal(replicas.pids[1], Signal::KILL);
    eventually("the death is known", || replicas.dying(1));
    replicas.since(1, u64::MAX);
    assert_eq!(replicas.answers(), format!("{first} {second}"));
}

#[test]
fn a_death_is_known_by_the_signal_and_by_the_exit() {
    for (without, ends) in [
        ("process_exits", Signal::KILL),
        ("process_killed", Signal::KILL),
        ("process_killed", Signal::TERM),
        ("process_killed", Signal::USR1),
    ] {
        let mut replicas = Replicas::new();
        replicas.unlink(without);
        replicas.end(ends);
    }
}

#[test]
fn the_death_of_another_process_or_thread_says_nothing() {
    let mut replicas = Replicas::new();
    let pid = replicas.pids[0];
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let child = children.trim().parse().unwrap();
    signal(child, Signal::KILL);
    // Its parent's death comes after it, and the kernel tells in order.
    eventually("it has died", || {
        let status = std::fs::read_to_string(format!("/proc/{child}/stat"));
        status.is_ok_and(|status| status.contains(") Z "))
    });
    assert!(!replicas.dying(0));
    replicas.end(Signal::KILL);
}

#[test]
fn a_new_listener_in_the_place_of_a_dying_one_is_well() {
    let mut replicas = Replicas::new();
    let address = instance4(1, 0).to_string();
    replicas.end(Signal::KILL);
    replicas.since(0, u64::MAX);
    // The other process that holds the listener goes as well, so that the port is free.
    std::fs::write(replicas.world.base().join("members/1-0/cgroup.kill"), "1").unwrap();
    eventually("the port is free", || !replicas.answers().contains(&address));
    replicas.world.python_server(1, 0, SERVER);
    eventually("the new one is known", || !replicas.dying(0));
    assert!(replicas.answers().contains(&address));
}

#[test]
fn a_restart_neither_forgets_a_death_nor_attaches_twice() {
    let mut replicas = Replicas::new();
    let links = |world: &World| {
        let mut names: Vec<_> = std::fs::read_dir(world.pins().join("links")).unwrap().collect();
        names.retain(|entry| {
            entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("process_")
        });
        names.len()
    };
    assert_eq!(links(&replicas.world), 2);
    replicas.end(Signal::KILL);
    replicas.since(0, u64::MAX);
    replicas.world.reopen();
    assert!(replicas.dying(0));
    assert_eq!(links(&replicas.world), 2);
    for program in ["process_exits", "process_killed"] {
        replicas.unlink(program);
        assert_eq!(replicas.world.kernel.missing_hooks(Carrier::Members), [program]);
        let mended = replicas.world.kernel.mend();
        assert!(mended.iter().any(|mended| mended.hooks == [program] && mended.error.is_none()));
    }
    signal(replicas.pids[1], Signal::KILL);
    eventually("the death is known", || replicas.dying(1));
}
