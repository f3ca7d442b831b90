//! Connections that ended while nobody looked: their counts come back, those of open ones stay.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::ffi::OsStrExt as _,
    path::Path,
    process::Stdio,
};

use rustix::process::Signal;
use sinew_abi::{self as abi, capacity as c, reclaim};
use sinew_datapath::{Datapath as _, backend_key, usage};
use sinew_model::Protocol;

use crate::{
    pins::detach,
    world::{World, eventually, signal},
};

const SERVER: &str = r#"
import socket, struct, threading
l = socket.socket(); l.bind(("0.0.0.0", 8080)); l.listen(64)
print("ready")
def serve(c):
    while d := c.recv(9):
        if d == b"reset":
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return c.close()
        c.sendall(d)
while True: threading.Thread(target=serve, args=[l.accept()[0]], daemon=True).start()
"#;

/// A caller with some connections, half of which it closes when it is told to.
const CALLER: &str = r#"
import os, signal, socket
# Numbers of sockets rise on each processor by themselves: those closed are to have the higher ones.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
def call():
    s = socket.create_connection(("127.64.0.1", 8080), timeout=5)
    s.sendall(b"x"); s.recv(1)
    return s
kept, closed = [call() for _ in range(3)], [call() for _ in range(3)]
print("open")
signal.sigwait({signal.SIGUSR1})
for s in closed: s.close()
signal.sigwait({signal.SIGUSR1})
for s in kept: s.close()
signal.pause()
"#;

fn world() -> World {
    let mut world = World::new();
    world.serve(SERVER);
    world
}

/// A caller that has closed its half while no program saw it.
fn closed_unseen(world: &mut World) -> u32 {
    assert_eq!(world.python_caller(2, CALLER), "open");
    let caller = world.children().last().unwrap();
    assert_eq!(world.active(1, 2, 8080), 6);
    detach(&world.pins().join("links/sock_release"));
    signal(caller, Signal::USR1);
    let sockets = || {
        let fds = fs::read_dir(format!("/proc/{caller}/fd")).unwrap().flatten();
        fds.filter(|fd| {
            fs::read_link(fd.path())
                .is_ok_and(|to| to.as_os_str().as_bytes().starts_with(b"socket:"))
        })
        .count()
    };
    eventually("the caller closes its half", || sockets() == 3);
    assert_eq!(world.kernel.mend().len(), 1);
    assert_eq!(world.active(1, 2, 8080), 6, "nobody saw it");
    caller
}

#[test]
fn what_ended_unseen_is_given_back_once_and_what_is_open_stays() {
    let mut world = world();
    let caller = closed_unseen(&mut world);
    let mut look = world.kernel.reconciliation().unwrap();
    assert_eq!(look().unwrap(), 0, "one look is not enough");
    assert_eq!(world.active(1, 2, 8080), 6);
    assert_eq!(look().unwrap(), 3);
    assert_eq!(world.active(1, 2, 8080), 3);
    let edge = world.kernel_edges(2, 1);
    assert_eq!((edge.active, edge.connects()), (3, 6), "what was counted stays counted");
    for _ in 0..3 {
        assert_eq!(look().unwrap(), 0, "once");
    }
    signal(caller, Signal::USR1);
    eventually("the others are closed in order", || world.active(1, 2, 8080) == 0);
    assert_eq!(world.kernel_edges(2, 1).connects(), 6);
}

#[test]
fn what_overflowed_is_given_back_as_well() {
    let mut world = world();
    let mut places = world.map::<abi::Socket>("SOCKETS");
    for place in 0..c::SOCKETS {
        let cookie = 1 << 40 | u64::from(place);
        places.set(place, abi::Socket { cookie, ..abi::Socket::ZERO }, 0).unwrap();
    }
    let overflowed = |world: &World| {
        let filling = world.kernel.filling().unwrap();
        filling.iter().find(|usage| usage.name == usage::SOCKETS).unwrap().used
    };
    let caller = closed_unseen(&mut world);
    assert_eq!(overflowed(&world), 6);
    let mut look = world.kernel.reconciliation().unwrap();
    assert_eq!([look().unwrap(), look().unwrap(), look().unwrap()], [0, 3, 0]);
    assert_eq!((world.active(1, 2, 8080), overflowed(&world)), (3, 3));
    signal(caller, Signal::USR1);
    eventually("the others are closed in order", || world.active(1, 2, 8080) == 0);
    assert_eq!(overflowed(&world), 0);
}

