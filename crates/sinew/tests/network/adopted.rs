//! Real programs that were started without Sinew: adopted as they run, called by name, calling
//! services by name, let go again; and nothing of it disturbs them.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    life::WEB,
    world::{World, eventually, kill},
};

/// Programs of the host, in cgroups that are not Sinew's.
pub(crate) struct Outside<'a> {
    world: &'a World,
    cgroup: PathBuf,
    children: Vec<Child>,
}

impl<'a> Outside<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        let mut name = world.cgroup().as_os_str().to_owned();
        name.push("-outside");
        Self { world, cgroup: name.into(), children: Vec::new() }
    }

    pub(crate) fn place(&self, name: &str) -> PathBuf {
        let place = self.cgroup.join(name);
        fs::create_dir_all(&place).unwrap();
        place
    }

    fn command(place: &Path, program: &str, arguments: &[&str]) -> Command {
        use std::os::unix::process::CommandExt as _;
        let procs = place.join("cgroup.procs");
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: writes a file between fork and exec; the path was made before.
        unsafe { command.pre_exec(move || fs::write(&procs, "0")) };
        command
    }

    /// Starts a program in the cgroup called `name`.
    fn start(&mut self, name: &str, program: &str, arguments: &[&str]) -> u32 {
        let child = Self::command(&self.place(name), program, arguments).spawn().unwrap();
        let pid = child.id();
        self.children.push(child);
        pid
    }

    pub(crate) fn redis(&mut self, name: &str, port: u16) -> u32 {
        let (port, directory) = (port.to_string(), self.world.path(""));
        let directory = directory.to_str().unwrap();
        let arguments = ["--bind", "127.0.0.1", "--port", &port, "--save", "", "--dir", directory];
        let pid = self.start(name, "redis-server", &arguments);
        eventually("redis answers", || Redis::connect(port.parse().unwrap()).is_some());
        pid
    }

    /// Two workers that listen on every address.
    fn nginx(&mut self, name: &str, port: u16) -> u32 {
        let directory = self.world.path("nginx");
        fs::create_dir_all(&directory).unwrap();
        let at = directory.display();
        let file = directory.join("nginx.conf");
        let text = format!(
            "daemon off; worker_processes 2; pid {at}/pid; error_log {at}/error;
events {{}}
http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p;
  fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
  server {{ listen {port}; listen [::]:{port} ipv6only=on; return 200 'old nginx'; }} }}"
        );
        fs::write(&file, text).unwrap();
        let pid = self.start(name, "nginx", &["-c", file.to_str().unwrap()]);
        eventually("nginx answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        pid
    }
}

impl Drop for Outside<'_> {
    fn drop(&mut self) {
        let _ = self.world.try_run(&["down", "--purge", "--yes"]);
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        eventually("the cgroups are gone", || remove(&self.cgroup));
    }
}

fn remove(cgroup: &Path) -> bool {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
    !cgroup.exists()
}

/// A connection of the host's own that was there before.
struct Redis(BufReader<TcpStream>);

impl Redis {
    fn connect(port: u16) -> Option<Self> {
        let mut redis = Self(BufReader::new(TcpStream::connect(("127.0.0.1", port)).ok()?));
        (redis.ping() == "+PONG").then_some(redis)
    }

    fn ping(&mut self) -> String {
        let mut line = String::new();
        if self.0.get_mut().write_all(b"PING\r\n").is_ok() {
            let _ = self.0.read_line(&mut line);
        }
        line.trim().to_owned()
    }
}

const PING: &str = r#"
import socket
try:
    s = socket.create_connection(("cache", 6379), timeout=5); s.sendall(b"PING\r\n")
    known = [a[4][0] for a in socket.getaddrinfo("cache", 6379)]
    print(s.recv(99).decode().strip(), s.getpeername()[0] in known)
except Exception as e: print(type(e).__name__)"#;

