//! Callers that never rest and never try again: what they meet is what a user meets.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Lines, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use crate::world::World;

/// Calls each service that it is given, over both families in turn, each call with a look-up and a
/// connection of its own. A line on standard input has it tell what came of the calls since the last.
const CALLER: &str = r#"
import collections, json, socket, sys, threading, time
lock, told = threading.Lock(), {}
def call(name, family):
    try:
        address = socket.getaddrinfo(name, 8000, family, socket.SOCK_STREAM)[0][4]
        with socket.socket(family, socket.SOCK_STREAM) as s:
            s.settimeout(20)
            s.connect(address)
            s.sendall(b"GET /answer HTTP/1.0\r\n\r\n")
            got = b""
            while more := s.recv(4096): got += more
        return "answered" if got.startswith(b"HTTP/1.0 200") and got.endswith(b"well\n") else repr(got)
    except OSError as error: return "%s over %s" % (repr(error), family.name)
def calls(name):
    for i in range(1 << 62):
        came = call(name, [socket.AF_INET, socket.AF_INET6][i % 2])
        with lock: told.setdefault(name, collections.Counter())[came] += 1
        time.sleep(.005)
for name in sys.argv[1:]: threading.Thread(target=calls, args=[name], daemon=True).start()
for line in sys.stdin:
    with lock:
        print(json.dumps(told), flush=True)
        told.clear()
"#;

/// What came of calls, by how they ended; `answered` is what is hoped for.
pub(super) type Outcome = BTreeMap<String, u64>;

pub(super) const ANSWERED: &str = "answered";

pub(super) struct Traffic {
    caller: Child,
    orders: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

impl Traffic {
    pub(super) fn start(world: &World, services: &[&str]) -> Self {
        let mut arguments = vec!["exec", "--", "python3", "-c", CALLER];
        arguments.extend(services);
        let mut caller =
            world.sinew(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let orders = caller.stdin.take().unwrap();
        let said = BufReader::new(caller.stdout.take().unwrap()).lines();
        Self { caller, orders, said }
    }

    /// What came of the calls since this was asked last, by service.
    pub(super) fn told(&mut self) -> BTreeMap<String, Outcome> {
        writeln!(self.orders).unwrap();
        serde_json::from_str(&self.said.next().expect("the caller lives").unwrap()).unwrap()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        let _ = self.caller.kill();
        let _ = self.caller.wait();
    }
}
