//! Hosts reach one another, and do not when they are cut, paused or dead; nothing of them stays.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sinew_hosts::{Error, Host, Hosts};

const SERVER: &str = r#"
import socket
server = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    s, peer = server.accept()
    s.sendall(peer[0].encode())
    s.close()
"#;

/// A server on a host, ready.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(host: &Host) -> Server {
    let mut command = host.command("python3").unwrap();
    let mut server = command.args(["-c", SERVER]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    Server(server)
}

/// As whom a server sees a caller, or what comes of the call.
fn call(from: &Host, to: impl std::fmt::Display) -> String {
    let script = format!(
        r#"
import socket
try: print(socket.create_connection(("{to}", 7000), timeout=1).makefile().read())
except OSError as e: print(type(e).__name__)
"#
    );
    let output = from.command("python3").unwrap().args(["-c", &script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn hosts_reach_one_another_until_they_are_cut() {
    let hosts = Hosts::new("test", 3).unwrap();
    let [one, two, three] = hosts.all() else { panic!("three") };
    let _servers = [serve(two), serve(three)];
    let seen = format!("::ffff:{}", one.address());
    assert_eq!(call(one, two.address()), seen);
    assert_eq!(call(one, two.address6()), one.address6().to_string());

    hosts.cut(two).unwrap();
    assert_eq!(call(one, two.address()), "TimeoutError");
    assert_eq!(call(one, two.address6()), "TimeoutError");
    assert_eq!(call(one, three.address()), seen, "the others are not");
    hosts.heal(two).unwrap();
    assert_eq!(call(one, two.address()), seen);

    hosts.cut_way(two, one).unwrap();
    assert_eq!(call(one, two.address()), "TimeoutError", "no answer gets back");
    assert_eq!(call(one, two.address6()), "TimeoutError");
    assert_eq!(call(three, two.address()), format!("::ffff:{}", three.address()));
    hosts.heal_way(two, one).unwrap();
    assert_eq!(call(one, two.address()), seen);
}

#[test]
fn hosts_are_paused_and_killed() {
    let hosts = Hosts::new("test", 2).unwrap();
    let [one, two] = hosts.all() else { panic!("two") };
    let mut server = serve(two);
    two.pause().unwrap();
    assert_eq!(
        call(one, two.address()),
        "TimeoutError",
        "accepted by the kernel, and not answered"
    );
    two.resume().unwrap();
    assert_eq!(call(one, two.address()), format!("::ffff:{}", one.address()));
    two.kill().unwrap();
    server.0.wait().unwrap();
    assert_eq!(call(one, two.address()), "ConnectionRefusedError", "the host itself is there");
    let _again = serve(two);
    assert_eq!(call(one, two.address()), format!("::ffff:{}", one.address()));
}

#[test]
fn people_can_do_it_as_well() {
    let hosts = Hosts::new("test", 2).unwrap();
    let _server = serve(&hosts.all()[1]);
    let script = |line: &str| {
        let path = format!("{}:{}", hosts.scripts().display(), std::env::var("PATH").unwrap());
        let output = Command::new("sh").args(["-c", line]).env("PATH", path).output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|o| String::from_utf8(o).unwrap());
        (output.status.code(), out.trim().to_owned(), err.trim().to_owned())
    };
    let (_, told, _) = script("on h1 sh -c 'echo $SINEW_HOST $SINEW_RUN; pwd'");
    let files = hosts.all()[0].files().display().to_string();
    assert_eq!(told, format!("h1 {files}/run\n{files}"));
    assert_eq!(script("on h2 uname -n").1, "h2");
    assert_eq!(script("echo one:two | cut -d: -f2").1, "two", "the tool is there still");
    let call =
        "on h1 python3 -c 'import socket; socket.create_connection((\"10.64.0.2\", 7000), 1)'";
    assert_eq!(script(call).0, Some(0));
    assert_eq!(script(&format!("cut h2 && {call}")).0, Some(1));
    assert_eq!(script(&format!("heal h2 && {call}")).0, Some(0));
    assert_eq!(script(&format!("pause h2 && resume h2 && {call}")).0, Some(0));
    assert_eq!(script(&format!("crash h2 && {call}")).0, Some(1));
    let wrong = script("cut h3");
    assert_eq!((wrong.0, wrong.2.as_str()), (Some(2), "usage: cut HOST; hosts: h1 h2"));
}

#[test]
fn there_can_be_too_many() {
    for count in [0, 201] {
        let error = Hosts::new("test", count).err().unwrap();
        assert!(matches!(error, Error::Count { .. }), "{error}");
    }
    let hosts = Hosts::new("test", 1).unwrap();
    assert_eq!(hosts.host(2).err().unwrap().to_string(), "there is no host 2: take 1 to 1");
}

/// Makes hosts, says so, and waits to be killed: what the next test runs.
#[test]
#[ignore = "a part of nothing_stays_of_a_process_that_was_killed"]
fn hosts_of_one_who_is_killed() {
    let hosts = Hosts::new("killed", 2).unwrap();
    let _server = serve(&hosts.all()[0]);
    println!("at {}", hosts.all()[0].cgroup().parent().unwrap().display());
    loop {
        std::thread::park();
    }
}

#[test]
fn nothing_stays_of_a_process_that_was_killed() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["hosts_of_one_who_is_killed", "--exact", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let cgroup: PathBuf = lines
        .find_map(|line| line.unwrap().split_once("at ").map(|(_, path)| path.into()))
        .unwrap();
    let name = cgroup.file_name().unwrap();
    let files = std::env::temp_dir().join(name);
    assert!(cgroup.exists() && files.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = |path: &Path| {
        let end = Instant::now() + Duration::from_secs(30);
        while fs::exists(path).unwrap() {
            assert!(Instant::now() < end, "{} is there still", path.display());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    gone(&cgroup);
    gone(&files);
}