/// What redis itself reaches at an address: it becomes a replica of what is there, and says so.
fn link_of(redis: &mut Redis) -> String {
    redis.0.get_mut().write_all(b"INFO replication\r\n").unwrap();
    let mut header = String::new();
    redis.0.read_line(&mut header).unwrap();
    let length: usize = header.trim().trim_start_matches('$').parse().unwrap();
    let mut text = vec![0; length + 2];
    redis.0.read_exact(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let line = text.lines().find(|line| line.starts_with("master_link_status:"));
    line.unwrap_or_default().trim().to_owned()
}

fn hooked(world: &World) -> usize {
    fs::read_dir(world.pins().join("links/hooked")).map_or(0, Iterator::count)
}

fn adopt(world: &World, target: &str, service: &str, port: &str) -> Value {
    world.json(&["adopt", target, "--service", service, "--port", port])
}

#[test]
fn a_process_is_moved_called_by_name_and_released() {
    let world = World::new();
    world.file(WEB);
    world.run(&["up", "-d"]);
    let mut outside = Outside::new(&world);
    let pid = outside.redis("old", 6379);
    let mut before = Redis::connect(6379).unwrap();

    let adopted = adopt(&world, &pid.to_string(), "cache", "6379:redis");
    assert_eq!(adopted["endpoints"], serde_json::json!(["127.0.0.1:6379"]), "{adopted}");
    assert_eq!(adopted["moved_from"], outside.place("old").to_str().unwrap());
    // Protected mode takes callers from 127.0.0.1 alone: they come from there as before.
    assert_eq!(world.member(PING), "+PONG True");
    assert_eq!(before.ping(), "+PONG", "a connection made before goes on");
    let ps = world.workloads("cache");
    assert_eq!((&ps[0]["state"], &ps[0]["pid"]), (&"up".into(), &pid.into()));
    assert_eq!(ps[0]["adopted"], format!("process {pid}"));
    let why = world.json(&["explain", "exec", "cache"]);
    assert_eq!(why["outcome"], "cache/0, the only fit one", "{why}");
    assert_eq!(why["endpoints"][0]["address"], "127.0.0.1");

    let agent = world.agent();
    world.kill_agent(agent);
    assert_eq!(before.ping(), "+PONG");
    world.start_agent();
    assert_eq!(world.member(PING), "+PONG True", "adopted through the agent's death");
    assert_eq!(world.workloads("cache")[0]["adopted"], format!("process {pid}"));

    let told = world.run(&["drain", "cache/0"]);
    assert!(told.contains("until it is adopted again"), "{told}");
    assert_eq!(world.workloads("cache")[0]["state"], "stopped");
    assert_eq!(world.member(PING), "ConnectionRefusedError", "out of the choice");
    adopt(&world, &pid.to_string(), "cache", "6379:redis");
    assert_eq!(world.member(PING), "+PONG True", "taken back");

    let told = world.run(&["release", "cache/0"]);
    let home = outside.place("old");
    assert!(told.contains(&format!("moved back to cgroup {}", home.display())), "{told}");
    let procs = fs::read_to_string(home.join("cgroup.procs")).unwrap();
    assert!(procs.lines().any(|line| line == pid.to_string()), "{procs}");
    assert_eq!(before.ping(), "+PONG");
    assert!(world.workloads("cache").is_empty());
    assert_eq!(world.member(PING), "gaierror", "its name is gone with it");

    // Adopted and killed: nobody is sent there, and it is not waited for.
    adopt(&world, &pid.to_string(), "cache", "6379:redis");
    kill(i32::try_from(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    eventually("the endpoint is gone", || world.workloads("cache").is_empty());
    let old = fs::read_to_string(world.path("state/state.json")).unwrap();
    assert!(!old.contains("start_ticks"), "nothing of it is kept: {old}");
}

#[test]
fn a_cgroup_is_hooked_in_place_and_calls_services_itself() {
    let world = World::new();
    world.file(WEB);
    world.run(&["up", "-d"]);
    let mut outside = Outside::new(&world);
    outside.nginx("unit/deep/deeper", 8081);
    let unit = outside.place("unit");
    let shown = unit.strip_prefix(unit.ancestors().nth(2).unwrap()).unwrap();
    let adopted = adopt(&world, &format!("/{}", shown.display()), "old-web", "8081:http");
    let listens = serde_json::json!(["127.0.0.1:8081", "[::1]:8081"]);
    assert_eq!(adopted["endpoints"], listens, "{adopted}");
    assert_eq!((&adopted["processes"], &adopted["moved_from"]), (&3.into(), &Value::Null));
    assert_eq!(hooked(&world), 1);
    let call = |family: &str| {
        let call = ["exec", "--", "curl", "-s", family, "http://old-web:8081/"];
        String::from_utf8_lossy(&world.try_run(&call).stdout).into_owned()
    };
    assert_eq!((call("-4").as_str(), call("-6").as_str()), ("old nginx", "old nginx"));

    // A redis beside it, in the same cgroup, that calls a redis of the network by its address there.
    let cache = outside.redis("other", 6379);
    adopt(&world, &cache.to_string(), "cache", "6379");
    outside.redis("unit/beside", 6400);
    let mut caller = Redis::connect(6400).unwrap();
    let service = world.json(&["services", "cache"])["address4"].as_str().unwrap().to_owned();
    let order = format!("REPLICAOF {service} 6379\r\n");
    caller.0.get_mut().write_all(order.as_bytes()).unwrap();
    let mut said = String::new();
    caller.0.read_line(&mut said).unwrap();
    assert!(said.starts_with("+OK"), "{said}");
    eventually("it replicates", || link_of(&mut caller) == "master_link_status:up");
    let resolve = "import socket; print(socket.gethostbyname('cache.sinew.internal'))";
    let mut inside = Outside::command(&unit, "python3", &["-c", resolve]);
    let resolved = inside.stdout(Stdio::piped()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&resolved.stdout).trim(), service, "by name as well");

    // The data path needs no agent, and a new one takes it up.
    let agent = world.agent();
    world.kill_agent(agent);
    assert_eq!(link_of(&mut caller), "master_link_status:up");
    world.start_agent();
    assert_eq!((hooked(&world), call("-4").as_str()), (1, "old nginx"));

    // A unit that is restarted has a new cgroup of the same name.
    let procs: Vec<i32> = pids(&unit);
    fs::write(unit.join("cgroup.kill"), "1").unwrap();
    for child in &mut outside.children {
        if procs.contains(&i32::try_from(child.id()).unwrap()) {
            child.wait().unwrap();
        }
    }
    eventually("its end is seen", || world.workloads("old-web")[0]["state"] == "exited");
    eventually("its cgroup is gone", || remove(&unit));
    outside.nginx("unit", 8081);
    eventually("it is taken in again", || world.workloads("old-web")[0]["state"] == "up");
    assert_eq!((hooked(&world), call("-4").as_str()), (1, "old nginx"));

    world.run(&["release", "old-web/0"]);
    assert_eq!(hooked(&world), 0, "nothing is hooked any more");
    assert!(TcpStream::connect(("127.0.0.1", 8081)).is_ok(), "it goes on");
}

fn pids(cgroup: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(pids(&entry.path()));
        }
    }
    found
}

