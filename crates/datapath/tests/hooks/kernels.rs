//! Kernels that lack something. This one is described as such: by its own types, but for some names.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sinew_datapath::{Datapath as _, Error, TYPES};

use crate::world::{World, run};

/// A description of the kernel's types, removed with it.
struct Types(PathBuf);

impl Types {
    fn without(name: &str) -> Self {
        let mut types = fs::read(TYPES).unwrap();
        let text = [b"\0", name.as_bytes(), b"\0"].concat();
        let at = types.windows(text.len()).position(|found| found == text).unwrap();
        types[at + 1] = b'?';
        let directory = std::env::temp_dir();
        let path = directory.join(format!("sinew-types-{}-{name}", std::process::id()));
        fs::write(&path, types).unwrap();
        Self(path)
    }
}

impl Drop for Types {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

const SERVER: &str = r#"
import socket, threading
l = socket.socket(); l.bind(("0.0.0.0", 8080)); l.listen(64)
def serve(l):
    while True:
        c = l.accept()[0]; c.sendall(c.recv(9)); c.close()
try:
    l6 = socket.socket(socket.AF_INET6); l6.setsockopt(41, 26, 1)
    l6.bind(("::", 8080)); l6.listen(64)
    threading.Thread(target=serve, args=[l6], daemon=True).start()
except OSError: pass
print("ready")
serve(l)
"#;

/// Whether callers are answered: over IPv4, over IPv6, and what they are called.
const CALLS: &str = r#"
import socket
def call(family, at):
    s = socket.socket(family); s.settimeout(5); s.connect(at)
    assert s.getpeername()[:2] == at[:2], s.getpeername()
    s.sendall(b"x"); got = s.recv(9); s.close(); return got
print([call(socket.AF_INET, ("127.64.0.1", 8080)) for _ in range(9)].count(b"x"), end=" ")
print([call(socket.AF_INET6, ("fd53:696e:6577::1", 8080)) for _ in range(9)].count(b"x"))
"#;

fn serving(types: &Path, prepare: impl FnOnce()) -> World {
    let mut world = World::on(types, prepare).unwrap();
    world.serve(SERVER);
    world
}

/// Before 6.2: the programs as they are loaded there pass this kernel's verifier, and what needs no
/// context casts works.
#[test]
fn without_context_casts_connections_go_on_and_outcomes_are_unknown() {
    let types = Types::without("bpf_cast_to_kern_ctx");
    let mut world = serving(&types.0, || ());
    assert_eq!(world.python(2, 0, CALLS), "9 9");
    let stats: Vec<_> = (0..2).map(|n| world.stats(1, n, 8080)).collect();
    assert_eq!(stats.iter().map(|s| s.connections).sum::<u64>(), 18);
    assert!(stats.iter().all(|s| (s.active, s.sent_bytes, s.received_bytes) == (0, 0, 0)));

    // Who does not listen is not chosen; what does not depend on the kind of kernel goes on.
    let first = world.children().next().unwrap();
    world.kill(first);
    assert_eq!(world.python(2, 0, CALLS), "9 9");
    assert_eq!(world.stats(1, 0, 8080).ejections, 0);

    // The same pins on a kernel that has them: programs are loaded anew.
    world.describe(Path::new(TYPES));
    world.reopen();
    assert_eq!(world.python(2, 0, CALLS), "9 9");
    assert!(world.stats(1, 1, 8080).received_bytes > 0, "now they are counted");
}

/// What an agent may have left in a network namespace.
fn traces() -> String {
    let rules = run("ip", &["-6", "rule"]) + &run("ip", &["rule"]);
    rules + &run("ip", &["route", "show", "table", "all"]) + &run("ip", &["addr"])
}

#[test]
fn a_kernel_that_lacks_something_is_told_and_left_as_it_was() {
    for (name, what) in
        [("bpf_stab", "socket maps"), ("skc_ipv6only", "the place of sock_common.skc_ipv6only")]
    {
        let types = Types::without(name);
        let mut before = String::new();
        let failed = World::on(&types.0, || before = traces()).map(drop).unwrap_err();
        assert!(matches!(failed.error, Error::Unsupported { .. }), "{}", failed.error);
        let text = failed.error.to_string();
        assert!(text.contains(what) && text.contains("boot Linux 6.1 or later"), "{text}");
        assert!(!failed.pins.exists(), "{}", failed.pins.display());
        assert_eq!(traces(), before);
    }
}

#[test]
fn what_is_in_force_outlives_a_start_that_cannot_be() {
    let types = Types::without("bpf_stab");
    let mut world = serving(Path::new(TYPES), || ());
    let before = traces();
    world.describe(&types.0);
    assert!(matches!(world.try_reopen(), Err(Error::Unsupported { .. })));
    assert_eq!(world.python(2, 0, CALLS), "9 9");
    assert_eq!(traces(), before);
    world.describe(Path::new(TYPES));
    world.reopen();
    assert_eq!(world.python(2, 0, CALLS), "9 9");
    assert_eq!(world.kernel.totals().unwrap().sockets_lost, 0);
}

#[test]
fn without_ipv6_services_are_reached_all_the_same() {
    let off = || {
        for interface in ["all", "default", "lo"] {
            let knob = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
            fs::write(knob, "1").unwrap();
        }
    };
    let world = serving(Path::new(TYPES), off);
    assert_eq!(run("ip", &["-6", "addr"]), "", "there are no addresses");
    // Who asks for a service's IPv6 address is led to where its instances listen.
    assert_eq!(world.python(2, 0, CALLS), "9 9");
}
