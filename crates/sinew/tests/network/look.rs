//! What a user sees of the traffic: connections one by one.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use serde_json::Value;

use crate::{
    life::{WEB, calls},
    world::World,
};

/// A command that prints while the test goes on.
pub(crate) struct Following {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// What it was asked, and what it has said since.
    said: Vec<String>,
}

/// The longest time that a test waits for a line.
const PATIENCE: Duration = Duration::from_secs(60);

impl Following {
    pub(crate) fn start(world: &World, arguments: &[&str]) -> Self {
        let mut child = world.sinew(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        // Ends with the command, or when nobody listens any more.
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { child, lines, said: vec![format!("sinew {}", arguments.join(" "))] }
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.said.push(line.clone());
                line
            }
            Err(why) => {
                let why = match why {
                    RecvTimeoutError::Timeout => "printed no further line within a minute",
                    RecvTimeoutError::Disconnected => "ended",
                };
                let [command, said @ ..] = &self.said[..] else { unreachable!() };
                panic!("`{command}` {why}, behind {} lines:\n{}", said.len(), said.join("\n"));
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Fails to connect, and says how.
pub(crate) fn failing(port: u16) -> String {
    format!(
        "import socket
try: socket.create_connection((socket.gethostbyname('web'), {port}), timeout=5)
except Exception as e: print(type(e).__name__)"
    )
}

#[test]
fn flows_show_calls_and_refusals() {
    let world = World::new();
    world.file(WEB);
    world.run(&["up", "-d"]);
    let mut follower = Following::start(&world, &["flows", "-f", "--from", "exec", "--to", "web"]);
    assert!(follower.line().starts_with("TIME"), "from here on the agent tells");
    assert_eq!(world.member(&calls(1)), "{'ok': 1}");
    let call = follower.line();
    let words: Vec<&str> = call.split_whitespace().collect();
    assert_eq!((words[1], words[2], words[4]), ("exec", "web:8000", "closed"), "{call}");
    assert!(["web/0", "web/1", "web/2"].contains(&words[3]), "{call}");

    assert_eq!(world.member(&failing(9)), "ConnectionRefusedError");
    let refused = follower.line();
    assert!(refused.contains("web:9 "), "{refused}");
    assert!(refused.ends_with("the service has no such port"), "{refused}");

    world.run(&["scale", "web=0"]);
    crate::world::eventually("nobody is left", || world.workloads("web").is_empty());
    assert_eq!(world.member(&failing(8000)), "ConnectionRefusedError");
    let refused = follower.line();
    assert!(refused.ends_with("no backend of the service listens"), "{refused}");
    drop(follower);

    // A name that nobody has or had is a slip.
    for (flag, name) in [("--to", "wbe"), ("--from", "wokrer")] {
        for follow in [&["-f"][..], &[]] {
            let refused = world.try_run(&[&["flows", flag, name][..], follow].concat());
            let text = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0), "{text}");
            let (flag, meant) = (&flag[2..], if flag == "--to" { "web" } else { "worker" });
            assert!(text.contains(&format!("{flag}: there is no service {name}")), "{text}");
            assert!(text.contains(&format!("did you mean {meant}?")), "{text}");
        }
    }

    // Without a follower: what was told before, and refusals.
    world.member("import socket; s = socket.socket(); s.bind(('127.80.200.1', 80))");
    let kept = |verdict: &str| {
        let text = world.run(&["flows", "--verdict", verdict, "--output", "json"]);
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let closed = kept("closed");
    assert_eq!(closed.len(), 1, "{closed:?}");
    assert_eq!(closed[0]["destination"], "web");
    assert!(closed[0]["connect_us"].as_u64().unwrap() > 0, "{closed:?}");
    assert!(closed[0]["received_bytes"].as_u64().unwrap() > 0, "{closed:?}");
    crate::world::eventually("the bind is told", || kept("bind-denied").len() == 1);
    assert_eq!(kept("no-such-port")[0]["reason"], "the service has no such port");
}

#[test]
fn a_follower_that_went_with_its_agent_leaves_nothing_on() {
    let world = World::new();
    world.file(WEB);
    world.run(&["up", "-d"]);
    let mut follower = Following::start(&world, &["flows", "-f"]);
    assert!(follower.line().starts_with("TIME"));
    assert_eq!(world.member(&calls(1)), "{'ok': 1}");
    assert!(follower.line().contains("closed"));
    world.kill_agent(world.agent());
    // It would follow the next one.
    drop(follower);
    world.start_agent();
    assert_eq!(world.member(&calls(3)), "{'ok': 3}");
    assert_eq!(world.member(&failing(9)), "ConnectionRefusedError");
    let told = || world.run(&["flows", "--output", "json"]);
    // What the kernel tells keeps its order: by now those that closed would have been told.
    crate::world::eventually("the refusal is told", || told().contains("no-such-port"));
    assert!(!told().contains("\"closed\""), "{}", told());
}

const TRIO: &str = r#"
name: trio
services:
  web:
    command: ["python3", "-u", "-m", "http.server", "8000"]
    port: 8000
    replicas: 3
    restart: never
"#;

#[test]
fn explain_names_the_killed_and_the_drained() {
    let world = World::new();
    world.file(TRIO);
    world.run(&["up", "-d"]);
    let explained = || {
        let answer = world.json(&["explain", "exec", "web"]);
        let endpoints = answer["endpoints"].as_array().unwrap().clone();
        (answer, move |n: usize| endpoints[n].clone())
    };
    let (answer, of) = explained();
    assert_eq!(answer["outcome"], "one of web/0, web/1, web/2");
    assert_eq!((&of(0)["fitness"], &of(0)["queue"]), (&"fit".into(), &0.into()));

    crate::world::kill(world.pid("web", 1), rustix::process::Signal::KILL).unwrap();
    crate::world::eventually("its end is seen", || world.workloads("web")[1]["state"] == "exited");
    let (_, of) = explained();
    assert_eq!(of(1)["fitness"], "out");
    let why = of(1)["reason"].as_str().unwrap().to_owned();
    assert!(why.starts_with("not in the choice: it has exited ("), "{why}");

    // A connection that stays makes the drain last.
    let open =
        "import socket, time; s = [socket.create_connection(('web', 8000)) for _ in range(8)]
print('open', flush=True); time.sleep(1000)";
    let mut client = Following::start(&world, &["exec", "--", "python3", "-c", open]);
    assert_eq!(client.line(), "open");
    world.run(&["drain", "web/2", "--no-wait"]);
    let (answer, of) = explained();
    assert_eq!((&of(2)["fitness"], &of(2)["state"]), (&"out".into(), &"draining".into()));
    assert!(of(2)["active"].as_u64().unwrap() > 0, "its connections may end: {answer}");
    assert_eq!(answer["outcome"], "web/0, the only fit one");
    let text = world.run(&["explain", "exec", "web:8000"]);
    assert!(text.contains("not in the choice: it is draining"), "{text}");

    let refused = world.try_run(&["explain", "exec", "web:9"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("web has no port 9"), "{text}");
    let nobody = world.try_run(&["explain", "nobody", "web"]);
    assert_eq!(nobody.status.code(), Some(1));
}

#[test]
fn top_shows_who_calls_whom() {
    let world = World::new();
    world.file(WEB);
    world.run(&["up", "-d"]);
    assert_eq!(world.member(&calls(20)), "{'ok': 20}");
    let text = world.run(&["top", "--once"]);
    let edge = text.lines().find(|line| line.starts_with("exec ")).unwrap_or_default();
    assert_eq!(edge.split_whitespace().nth(1), Some("web"), "{text}");
    let endpoint = text.lines().find(|line| line.starts_with("web/2:8000 ")).unwrap_or_default();
    assert_eq!(endpoint.split_whitespace().count(), 8, "{text}");
    assert_eq!(text, world.run(&["top"]), "no terminal: one table");

    let mut follower = Following::start(&world, &["top", "--output", "json"]);
    follower.line();
    assert_eq!(world.member(&calls(60)), "{'ok': 60}");
    let mut timed = std::collections::BTreeSet::new();
    let (mut counted, mut taken) = (0.0, 0.0);
    while counted < 59.5 || taken < 59.5 {
        let frame: Value = serde_json::from_str(&follower.line()).unwrap();
        let edge = frame["edges"].as_array().unwrap().iter().find(|e| e["to"] == "web").unwrap();
        let rate = edge["calls_per_s"].as_f64().unwrap();
        counted += rate * frame["seconds"].as_f64().unwrap();
        assert!(rate == 0.0 || edge["connect_p99_us"].as_f64().unwrap() > 0.0, "{frame}");
        let endpoints = frame["endpoints"].as_array().unwrap();
        for endpoint in endpoints.iter().filter(|endpoint| endpoint["service"] == "web") {
            taken += endpoint["calls_per_s"].as_f64().unwrap() * frame["seconds"].as_f64().unwrap();
        }
        timed.extend(endpoints.iter().filter_map(|endpoint| {
            let (p50, p99) = (&endpoint["connect_p50_us"], endpoint["connect_p99_us"].as_f64()?);
            assert!(p50.as_f64().is_some_and(|p50| 0.0 < p50 && p50 <= p99), "{frame}");
            Some(endpoint["workload"].as_str().unwrap().to_owned())
        }));
    }
    assert!(counted < 60.5 && taken < 60.5, "each call once: {counted}, {taken}");
    assert_eq!(timed.len(), 3, "of 60 calls each got some: {timed:?}");
}
