//! Names are answered whatever becomes of the agent and of the resolver.

use std::{
    fs,
    io::{BufRead as _, BufReader, Lines, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    life::WEB,
    world::{World, eventually, kill, tool},
};

/// A member that looks `web` up all the time, and other names when it is told to.
struct Asker {
    child: Child,
    orders: ChildStdin,
    said: Lines<BufReader<ChildStdout>>,
}

const ASKER: &str = r#"
import socket, sys, threading
def ask(name):
    try: return socket.gethostbyname(name)
    except OSError as error: return repr(error)
wrong, asked, known = [], 0, ask("web")
def always():
    global asked
    while True:
        said = ask("web")
        asked += 1
        if said != known: wrong.append((asked, said))
threading.Thread(target=always, daemon=True).start()
for name in sys.stdin:
    name = name.strip()
    print({"asked?": asked, "wrong?": len(wrong)}.get(name) if name.endswith("?") else ask(name), flush=True)
    if name == "wrong?" and wrong: print(wrong[:9], file=sys.stderr); wrong.clear()
"#;

impl Asker {
    fn new(world: &World) -> Self {
        let mut child = world
            .sinew(&["exec", "--", "python3", "-c", ASKER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, orders, said }
    }

    fn ask(&mut self, what: &str) -> String {
        writeln!(self.orders, "{what}").unwrap();
        self.said.next().unwrap().unwrap()
    }

    /// Waits until it asked often, for longer than a resolver is trusted that shows no life; says how
    /// many answers were not right.
    fn wrong_after_many(&mut self) -> u32 {
        const TRUSTED: Duration = Duration::from_secs(1);
        let (begin, many) = (Instant::now(), self.ask("asked?").parse::<u32>().unwrap() + 300);
        eventually("more was asked", || {
            let asked: u32 = self.ask("asked?").parse().unwrap();
            begin.elapsed() > TRUSTED * 2 && asked >= many
        });
        self.ask("wrong?").parse().unwrap()
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn resolver(world: &World) -> i32 {
    let text = fs::read(world.path("run/resolver/state.json")).unwrap_or_default();
    let state: Value = serde_json::from_slice(&text).unwrap_or_default();
    state["process"]["pid"].as_i64().and_then(|pid| pid.try_into().ok()).unwrap_or(0)
}

fn is_gone(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.is_empty() || status.contains("State:\tZ")
}

fn is_address(said: &str) -> bool {
    said.parse::<std::net::Ipv4Addr>().is_ok()
}

#[test]
fn names_outlive_agent_and_resolver() {
    let world = World::new();
    world.file(WEB);
    world.run(&["up", "-d"]);
    let first = resolver(&world);
    let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
    assert!(status.contains("CapPrm:\t0000000000000000\n"), "{status}");
    assert!(status.contains("NoNewPrivs:\t1\n") && !status.contains("Uid:\t0\t"), "{status}");
    let mut asker = Asker::new(&world);
    let web = asker.ask("web");
    assert!(is_address(&web), "{web}");

    world.kill_agent(world.agent());
    assert_eq!(asker.wrong_after_many(), 0, "without an agent");
    assert_eq!(asker.ask("web.sinew.internal"), web);

    world.start_agent();
    assert_eq!(resolver(&world), first, "the resolver was taken up");
    world.file(&WEB.replace("  worker:", "  extra:\n    command: [sleep, \"9\"]\n  worker:"));
    world.run(&["up", "-d"]);
    assert!(is_address(&asker.ask("extra")), "a new name is served when it is ready");
    assert_eq!(asker.wrong_after_many(), 0, "with another agent");

    kill(world.agent(), Signal::TERM).unwrap();
    eventually("the agent has ended", || !world.try_run(&["ps"]).status.success());
    assert!(!is_gone(first), "an agent that ends leaves names alone");
    upgrade(&world);
    let second = resolver(&world);
    assert_ne!(second, first, "another version has its own");
    eventually("the old one has ended", || is_gone(first));
    assert_eq!(asker.wrong_after_many(), 0, "while the resolver was replaced");

    kill(second, Signal::KILL).unwrap();
    eventually("there is another one", || ![0, second].contains(&resolver(&world)));
    eventually("it answers", || asker.ask("web") == web);
    let third = resolver(&world);
    drop(asker);
    world.run(&["down", "--purge", "--yes"]);
    assert!(is_gone(third), "a purge leaves no process");
    assert!(!world.path("run").exists());
}

/// Another file with the same program in it: an upgrade.
fn upgrade(world: &World) {
    let fresh = world.path("sinew-of-tomorrow");
    fs::copy(env!("CARGO_BIN_EXE_sinew"), &fresh).unwrap();
    let like = world.sinew(&["agent"]);
    let mut agent = Command::new(fresh);
    agent.arg("agent").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => agent.env(name, value),
            None => agent.env_remove(name),
        };
    }
    let mut agent = agent.spawn().unwrap();
    std::thread::spawn(move || agent.wait());
    eventually("the new agent answers", || world.try_run(&["ps"]).status.success());
}

#[test]
fn a_resolver_without_a_directory_ends_and_comes_back() {
    let world = World::new();
    world.file(WEB);
    world.run(&["up", "-d"]);
    world.kill_agent(world.agent());
    let first = resolver(&world);
    fs::remove_dir_all(world.path("run/resolver")).unwrap();
    eventually("it ends by itself", || is_gone(first));
    world.start_agent();
    assert!(is_address(&world.member("import socket; print(socket.gethostbyname('web'))")));
}

/// Answers every query for an A record with 192.0.2.7, where the host's name server would be.
const UPSTREAM: &str = r#"
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[1], 53))
print("bound", flush=True)
while True:
    query, who = s.recvfrom(512)
    end = query.index(0, 12) + 5
    kind = query[end - 4:end - 2]
    head = query[:2] + b"\x81\x80\0\1\0" + (b"\1" if kind == b"\0\1" else b"\0") + b"\0\0\0\0"
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\xc0\0\2\7" if kind == b"\0\1" else b""
    s.sendto(head + query[12:end] + answer, who)