#[test]
fn a_look_that_was_killed_in_the_middle_is_finished_by_another() {
    let mut world = world();
    closed_unseen(&mut world);
    let mut places = world.map::<abi::Socket>("SOCKETS");
    let records = |world: &World| {
        let places = world.map::<abi::Socket>("SOCKETS");
        let all = places.iter().map(Result::unwrap).enumerate();
        all.filter(|(_, record)| record.cookie != 0).collect::<Vec<_>>()
    };
    let there = records(&world);
    assert_eq!(there.len(), 6);
    // The caller closed the younger ones.
    let (at, mut record) = *there.iter().max_by_key(|(_, record)| record.cookie).unwrap();
    record.cookie |= reclaim::CONDEMNED_COOKIE;
    places.set(at as u32, record, 0).unwrap();
    let mut look = world.kernel.reconciliation().unwrap();
    assert_eq!([look().unwrap(), look().unwrap(), look().unwrap()], [0, 3, 0]);
    assert_eq!((world.active(1, 2, 8080), records(&world).len()), (3, 3));
}

#[test]
fn who_has_found_a_record_before_it_was_condemned_ends_it_alone() {
    let mut world = world();
    closed_unseen(&mut world);
    let program = open_pin(&program(&world, "give_back"));
    let mut places = world.map::<abi::Socket>("SOCKETS");
    let there = places.iter().map(Result::unwrap).enumerate();
    let (at, record) = there.max_by_key(|(_, record)| record.cookie).unwrap();
    assert_eq!(give_back(program, record.cookie, reclaim::CONDEMN), reclaim::CONDEMNED);
    assert_eq!(give_back(program, record.cookie, reclaim::CONDEMN), reclaim::LEFT);
    // As a close does that has counted it down already; and then another connection has the place.
    for cookie in [0, record.cookie + 1] {
        places.set(at as u32, abi::Socket { cookie, ..record }, 0).unwrap();
        assert_eq!(give_back(program, record.cookie, reclaim::FINISH), reclaim::LEFT);
        assert_eq!(places.get(&(at as u32), 0).unwrap().cookie, cookie);
        assert_eq!(world.active(1, 2, 8080), 6);
    }
}

/// What the kernel's list of sockets does not show, or no process seems to hold.
const HIDDEN: &str = r#"
import array, ctypes, os, signal, socket, subprocess
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
def call():
    s = socket.create_connection(("127.64.0.1", 8080), timeout=5)
    s.sendall(b"x"); s.recv(1)
    return s
# Reset, and not closed yet.
reset = call(); reset.sendall(b"reset")
try: reset.recv(1)
except ConnectionResetError: pass
# On its way to another process: no descriptor leads to it.
ours, theirs = socket.socketpair()
sent = call()
ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [sent.fileno()]))])
sent.close()
# Of another network namespace.
if ctypes.CDLL(None, use_errno=True).unshare(0x40000000): raise OSError(ctypes.get_errno())
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
elsewhere = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
elsewhere.connect(("127.64.0.3", 7000))
print("open")
signal.sigwait({signal.SIGUSR1})
reset.close(); elsewhere.close(); ours.close(); theirs.close()
signal.pause()
"#;

