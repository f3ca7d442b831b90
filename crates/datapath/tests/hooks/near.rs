//! The copies that callers find without a search: used when they are whole, never needed.

use aya::maps::Array;
use sinew_abi::{self as abi, near};
use sinew_model::Protocol;

use crate::world::{World, instance4, service4};

const PORT: u16 = 8080;
/// Callers are of this service.
const CALLER: u32 = 250;

/// Answers every connection with a word and the caller's address.
pub(crate) fn server(word: &str, port: u16) -> String {
    format!(
        r#"
import socket
l = socket.create_server(("0.0.0.0", {port}))
print("ready")
while True:
    s, peer = l.accept()
    s.sendall(b"{word} for " + peer[0].encode())
    s.close()
"#
    )
}

/// One instance of each of these services, and a caller.
fn world(services: &[(u32, u16)]) -> World {
    let mut world = World::new();
    world.client(CALLER);
    for (id, port) in services {
        world.service(*id, *port, Protocol::Tcp, 1);
        world.python_server(*id, 0, &server(&format!("s{id}"), *port));
        world.wait_listening(*id, 0);
    }
    world
}

fn call(world: &World, service: u32, port: u16) -> String {
    let address = service4(service);
    let script = format!(
        r#"
import socket
s = socket.create_connection(("{address}", {port}), timeout=5)
print(s.makefile().read())
"#
    );
    world.python(CALLER, 0, &script)
}

fn answer(service: u32) -> String {
    format!("s{service} for {}", instance4(CALLER, 0))
}

fn key(service: u32, port: u16) -> abi::ServiceKey4 {
    let addr = u32::from_ne_bytes(service4(service).octets());
    abi::ServiceKey4 { addr, port: port.to_be(), protocol: abi::protocol::TCP }
}

#[test]
fn a_copy_is_used_and_never_needed() {
    let mut world = world(&[(1, PORT), (2, PORT)]);
    let mut copies: Array<_, abi::NearService> = world.map("NEAR_SERVICES");
    let (one, two) = (near::service4(&key(1, PORT)), near::service4(&key(2, PORT)));
    let (true_one, true_two) = (copies.get(&one, 0).unwrap(), copies.get(&two, 0).unwrap());
    assert_eq!((true_one.key, true_two.key), (key(1, PORT), key(2, PORT)));
    assert_eq!(call(&world, 1, PORT), answer(1));

    // A lie shows that it is read.
    copies.set(one, abi::NearService { service: true_two.service, ..true_one }, 0).unwrap();
    assert_eq!(call(&world, 1, PORT), answer(2));
    // A writer that was killed leaves an odd turn.
    let half = abi::NearService { turn: true_one.turn | 1, ..copies.get(&one, 0).unwrap() };
    copies.set(one, half, 0).unwrap();
    assert_eq!(call(&world, 1, PORT), answer(1));
    // The place is another's.
    copies.set(one, true_two, 0).unwrap();
    assert_eq!(call(&world, 1, PORT), answer(1));

    world.reopen();
    let mended = copies.get(&one, 0).unwrap();
    assert_eq!((mended.key, mended.service), (key(1, PORT), true_one.service));
    assert_eq!(mended.turn & 1, 0);
    assert_eq!(call(&world, 1, PORT), answer(1));
    world.wanted.services.clear();
    world.apply();
    for place in [one, two] {
        assert_eq!(copies.get(&place, 0).unwrap().key, abi::ServiceKey4::ZERO);
    }
}

#[test]
fn a_caller_is_known_by_its_copy_or_without() {
    let mut world = world(&[(1, PORT)]);
    let mut copies: Array<_, abi::NearCaller> = world.map("NEAR_CALLERS");
    let address = u32::from_ne_bytes(instance4(CALLER, 0).octets());
    let all = 0..abi::capacity::NEAR_CALLERS;
    let place = all.clone().find(|i| copies.get(i, 0).unwrap().addr4 == address).unwrap();
    let copy = copies.get(&place, 0).unwrap();
    assert_eq!(copy.service, CALLER);

    let other = u32::from_ne_bytes(instance4(77, 0).octets());
    copies.set(place, abi::NearCaller { addr4: other, ..copy }, 0).unwrap();
    assert_eq!(call(&world, 1, PORT), format!("s1 for {}", instance4(77, 0)), "it is read");
    copies.set(place, abi::NearCaller { cgroup: copy.cgroup + 1, ..copy }, 0).unwrap();
    assert_eq!(call(&world, 1, PORT), answer(1), "the place is another's");
    copies.set(place, abi::NearCaller::ZERO, 0).unwrap();
    assert_eq!(call(&world, 1, PORT), answer(1));

    world.reopen();
    assert_eq!(copies.get(&place, 0).unwrap(), copy);
    world.wanted.instances.clear();
    world.apply();
    assert!(all.clone().all(|i| copies.get(&i, 0).unwrap().cgroup == 0));
}

#[test]
fn two_keys_that_meet_in_one_place_both_lead_to_their_services() {
    let mine = near::service4(&key(1, PORT));
    let meets = |id: u32| (1024..u16::MAX).find(|port| near::service4(&key(id, *port)) == mine);
    let (id, port) = (2..CALLER).find_map(|id| Some((id, meets(id)?))).unwrap();
    let mut world = world(&[(1, PORT), (id, port)]);
    assert_eq!(call(&world, 1, PORT), answer(1));
    assert_eq!(call(&world, id, port), answer(id));
    // The place goes with its owner, and the other one is as well off as before.
    world.wanted.services.remove(&1);
    world.apply();
    assert_eq!(call(&world, id, port), answer(id));
}
