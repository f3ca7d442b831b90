//! An agent of another version takes over what runs, under load. `SINEW_OLDER=PATH` names a build of
//! an older version, as of one whose maps are laid out otherwise; without it a build replaces itself.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::Stdio,
};

use crate::{
    life::calls,
    world::{World, kill},
};

const PROJECT: &str = r#"
name: trial
services:
  web:
    command: ["python3", "-u", "server.py"]
    port: 8000
    replicas: 3
"#;

const SERVER: &str = r#"
import socket, threading
l = socket.create_server(("0.0.0.0", 8000), backlog=512)
def serve(c):
    while True:
        d = c.recv(99)
        if not d: return c.close()
        c.sendall(b"HTTP/1.0 200 " + d)
while True: threading.Thread(target=serve, args=[l.accept()[0]], daemon=True).start()
"#;

/// Calls without end, over new connections and over one that lasts, until its input ends; prints how
/// many went well, and what did not.
const CALLER: &str = r#"
import socket, sys, threading
end = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), end.set()), daemon=True).start()
def connect():
    s = socket.create_connection(("web", 8000), timeout=10); s.settimeout(10); return s
def call(s):
    s.sendall(b"x"); assert s.recv(99) == b"HTTP/1.0 200 x"
lasts = connect(); call(lasts); print("ready", flush=True)
well, ill = 0, []
while not end.is_set():
    try:
        s = connect(); call(s); s.close(); well += 1
        if well % 16 == 0: call(lasts)
    except Exception as e: ill.append(repr(e))
call(lasts)
print(well, ill, flush=True)
"#;

#[test]
fn an_upgrade_under_load_loses_nothing() {
    let own = PathBuf::from(env!("CARGO_BIN_EXE_sinew"));
    let older = std::env::var_os("SINEW_OLDER").map_or_else(|| own.clone(), PathBuf::from);
    let world = World::new();
    let before = world.left();
    fs::write(world.path("server.py"), SERVER).unwrap();
    world.file(PROJECT);
    world.start_agent_of(&older, &[]);
    let up = world.sinew_of(&older, &["up", "-d"]).output().unwrap();
    assert!(up.status.success(), "{up:?}");
    let pids = || (0..3).map(|replica| world.pid("web", replica)).collect::<Vec<_>>();
    let first = pids();
    let pins = || {
        let entries = fs::read_dir(world.pins()).unwrap().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let older_pins = pins();

    let mut caller = world
        .sinew_of(&older, &["exec", "--", "python3", "-c", CALLER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(caller.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("ready"));
    let agent = world.agent();
    kill(agent, rustix::process::Signal::TERM).unwrap();
    world.kill_agent(agent);
    world.start_agent();
    assert_eq!(world.member(&calls(50)), "{'ok': 50}", "new callers");
    assert_eq!(pids(), first, "nothing was started again");
    world.run(&["scale", "web=4"]);
    let mut input = caller.stdin.take().unwrap();
    input.flush().unwrap();
    drop(input);
    let counts = lines.next().unwrap();
    let (well, ill) = counts.split_once(' ').unwrap();
    assert_eq!(ill, "[]", "of {well} more; from {older_pins:?} to {:?}", pins());
    assert!(well.parse::<u32>().unwrap() > 100, "{well}");
    assert!(caller.wait().unwrap().success());
    assert_eq!(pins(), ["links".to_owned(), format!("v{}", sinew_abi::ABI_VERSION)]);
    world.run(&["down", "--purge", "--yes"]);
    assert_eq!(world.left(), before);
}
