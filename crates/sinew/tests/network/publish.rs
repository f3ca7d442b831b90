//! Published ports, with real nginx and curl from another network namespace.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    look::Following,
    world::{World, eventually, kill, tool},
};

/// A machine of its own, joined to the test's by a cable.
struct Outside {
    holder: Child,
}

/// Addresses of the test's end of the cable.
const HOST4: &str = "10.77.0.1";
const HOST6: &str = "[fd77::1]";

impl Outside {
    fn new() -> Self {
        let mut holder = Command::new("unshare");
        let holder = holder.args(["--net", "sleep", "1000000"]).stdout(Stdio::null());
        let outside = Self { holder: holder.spawn().unwrap() };
        let pid = outside.holder.id().to_string();
        let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/net")).unwrap();
        eventually("it has a network of its own", || namespace(&pid) != namespace("thread-self"));
        tool("ip", &["link", "add", "host", "type", "veth", "peer", "name", "out", "netns", &pid]);
        tool("ip", &["addr", "add", "10.77.0.1/24", "dev", "host"]);
        tool("ip", &["addr", "add", "fd77::1/64", "dev", "host", "nodad"]);
        tool("ip", &["link", "set", "host", "up"]);
        outside.tool("ip", &["addr", "add", "10.77.0.2/24", "dev", "out"]);
        outside.tool("ip", &["addr", "add", "fd77::2/64", "dev", "out", "nodad"]);
        outside.tool("ip", &["link", "set", "out", "up"]);
        outside
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--net", program]);
        command.args(arguments);
        command
    }

    fn tool(&self, program: &str, arguments: &[&str]) {
        assert!(self.command(program, arguments).status().unwrap().success());
    }

    /// Calls `url` so many times, each on a connection of its own; how often it got which answer.
    /// curl's exit codes stand for what failed: 7 is refused.
    fn curl(&self, url: &str, times: u32) -> BTreeMap<String, u32> {
        let script = format!(
            "for i in $(seq {times}); do curl -gs --max-time 10 {url} || echo \"curl $?\"; done"
        );
        let output = self.command("sh", &["-c", &script]).output().unwrap();
        let mut counts = BTreeMap::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            *counts.entry(line.to_owned()).or_default() += 1;
        }
        counts
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// nginx that says which replica it is.
const NGINX: &str = r#"
cat > $SINEW_REPLICA.conf <<END
daemon off; pid $SINEW_REPLICA.pid; error_log stderr; worker_processes 1;
events {}
http { access_log off; server { listen 8080; listen [::]:8080;
    location / { return 200 "replica $SINEW_REPLICA\n"; } } }
END
echo $GODEBUG > $SINEW_REPLICA.godebug
exec nginx -e stderr -p . -c $SINEW_REPLICA.conf
"#;

fn project(replicas: u32, publish: &str) -> String {
    format!(
        "name: trial\nservices:\n  web:\n    command: sh ./start\n    port: http:8080\n    \
         replicas: {replicas}\n    publish: ['{publish}']\n"
    )
}

fn nginx(replicas: u32, publish: &str) -> World {
    let world = World::new();
    std::fs::write(world.path("start"), NGINX).unwrap();
    world.file(&project(replicas, publish));
    world.run(&["up", "-d"]);
    world
}

fn alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
}

fn answers(counts: &BTreeMap<String, u32>) -> Vec<&str> {
    counts.keys().map(String::as_str).collect()
}

const ALL: [&str; 3] = ["replica 0", "replica 1", "replica 2"];
const REFUSED: [&str; 1] = ["curl 7"];

