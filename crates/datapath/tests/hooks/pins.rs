//! Whatever lies about in the pins, a start makes the data path whole again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sinew_model::Protocol;

use crate::world::World;

const SERVER: &str = r#"
import socket, threading
l = socket.socket(); l.bind(("0.0.0.0", 8080)); l.listen(64)
print("ready")
def serve(c):
    while True:
        d = c.recv(99)
        if not d: return
        c.sendall(d)
while True: threading.Thread(target=serve, args=[l.accept()[0]], daemon=True).start()
"#;

const CALLS: &str = r#"
import socket, collections
c = collections.Counter()
for i in range(30):
    try:
        s = socket.create_connection(("127.64.0.1", 8080), timeout=5); s.settimeout(5)
        s.sendall(b"x"); c[s.recv(1)] += 1; s.close()
    except OSError as e: c[repr(e)] += 1
print(dict(c))
"#;

/// Two replicas and a caller, to whom this is the answer when all is well.
fn two() -> World {
    let mut world = World::new();
    world.service(1, 8080, Protocol::Tcp, 2);
    world.client(2);
    for n in 0..2 {
        world.python_server(1, n, SERVER);
        world.wait_listening(1, n);
    }
    world
}

fn all_is_well(world: &World, what: &str) {
    assert_eq!(world.python(2, 0, CALLS), "{b'x': 30}", "{what}");
}

/// The directory of the maps.
fn maps(world: &World) -> PathBuf {
    world.pins().join(format!("v{}", sinew_abi::ABI_VERSION))
}

fn programs(maps: &Path) -> PathBuf {
    let entries = fs::read_dir(maps).unwrap().flatten();
    let mut programs = entries.filter(|e| e.file_name().to_string_lossy().starts_with("programs-"));
    programs.next().unwrap().path()
}

#[test]
fn an_older_versions_pins_are_replaced() {
    let mut world = two();
    let before = maps(&world);
    // Its programs are in force, over maps that this version does not know.
    let older = world.pins().join("v0");
    fs::rename(&before, &older).unwrap();
    all_is_well(&world, "the older one goes on");
    world.reopen();
    assert!(!older.exists() && before.exists());
    all_is_well(&world, "over maps of its own");
    assert_eq!(world.active(1, 2, 8080), 0);
}

#[test]
fn half_of_the_pins_is_as_good_as_none() {
    let mut world = two();
    let at = maps(&world);
    for map in [
        "CONFIG",
        "INSTANCES",
        "SERVICES4",
        "REGIONS",
        "SLOTS",
        "BACKENDS",
        "BACKEND_HOT",
        "LISTENERS",
        "LISTEN_KEYS",
        "PORT_NAMES",
        "OUTLIERS",
        "SOCKETS",
        "EVENTS",
    ] {
        fs::remove_file(at.join(map)).unwrap();
        world.reopen();
        all_is_well(&world, map);
    }
    fs::remove_file(programs(&at).join("connect4")).unwrap();
    world.reopen();
    all_is_well(&world, "a program");
    for link in ["connect4", "sock_release"] {
        fs::remove_file(world.pins().join("links").join(link)).unwrap();
    }
    world.reopen();
    all_is_well(&world, "links");
    fs::remove_dir_all(&at).unwrap();
    world.reopen();
    all_is_well(&world, "all maps");
}

#[test]
fn an_unchanged_build_is_verified_once() {
    let mut world = two();
    let first = programs(&maps(&world));
    world.reopen();
    assert_eq!(programs(&maps(&world)), first);
    fs::remove_file(maps(&world).join("EDGES")).unwrap();
    world.reopen();
    assert_ne!(programs(&maps(&world)), first, "programs of other maps are of no use");
}
