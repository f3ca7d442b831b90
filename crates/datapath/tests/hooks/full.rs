//! Tables that callers fill: when one is full, connections go on, and what is not counted is told.

use std::time::{Duration, Instant};

use aya::maps::{Array, HashMap, Map, MapData, PerCpuHashMap, PerCpuValues};
use sinew_abi::{self as abi, EdgeKey, capacity as c};
use sinew_datapath::{Datapath as _, Usage, usage};
use sinew_model::Protocol;

use crate::world::World;

const SERVER: &str = r#"
import socket
l = socket.socket(); l.bind(("0.0.0.0", 8080)); l.listen(64)
print("ready")
while True:
    c = l.accept()[0]; c.sendall(c.recv(9)); c.close()
"#;

const CALL: &str = r#"
import socket
s = socket.create_connection(("127.64.0.1", 8080), timeout=5); s.settimeout(5)
s.sendall(b"x"); print(s.recv(1))
"#;

fn world() -> World {
    let mut world = World::new();
    world.service(1, 8080, Protocol::Tcp, 1);
    world.client(2);
    world.client(3);
    world.python_server(1, 0, SERVER);
    world.wait_listening(1, 0);
    world
}

fn pinned(world: &World, name: &str) -> MapData {
    let maps = world.pins().join(format!("v{}", abi::ABI_VERSION));
    MapData::from_pin(maps.join(name)).unwrap()
}

fn filled(world: &World, name: &str) -> Usage {
    let filling = world.kernel.filling().unwrap();
    *filling.iter().find(|usage| usage.name == name).unwrap()
}

fn connects(world: &World, source: u32) -> u64 {
    let edges = world.kernel.edges().unwrap();
    let edge = edges.iter().find(|e| (e.source, e.destination) == (source, 1));
    edge.map_or(0, |edge| edge.counters.connects())
}

#[test]
fn edges_beyond_the_last_are_lost_and_counted() {
    let mut world = world();
    assert_eq!(world.python(2, 0, CALL), "b'x'");
    let used = filled(&world, usage::EDGES);
    assert_eq!((used.used, used.capacity), (1, c::EDGES));
    let cpus = aya::util::nr_cpus().unwrap();
    let mut edges: PerCpuHashMap<_, EdgeKey, abi::Edge> =
        Map::PerCpuHashMap(pinned(&world, "EDGES")).try_into().unwrap();
    for source in 1000..1000 + c::EDGES - 1 {
        let mut insert = || {
            let none = PerCpuValues::try_from(vec![abi::Edge::ZERO; cpus]).unwrap();
            edges.insert(EdgeKey { source, destination: 7 }, none, 0).is_ok()
        };
        // The kernel gets memory for them in the background, and has none for a moment.
        let end = Instant::now() + Duration::from_secs(20);
        while !insert() {
            assert!(Instant::now() < end, "no memory for edge {source}");
            std::thread::yield_now();
        }
    }
    assert_eq!(filled(&world, usage::EDGES).used, c::EDGES);

    let lost = world.kernel.totals().unwrap().edges_lost;
    assert_eq!(world.python(3, 0, CALL), "b'x'", "a new pair calls all the same");
    assert!(world.kernel.totals().unwrap().edges_lost > lost);
    assert_eq!(connects(&world, 3), 0);
    assert_eq!(world.python(2, 0, CALL), "b'x'");
    assert_eq!(connects(&world, 2), 2, "a known pair is counted");

    // Names that nobody uses make room.
    world.kernel.forget_services(&[7]).unwrap();
    assert_eq!(filled(&world, usage::EDGES).used, 1);
    assert_eq!(world.python(3, 0, CALL), "b'x'");
    assert_eq!(connects(&world, 3), 1);
}

#[test]
fn sockets_beyond_the_last_are_lost_and_counted() {
    let world = world();
    let mut places: Array<_, abi::Socket> =
        Map::Array(pinned(&world, "SOCKETS")).try_into().unwrap();
    let mut overflow: HashMap<_, u64, abi::Socket> =
        Map::HashMap(pinned(&world, "SOCKETS_OVERFLOW")).try_into().unwrap();
    let mut hints: Array<_, u32> = Map::Array(pinned(&world, "OVERFLOW_HINTS")).try_into().unwrap();
    let record = |cookie| abi::Socket { cookie, ..abi::Socket::ZERO };
    for place in 0..c::SOCKETS {
        places.set(place, record(1 << 40 | u64::from(place)), 0).unwrap();
    }
    assert_eq!(filled(&world, usage::SOCKETS).used, 0);
    let active = || world.stats(1, 0, 8080).connections;
    assert_eq!(world.python(2, 0, CALL), "b'x'");
    assert_eq!((active(), world.kernel.totals().unwrap().sockets_lost), (1, 0), "it overflows");

    for n in 0..c::SOCKET_OVERFLOW {
        let cookie = 1 << 41 | u64::from(n);
        overflow.insert(cookie, record(cookie), 0).unwrap();
    }
    for hint in 0..c::OVERFLOW_HINTS {
        hints.set(hint, c::SOCKET_OVERFLOW / c::OVERFLOW_HINTS, 0).unwrap();
    }
    let full = filled(&world, usage::SOCKETS);
    assert_eq!((full.used, full.capacity), (c::SOCKET_OVERFLOW, c::SOCKET_OVERFLOW));
    assert_eq!(world.python(2, 0, CALL), "b'x'", "it connects all the same");
    let totals = world.kernel.totals().unwrap();
    assert!(totals.sockets_lost > 0);
    assert_eq!(world.stats(1, 0, 8080).active, 0, "what is not counted is not counted down");
    assert_eq!(filled(&world, usage::SOCKETS).used, c::SOCKET_OVERFLOW);

    overflow.remove(&(1 << 41)).unwrap();
    assert_eq!(world.python(3, 0, CALL), "b'x'");
    assert_eq!(world.kernel.totals().unwrap().sockets_lost, totals.sockets_lost);
}