#[test]
fn nginx_is_called_from_outside_through_all_that_happens() {
    let world = nginx(3, "[::]:8000:http");
    let outside = Outside::new();
    let (url4, url6) = (format!("http://{HOST4}:8000/"), format!("http://{HOST6}:8000/"));
    for url in [&url4, &url6] {
        // nginx is ready when it listens on one family; the other follows.
        eventually("all of them listen", || answers(&outside.curl(url, 30)) == ALL);
        let counts = outside.curl(url, 90);
        assert!(answers(&counts) == ALL && counts.values().all(|n| *n > 10), "{counts:?}");
    }
    let shown = world.run(&["services", "web"]);
    assert!(shown.contains("published  [::]:8000:http"), "{shown}");

    let told = world.json(&["explain", "outside", "web"]);
    assert_eq!(told["outcome"], "one of web/0, web/1, web/2");
    let told_go = std::fs::read_to_string(world.path("0.godebug")).unwrap();
    assert_eq!(told_go, "multipathtcp=0\n", "Go must listen where packets can be handed to it");

    kill(world.pid("web", 1), rustix::process::Signal::KILL).unwrap();
    let counts = outside.curl(&url4, 60);
    assert!(counts.keys().all(|answer| answer.starts_with("replica")), "{counts:?}");
    eventually("the killed one is back", || answers(&outside.curl(&url4, 30)) == ALL);

    world.run(&["drain", "web/2"]);
    assert_eq!(answers(&outside.curl(&url4, 30)), ALL[..2]);
    world.run(&["restart", "web"]);
    world.run(&["scale", "web=0"]);
    assert_eq!(answers(&outside.curl(&url4, 1)), REFUSED, "nobody is there, and says so at once");
    world.run(&["up", "-d"]);

    let (agent, victim) = (world.agent(), world.pid("web", 0));
    world.kill_agent(agent);
    assert_eq!(answers(&outside.curl(&url4, 60)), ALL, "the kernel goes on");
    kill(victim, rustix::process::Signal::KILL).unwrap();
    eventually("it listens again, and nobody had to tell the kernel", || {
        let counts = outside.curl(&url6, 30);
        !alive(victim) && answers(&counts) == ALL
    });
    world.start_agent();
    assert_eq!(answers(&outside.curl(&url4, 60)), ALL);
    let edges = world.json(&["top", "--once"]);
    assert!(edges.to_string().contains("outside"), "{edges}");

    world.run(&["down"]);
    assert_eq!(answers(&outside.curl(&url4, 1)), REFUSED);
    let link = Path::new("/sys/fs/bpf").join(world.name()).join("links/published");
    assert!(!link.exists(), "nothing looks at packets any more");
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8000)).unwrap();
}

#[test]
fn flows_show_who_comes_from_outside() {
    let world = nginx(2, "[::]:8000:http");
    let outside = Outside::new();
    let (url4, url6) = (format!("http://{HOST4}:8000/"), format!("http://{HOST6}:8000/"));
    for url in [&url4, &url6] {
        eventually("both of them listen", || answers(&outside.curl(url, 30)) == ALL[..2]);
    }
    let mut follower = Following::start(&world, &["flows", "-f"]);
    assert!(follower.line().starts_with("TIME"));
    // A member's connection is told once, not from its server's end too.
    world.member("import socket; s = socket.create_connection(('web', 8080)); s.close()");
    assert!(follower.line().contains(" exec "));
    for url in [&url4, &url6] {
        let answer = outside.curl(url, 1).into_keys().next().unwrap();
        let line = follower.line();
        let words: Vec<&str> = line.split_whitespace().collect();
        let web = format!("web/{}", answer.strip_prefix("replica ").unwrap());
        assert_eq!(words[1..5], ["outside", "web:8000", &web, "closed"], "{line}");
    }
    // Gone before an answer, and without a word.
    let leaves = "import socket, struct
s = socket.create_connection(('10.77.0.1', 8000))
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))";
    outside.tool("python3", &["-c", leaves]);
    assert!(follower.line().contains(" cancelled "));
    world.run(&["scale", "web=0"]);
    eventually("nobody is left", || world.workloads("web").is_empty());
    assert_eq!(answers(&outside.curl(&url4, 1)), REFUSED);
    let refused = follower.line();
    assert!(
        refused.contains(" outside ") && refused.ends_with("no backend of the service listens")
    );
    drop(follower);

    let told = world.run(&["flows", "--from", "outside", "--output", "json"]);
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let addresses: Vec<_> = told.iter().map(|flow| flow["address"].as_str().unwrap()).collect();
    assert_eq!(addresses, ["10.77.0.1", "fd77::1", "10.77.0.1", "10.77.0.1"]);
    for call in &told[..2] {
        let number = |field: &str| call[field].as_u64().unwrap();
        assert!(number("sent_bytes") > 50 && number("received_bytes") > 100, "{call}");
        assert!(number("connect_us") > 0, "{call}");
    }
}

