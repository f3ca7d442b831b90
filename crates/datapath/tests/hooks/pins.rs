//! Whatever lies about in the pins, a start makes the data path whole again; and full maps.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use sinew_datapath::{Carrier, Datapath as _, Error, Service, ServicePort};
use sinew_model::{Balance, Outlier, Protocol};

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
    world.serve(SERVER);
    world
}

fn all_is_well(world: &World, what: &str) {
    assert_eq!(world.python(2, 0, CALLS), "{b'x': 30}", "{what}");
}

/// The directory of the maps.
pub(crate) fn maps(world: &World) -> PathBuf {
    world.pins().join(format!("v{}", sinew_abi::ABI_VERSION))
}

pub(crate) fn programs(maps: &Path) -> PathBuf {
    let entries = fs::read_dir(maps).unwrap().flatten();
    let mut programs = entries.filter(|e| e.file_name().to_string_lossy().starts_with("programs-"));
    programs.next().unwrap().path()
}

/// Names of what a look found missing; all of it came back.
fn mended(world: &mut World) -> Vec<&'static str> {
    let mended = world.kernel.mend();
    let errors: Vec<_> = mended.iter().filter_map(|m| m.error.as_ref()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    mended.into_iter().flat_map(|mended| mended.hooks).collect()
}

#[test]
fn what_somebody_takes_away_comes_back() {
    let mut world = two();
    let unit = world.outside("unit");
    world.adopt_nothing(&unit);
    assert_eq!(mended(&mut world), [""; 0], "nothing is missing");
    assert_eq!(world.kernel.missing_hooks(Carrier::Members), [""; 0]);

    let links = world.pins().join("links");
    fs::remove_file(links.join("connect4")).unwrap();
    assert_eq!(world.kernel.missing_hooks(Carrier::Members), ["connect4"]);
    assert_ne!(world.python(2, 0, CALLS), "{b'x': 30}", "it is in nobody's way any more");
    assert_eq!(mended(&mut world), ["connect4"]);
    all_is_well(&world, "after a pin was removed");

    detach(&links.join("connect4"));
    assert_eq!(mended(&mut world), ["connect4"]);
    all_is_well(&world, "after a link was detached");

    let of_unit = fs::read_dir(links.join("hooked")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(of_unit.join("sendmsg6")).unwrap();
    assert_eq!(mended(&mut world), ["sendmsg6"]);

    // All of it, and the maps with it: the same ones are found by the next start.
    fs::remove_dir_all(world.pins()).unwrap();
    let back = mended(&mut world);
    assert_eq!(back.last(), Some(&"maps"));
    assert_eq!(back.iter().filter(|hook| **hook == "bind4").count(), 2, "members and the unit");
    all_is_well(&world, "after all pins were removed");
    let before = world.stats(1, 0, 8080).connections;
    world.reopen();
    assert_eq!(world.stats(1, 0, 8080).connections, before, "what was counted is known");
    assert_eq!(mended(&mut world), [""; 0]);
    all_is_well(&world, "after a restart");
}

/// Detaches a pinned link from what it is attached to, as `bpftool link detach` does.
pub(crate) fn detach(pin: &Path) {
    let path = std::ffi::CString::new(pin.to_str().unwrap()).unwrap();
    let mut open = [path.as_ptr() as u64, 0];
    let call = |command: i64, attributes: &mut [u64; 2]| {
        // SAFETY: prefixes of `union bpf_attr`, whose pointers outlive the call.
        let done = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), 16) };
        assert!(done >= 0, "{}", std::io::Error::last_os_error());
        done
    };
    let link = call(7, &mut open);
    call(34, &mut [link as u64, 0]);
    // SAFETY: opened above, and nobody else's.
    unsafe { libc::close(link as i32) };
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

/// A service that nobody serves, with `ports` ports.
fn idle(id: u32, ports: u16) -> Service {
    let port = |number| ServicePort {
        number,
        protocol: Protocol::Tcp,
        balance: Balance::LeastLoad,
        outlier: Outlier {
            consecutive_failures: 3,
            base: Duration::from_secs(1),
            max: Duration::from_secs(60),
            max_ejected_percent: 50,
        },
        backends: Vec::new(),
    };
    let [_, _, high, low] = id.to_be_bytes();
    Service {
        id,
        address4: Ipv4Addr::new(127, 65, high, low),
        address6: Ipv6Addr::new(0xfd53, 0x696e, 0x6577, 0, 0, 0, 1, id as u16),
        ports: (1..=ports).map(port).collect(),
        published: Vec::new(),
    }
}

#[test]
fn full_maps_are_refused_and_nothing_is_half_applied() {
    let mut world = two();
    let used = |world: &World| {
        let all = world.kernel.usage();
        *all.iter().find(|usage| usage.name == "service ports").unwrap()
    };
    let capacity = sinew_abi::capacity::SERVICES;
    assert_eq!((used(&world).used, used(&world).capacity), (1, capacity));
    // To the last place, less one.
    const PORTS: u16 = 1024;
    let whole = capacity / u32::from(PORTS) - 1;
    for n in 0..whole {
        world.wanted.set_service(idle(100 + n, PORTS));
    }
    world.wanted.set_service(idle(99, PORTS - 2));
    world.apply();
    assert_eq!(used(&world).used, capacity - 1);
    all_is_well(&world, "almost full");

    let before = world.wanted.clone();
    world.wanted.set_service(idle(98, 2));
    let error = world.kernel.apply(&world.wanted).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    let why = format!("the service table holds {capacity} entries and {} are", capacity + 1);
    assert!(error.to_string().starts_with(&why), "{error}");
    assert_eq!(used(&world).used, capacity - 1, "nothing of it is there");
    all_is_well(&world, "refused");

    world.wanted = before;
    world.wanted.set_service(idle(98, 1));
    world.apply();
    assert_eq!(used(&world).used, capacity);
    all_is_well(&world, "full");
    // So does one that starts over full maps.
    world.reopen();
    all_is_well(&world, "full, after a restart");
    for id in 98..100 + whole {
        world.wanted.services.remove(&id);
    }
    world.apply();
    assert_eq!(used(&world).used, 1);
    all_is_well(&world, "empty again");
}
