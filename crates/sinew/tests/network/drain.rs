//! The deadline of a drain: who still holds a connection then loses it.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Command, Stdio},
};

use crate::world::World;

/// Gives each connection away to a process that is no member and keeps it open: only its caller's
/// end can be closed.
const SERVER: &str = r#"
import socket
keeper = socket.socket(socket.AF_UNIX); keeper.connect("keeper.sock")
l = socket.create_server(("0.0.0.0", 8000))
while True:
    c = l.accept()[0]
    socket.send_fds(keeper, [b"x"], [c.fileno()]); keeper.recv(1)
    c.sendall(b"hello"); c.close()
"#;

const KEEPER: &str = r#"
import socket, sys, threading
l = socket.socket(socket.AF_UNIX); l.bind("keeper.sock"); l.listen()
print("ready", flush=True)
def keep():
    c = l.accept()[0]
    while socket.recv_fds(c, 1, 1)[1]: c.send(b"x")
threading.Thread(target=keep, daemon=True).start()
sys.stdin.read()
"#;

const CALLER: &str = r#"
import socket
s = socket.create_connection(("web", 8000), timeout=60)
print(s.recv(9).decode(), flush=True)
try: print(s.recv(9))
except OSError as e: print(type(e).__name__)
"#;

const FILE: &str = r#"
name: trial
services:
  web:
    command: [python3, server.py]
    port: 8000
    stop: {grace: 1s}
"#;

#[test]
fn a_connection_that_outlasts_the_drain_is_closed() {
    let world = World::new();
    std::fs::write(world.path("server.py"), SERVER).unwrap();
    let mut keeper = Command::new("python3")
        .args(["-c", KEEPER])
        .current_dir(world.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    world.file(FILE);
    world.run(&["up", "-d"]);
    let mut caller = world
        .sinew(&["exec", "--", "python3", "-c", CALLER])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(caller.stdout.take().unwrap());
    line.clear();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "hello\n");
    let drained = world.run(&["drain", "web/0"]);
    assert!(drained.contains("web/0"), "{drained}");
    assert_eq!(world.workloads("web")[0]["state"], "stopped");
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    caller.wait().unwrap();
    assert_eq!(rest, "ConnectionAbortedError\n");
    drop(keeper.stdin.take());
    keeper.wait().unwrap();
}