"#;

/// The host's name server, in the namespace of the test.
pub(crate) struct NameServer(Child);

impl NameServer {
    pub(crate) fn start() -> Self {
        let text = fs::read_to_string("/etc/resolv.conf").unwrap();
        let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver "));
        let server: std::net::Ipv4Addr =
            servers.filter_map(|server| server.trim().parse().ok()).next().expect("a name server");
        if !server.is_loopback() {
            tool("ip", &["addr", "add", &format!("{server}/32"), "dev", "lo"]);
        }
        let mut child = Command::new("python3")
            .args(["-c", UPSTREAM, &server.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "bound\n");
        Self(child)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_hung_resolver_is_passed_by_and_replaced() {
    let world = World::new();
    let _upstream = NameServer::start();
    world.file(WEB);
    world.run(&["up", "-d"]);
    let mut asker = Asker::new(&world);
    let web = asker.ask("web");
    assert_eq!(asker.ask("example.org"), "192.0.2.7");

    // Nobody is there to replace it: the kernel passes it by.
    world.kill_agent(world.agent());
    let first = resolver(&world);
    kill(first, Signal::STOP).unwrap();
    let asked_there = "192.0.2.7";
    eventually("the host's name server is asked", || asker.ask("web") == asked_there);
    assert_eq!(asker.ask("example.org"), asked_there);

    // An agent that starts does not wait for it.
    world.start_agent();
    eventually("there is another one", || ![0, first].contains(&resolver(&world)));
    eventually("services have names again", || asker.ask("web") == web);

    // One that is there replaces it.
    let second = resolver(&world);
    kill(second, Signal::STOP).unwrap();
    eventually("the hung one is replaced", || ![0, second].contains(&resolver(&world)));
    eventually("services have names again", || asker.ask("web") == web);
    assert_eq!(asker.ask("example.org"), "192.0.2.7");
    assert!(is_gone(first) && is_gone(second));
}