#[test]
fn what_cannot_be_adopted_is_told_and_changes_nothing() {
    let world = World::new();
    world.file(WEB);
    world.run(&["up", "-d"]);
    let mut outside = Outside::new(&world);
    let first = outside.redis("first", 6379).to_string();
    outside.redis("second", 6400);
    let place = |name: &str| outside.cgroup.join(name).display().to_string();
    let refused = |arguments: &[&str]| {
        let output = world.try_run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let adopting = |target: &str, service: &str, port: &str| {
        refused(&["adopt", target, "--service", service, "--port", port])
    };
    let web = adopting(&first, "web", "6379");
    assert!(web.contains("taken by the project trial"), "{web}");
    let member = world.pid("web", 0).to_string();
    assert!(adopting(&member, "x", "8000").contains("belongs to Sinew already"));
    assert!(adopting("4194304", "x", "1").contains("there is no process 4194304"));
    let around = world.cgroup().parent().unwrap().display().to_string();
    assert!(adopting(&around, "x", "1").contains("is the root of all cgroups"));
    if !Path::new("/run/systemd/system").exists() {
        assert!(adopting("nginx", "x", "1").contains("systemd does not run on this machine"));
    }

    adopt(&world, &place("first"), "cache", "6379");
    let twice = adopting(&first, "again", "6379");
    assert!(twice.contains(&format!("the cgroup {}", place("first"))), "{twice}");
    assert!(twice.contains("cache/0") && twice.contains("sinew release cache/0"), "{twice}");
    let above = adopting(&outside.cgroup.display().to_string(), "again", "6400");
    assert!(above.contains("one in the other") && above.contains("cache/0"), "{above}");
    assert!(adopting(&place("second"), "cache", "6400").contains("other ports"));
    for (arguments, doing) in [
        (&["restart", "cache"][..], "cannot restart it"),
        (&["scale", "cache=2"], "cannot scale it"),
        (&["logs", "cache"], "cannot show its output"),
    ] {
        let said = refused(arguments);
        assert!(said.contains("cache is adopted") && said.contains(doing), "{said}");
    }
    assert!(refused(&["release", "cache/1"]).contains("cache/1 is no adopted endpoint"));
    world.file(&WEB.replace("  worker:", "  cache:"));
    assert!(refused(&["up", "-d"]).contains("held by a process that"));
    let all: Vec<_> = world.json(&["ps"]).as_array().unwrap().clone();
    assert_eq!(all.iter().filter(|w| w.get("adopted").is_some()).count(), 1);

    // Two that listen in one place: the later one is refused, with both named.
    let shared = outside.start("share", "python3", &["-c", SHARED]).to_string();
    eventually("both listen", || pids(&outside.cgroup.join("share")).len() == 2);
    eventually("it listens", || TcpStream::connect(("127.0.0.1", 7000)).is_ok());
    let child = pids(&outside.cgroup.join("share"));
    let child = child.iter().find(|pid| pid.to_string() != shared).unwrap().to_string();
    adopt(&world, &child, "one", "7000");
    let collides = adopting(&shared, "two", "7000");
    assert!(collides.contains(&format!("127.0.0.1:7000 of process {shared}")), "{collides}");
    assert!(
        collides.contains(&format!("one/0 listens, which is the process {child}")),
        "{collides}"
    );
}

/// A server and its child that share one listener.
const SHARED: &str = "
import os, socket, time
s = socket.create_server(('127.0.0.1', 7000)); os.fork(); time.sleep(1000)";

#[test]
fn a_purge_lets_everything_go() {
    let world = World::new();
    let before = world.left();
    world.file(WEB);
    world.run(&["up", "-d"]);
    let mut outside = Outside::new(&world);
    let cache = outside.redis("first", 6379);
    outside.redis("second", 6400);
    adopt(&world, &cache.to_string(), "cache", "6379");
    adopt(&world, outside.place("second").to_str().unwrap(), "store", "6400");
    let (mut one, mut two) = (Redis::connect(6379).unwrap(), Redis::connect(6400).unwrap());
    world.run(&["down", "--purge", "--yes"]);
    assert_eq!(world.left(), before);
    assert_eq!((one.ping().as_str(), two.ping().as_str()), ("+PONG", "+PONG"));
    assert_eq!(pids(&outside.place("first")).len(), 1, "moved back");
}

const LISTENS_ONCE: &str = "
import signal, socket
listener = socket.create_server(('127.0.0.1', 9100))
signal.signal(signal.SIGUSR1, lambda *_: listener.close())
while True: signal.pause()";

#[test]
fn a_stranger_at_the_place_of_a_closed_listener_is_not_called() {
    let world = World::new();
    world.start_agent();
    let mut outside = Outside::new(&world);
    for (name, service) in [("moved", "moved"), ("hooked", "hooked")] {
        let pid = outside.start(name, "python3", &["-c", LISTENS_ONCE]);
        eventually("it listens", || TcpStream::connect(("127.0.0.1", 9100)).is_ok());
        let place = outside.place(name);
        let below = place.strip_prefix(place.ancestors().nth(2).unwrap()).unwrap();
        let target = match name {
            "moved" => pid.to_string(),
            _ => format!("/{}", below.display()),
        };
        adopt(&world, &target, service, "9100");
        eventually("it is up", || world.workloads(service)[0]["state"] == "up");
        Command::new("kill").args(["-USR1", &pid.to_string()]).status().unwrap();
        let mut stranger = None;
        eventually("its place is free", || {
            stranger = std::net::TcpListener::bind(("127.0.0.1", 9100)).ok();
            stranger.is_some()
        });
        eventually("that it closed is seen", || world.workloads(service)[0]["state"] != "up");
        assert!(Path::new(&format!("/proc/{pid}")).exists(), "the program lives on");
        let call = ["exec", "--", "curl", "-s", "-m", "5", &format!("http://{service}:9100/")];
        assert_eq!(world.try_run(&call).status.code(), Some(7), "nobody is there");
    }
}
