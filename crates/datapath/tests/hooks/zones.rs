//! Backends in reserve, as those of other zones are: taken when none of the draw is fit, and at once.

use std::sync::Arc;

use sinew_datapath::Service;
use sinew_model::{Balance, Protocol};

use crate::{
    near::server,
    world::{World, instance4},
};

const CALLS: &str = r#"
import socket, collections
c = collections.Counter()
for i in range(60):
    try:
        s = socket.create_connection(("127.64.0.1", 8080), timeout=5)
        peer = s.makefile().read()
        c[peer.split()[0]] += 1
    except ConnectionRefusedError: c["refused"] += 1
print(*sorted(c))
"#;

/// Five replicas, the last two of them in reserve, and a caller; with the pids.
fn world() -> (World, [u32; 5]) {
    let mut world = World::new();
    world.service(1, 8080, Protocol::Tcp, 5);
    world.client(2);
    let pids = [0, 1, 2, 3, 4].map(|n| {
        let pid = world.python_server(1, n, &server(&instance4(1, n).to_string(), 8080));
        world.wait_listening(1, n);
        pid
    });
    (world, pids)
}

fn change(world: &mut World, change: impl Fn(usize, &mut sinew_datapath::Backend)) {
    let mut service = Service::clone(&world.wanted.services[&1]);
    for (n, backend) in service.ports[0].backends.iter_mut().enumerate() {
        change(n, backend);
    }
    world.wanted.services.insert(1, Arc::new(service));
    world.apply();
}

fn answers(world: &World) -> Vec<String> {
    world.python(2, 0, CALLS).split_whitespace().map(str::to_owned).collect()
}

fn names(of: &[u32]) -> Vec<String> {
    of.iter().map(|n| instance4(1, *n).to_string()).collect()
}

#[test]
fn the_reserve_serves_when_nobody_else_can() {
    let (mut world, pids) = world();
    assert_eq!(answers(&world), names(&[0, 1, 2, 3, 4]));
    for balance in [Balance::LeastLoad, Balance::RoundRobin, Balance::Random] {
        let mut service = Service::clone(&world.wanted.services[&1]);
        service.ports[0].balance = balance;
        world.wanted.services.insert(1, Arc::new(service));
        change(&mut world, |n, backend| backend.slots = u8::from(n < 3));
        assert_eq!(answers(&world), names(&[0, 1, 2]), "{balance:?}");
    }
    world.kill(pids[0]);
    assert_eq!(answers(&world), names(&[1, 2]), "one that is left is enough");
    // Nobody has told the data path: the kernel finds it by itself.
    world.kill(pids[1]);
    world.kill(pids[2]);
    assert_eq!(answers(&world), names(&[3, 4]), "all of the reserve");
    world.kill(pids[3]);
    assert_eq!(answers(&world), names(&[4]));
    world.kill(pids[4]);
    assert_eq!(answers(&world), ["refused"]);
}

#[test]
fn a_service_may_have_a_reserve_alone() {
    let (mut world, _) = world();
    change(&mut world, |_, backend| backend.slots = 0);
    assert_eq!(answers(&world), names(&[0, 1, 2, 3, 4]));
    world.reopen();
    assert_eq!(answers(&world), names(&[0, 1, 2, 3, 4]));
    change(&mut world, |n, backend| backend.slots = u8::from(n == 4));
    assert_eq!(answers(&world), names(&[4]));
}