#[test]
fn a_port_has_one_holder() {
    let world = World::new();
    std::fs::write(world.path("start"), NGINX).unwrap();
    world.file(&project(1, "127.0.0.1:8000:http"));
    let holder = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8000)).unwrap();
    let refused = world.try_run(&["up", "-d"]);
    let text = String::from_utf8_lossy(&refused.stderr);
    let process = format!("(process {})", std::process::id());
    assert!(
        text.contains("services.web.publish[0]: 127.0.0.1:8000")
            && text.contains(&process)
            && text.contains("choose another port, or stop that program"),
        "{text}"
    );
    assert!(world.json(&["ps"]).as_array().unwrap().is_empty(), "nothing was done");
    drop(holder);
    world.run(&["up", "-d"]);
    let later = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8000)).unwrap();
    let told =
        format!("{process} listens on 0.0.0.0:8000; what comes to 127.0.0.1:8000 goes to web");
    for shown in [world.run(&["services", "web"]), world.run(&["doctor"])] {
        assert!(shown.contains(&told), "{shown}");
    }
    drop(later);
    let shown = world.run(&["services", "web"]);
    assert!(!shown.contains("listens on"), "{shown}");
    let other = project(1, "0.0.0.0:8000:http").replace("trial", "other").replace("web:", "site:");
    world.file(&other);
    let refused = world.try_run(&["up", "-d"]);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("the service web of the project trial has 127.0.0.1:8000"), "{text}");
    world.file(&project(1, "192.0.2.1:8000:http"));
    let refused = world.try_run(&["up", "-d"]);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("192.0.2.1 cannot be listened on"), "{text}");
    world.file(&project(1, "127.0.0.1:8001:http"));
    world.run(&["up", "-d"]);
    let own = tool("curl", &["-s", "http://127.0.0.1:8001/"]);
    assert_eq!(own, "replica 0\n", "moved to another port, without a new process");
    TcpListener::bind((Ipv4Addr::LOCALHOST, 8000)).unwrap();
    let member = world.member(
        "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8001/').read().decode())",
    );
    assert_eq!(member, "replica 0", "a member that calls the host");
}

#[test]
fn what_cannot_be_reached_is_explained() {
    let world = World::new();
    let server = "import socket, time\ns = socket.socket(2, 1, 262)\ns.bind(('0.0.0.0', 8080))\n\
                  s.listen()\nwhile True: s.accept()[0].sendall(b'here')\n";
    std::fs::write(world.path("start"), format!("exec python3 -c \"{server}\"")).unwrap();
    world.file(&project(1, "127.0.0.1:8000:http"));
    world.run(&["up", "-d"]);
    // Kernels differ in whether they hand packets to MPTCP sockets.
    if std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, 8000)).is_err() {
        let told = world.run(&["explain", "outside", "web"]);
        assert!(told.contains("MPTCP") && told.contains("GODEBUG=multipathtcp=0"), "{told}");
    }
    world.file(&project(1, "127.0.0.1:8000:http").replace("    publish", "    #"));
    world.run(&["up", "-d"]);
    let refused = world.try_run(&["explain", "outside", "web"]);
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("no port of the host leads to port http:8080 of web"), "{text}");
}
