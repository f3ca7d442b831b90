//! Where the kernel keeps the listeners of backends: read when it is true, never needed, and never
//! harmful when something else lies there. And how long connections to those backends took.

use aya::maps::{Array, MapData};
use sinew_abi::{self as abi, KnownListener};
use sinew_datapath::{BackendTimes, Datapath as _, backend_key};
use sinew_model::Protocol;

use crate::{
    near::server,
    world::{World, eventually, instance4, service4},
};

const PORT: u16 = 8080;
const CALLER: u32 = 250;

/// Two services of one instance each, and a caller; with the pids of the servers.
fn world() -> (World, [u32; 2]) {
    let mut world = World::new();
    world.client(CALLER);
    let pids = [1, 2].map(|service| {
        world.service(service, PORT, Protocol::Tcp, 1);
        let pid = world.python_server(service, 0, &server("hello", PORT));
        world.wait_listening(service, 0);
        pid
    });
    (world, pids)
}

/// Calls a service; what its server said, or the error.
fn call(world: &World, service: u32) -> String {
    let address = service4(service);
    let script = format!(
        r#"
import socket
try:
    s = socket.create_connection(("{address}", {PORT}), timeout=5)
    print(s.makefile().read().split()[0])
except OSError as e:
    print(type(e).__name__)
"#
    );
    world.python(CALLER, 0, &script)
}

/// The place of a service's only backend.
fn place(world: &World, service: u32) -> u32 {
    let backends: Array<MapData, abi::BackendPlace> = world.map("BACKENDS");
    let address = u32::from_ne_bytes(instance4(service, 0).octets());
    (0..64).find(|i| backends.get(i, 0).unwrap().backend.addr4 == address).unwrap()
}

/// Where the kernel keeps the listeners of backends.
struct Known {
    v4: Array<MapData, abi::BackendPlace>,
    v6: Array<MapData, KnownListener>,
}

impl Known {
    fn open(world: &World) -> Self {
        Self { v4: world.map("BACKENDS"), v6: world.map("KNOWN_LISTENERS6") }
    }

    fn get(&self, place: u32) -> [KnownListener; 2] {
        [self.v4.get(&place, 0).unwrap().listener4, self.v6.get(&place, 0).unwrap()]
    }

    fn set(&mut self, place: u32, [listener4, v6]: [KnownListener; 2]) {
        let of = self.v4.get(&place, 0).unwrap();
        self.v4.set(place, abi::BackendPlace { listener4, ..of }, 0).unwrap();
        self.v6.set(place, v6, 0).unwrap();
    }
}

fn key(service: u32) -> u64 {
    backend_key(service, 0, PORT, Protocol::Tcp, 0)
}

#[test]
fn a_known_listener_is_used_and_never_needed() {
    let (mut world, [one, two]) = world();
    let mut known = Known::open(&world);
    let places = [1, 2].map(|service| place(&world, service));
    let [first, second] = places.map(|place| known.get(place)[0]);
    assert!(first.cookie != 0 && first.socket != 0 && first.socket != second.socket, "{first:?}");

    // A kernel address that is not mapped, one that may not be, one of a program, none; and another
    // socket than the one that was there.
    let lies = [!7, 0xffff_8000_0000_0000, 0x40_0000, 0, second.socket];
    for socket in lies {
        let lie = KnownListener { socket, cookie: first.cookie };
        known.set(places[0], [lie; 2]);
        assert_eq!(call(&world, 1), "hello", "{socket:#x}");
    }
    known.set(places[0], [KnownListener::ZERO; 2]);
    assert_eq!(call(&world, 1), "hello");

    // The listener of another in its place shows that it is read: nobody listens, and it is taken.
    known.set(places[0], [second, KnownListener::ZERO]);
    world.kill(one);
    assert_eq!(call(&world, 1), "ConnectionRefusedError");
    let edge = world.kernel_edges(CALLER, 1);
    assert_eq!((edge.refused, edge.no_backend), (1, 0));
    // Gone with its program, which the next call finds without a backend.
    world.kill(two);
    assert_eq!(call(&world, 1), "ConnectionRefusedError");
    let edge = world.kernel_edges(CALLER, 1);
    assert_eq!((edge.refused, edge.no_backend), (1, 1));
}

#[test]
fn a_listener_is_known_again_after_a_restart_and_forgotten_with_its_backend() {
    let (mut world, _) = world();
    let mut known = Known::open(&world);
    let place = place(&world, 1);
    let before = known.get(place);
    assert_ne!(before[0], KnownListener::ZERO);
    known.set(place, [KnownListener::ZERO; 2]);
    world.reopen();
    assert_eq!(known.get(place), before);
    world.wanted.services.remove(&1);
    world.apply();
    assert_eq!(known.get(place), [KnownListener::ZERO; 2]);
}

#[test]
fn connections_are_timed_per_backend() {
    let (mut world, _) = world();
    for _ in 0..5 {
        assert_eq!(call(&world, 1), "hello");
    }
    let times = |world: &World, service| world.kernel.times(&[key(service)]).unwrap();
    let counts = |times: BackendTimes| {
        [times.connect_us(), times.duration_us()].map(|counts| counts.iter().sum::<u32>())
    };
    // A program's sockets are released a moment after it is gone.
    eventually("all are counted", || counts(times(&world, 1)[&key(1)]) == [5, 5]);
    assert_eq!(times(&world, 2)[&key(2)], BackendTimes::ZERO);
    assert!(times(&world, 77).is_empty(), "nobody knows it");
    // Another backend in its place begins anew.
    world.wanted.services.remove(&1);
    world.apply();
    world.service(3, PORT, Protocol::Tcp, 1);
    world.service(4, PORT, Protocol::Tcp, 1);
    world.apply();
    for service in [3, 4] {
        assert_eq!(times(&world, service)[&key(service)], BackendTimes::ZERO);
    }
}