#[test]
fn sockets_that_are_hard_to_see_stay_counted() {
    let mut world = world();
    world.service(3, 7000, Protocol::Udp, 1);
    assert_eq!(world.python_caller(2, HIDDEN), "open");
    let caller = world.children().last().unwrap();
    let active = |world: &World| {
        let udp = backend_key(3, 0, 7000, Protocol::Udp, 0);
        (world.active(1, 2, 8080), world.kernel.backends().unwrap()[&udp].active)
    };
    assert_eq!(active(&world), (2, 1));
    let mut look = world.kernel.reconciliation().unwrap();
    assert_eq!([look().unwrap(), look().unwrap(), look().unwrap()], [0; 3]);
    assert_eq!(active(&world), (2, 1));
    signal(caller, Signal::USR1);
    eventually("all are closed", || active(&world) == (0, 0));
    assert_eq!(world.kernel_edges(2, 1).reset, 1, "how it ended was seen when it was closed");
}

/// Tells the cookie of each connection, and closes it a moment later.
const FLEETING: &str = r#"
import os, random, socket, struct
for _ in range(2000):
    s = socket.create_connection(("127.64.0.1", 8080), timeout=5)
    os.write(1, s.getsockopt(socket.SOL_SOCKET, 57, 8))
    for _ in range(random.randrange(400)): pass
    s.close()
"#;

#[test]
fn a_release_and_a_giving_back_at_once_count_once() {
    let mut world = world();
    world.client(4);
    let program = open_pin(&program(&world, "give_back"));
    let mut callers: Vec<_> = [2, 4]
        .map(|service| {
            let mut command = world.command(service, 0, "python3", &["-c", FLEETING]);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap()
        })
        .into();
    let racers: Vec<_> = callers
        .iter_mut()
        .map(|caller| {
            let mut told = BufReader::with_capacity(8, caller.stdout.take().unwrap());
            std::thread::spawn(move || {
                let mut answers = [0; 3];
                let mut condemned = Vec::new();
                while let Ok(&[a, b, c, d, e, f, g, h]) = told.fill_buf() {
                    let cookie = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
                    told.consume(8);
                    let answer = give_back(program, cookie, reclaim::CONDEMN);
                    answers[answer as usize] += 1;
                    if answer == reclaim::CONDEMNED {
                        condemned.push(cookie);
                    }
                }
                (answers, condemned)
            })
        })
        .collect();
    for caller in &mut callers {
        assert!(caller.wait().unwrap().success());
    }
    for racer in racers {
        let (answers, condemned) = racer.join().unwrap();
        assert!(
            answers[reclaim::LEFT as usize] > 0 && !condemned.is_empty(),
            "either is the first at times: {answers:?}"
        );
        sinew_datapath::grace_period().unwrap();
        for cookie in condemned {
            give_back(program, cookie, reclaim::FINISH);
        }
    }
    for n in 0..2 {
        assert_eq!(world.stats(1, n, 8080).active, 0);
    }
    let places = world.map::<abi::Socket>("SOCKETS");
    assert!(places.iter().all(|record| record.unwrap().cookie == 0), "every place is free");
    let connects: u64 = [2, 4].map(|source| world.kernel_edges(source, 1).connects()).iter().sum();
    assert_eq!(connects, 4000);
}

fn program(world: &World, name: &str) -> std::path::PathBuf {
    crate::pins::programs(&crate::pins::maps(world)).join(name)
}

fn bpf<const N: usize>(command: i64, attributes: &mut [u64; N]) -> i32 {
    // SAFETY: prefixes of `union bpf_attr`, whose pointers outlive the call.
    let done = unsafe {
        libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes))
    };
    assert!(done >= 0, "{}", std::io::Error::last_os_error());
    done as i32
}

fn open_pin(pin: &Path) -> i32 {
    let path = std::ffi::CString::new(pin.as_os_str().as_bytes()).unwrap();
    bpf(7, &mut [path.as_ptr() as u64, 0])
}

/// `BPF_PROG_TEST_RUN`.
fn give_back(program: i32, cookie: u64, call: u64) -> u32 {
    let arguments = [cookie, call];
    let mut run = [program as u64, 0, 0, 0, 0, 16, arguments.as_ptr() as u64, 0];
    bpf(10, &mut run);
    (run[0] >> 32) as u32
}
