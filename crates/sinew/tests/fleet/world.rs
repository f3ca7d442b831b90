//! Hosts of one network.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use sinew_hosts::{Host, Hosts};

/// Nothing here takes so long on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SINEW: &str = env!("CARGO_BIN_EXE_sinew");

/// A process that ends with the test.
struct Running(Child);

impl Running {
    fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// A connection that is open.
pub(crate) struct Held {
    output: BufReader<ChildStdout>,
    _child: Running,
}

impl Held {
    /// What comes of it.
    pub(crate) fn end(mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

/// The hosts, of which the first one has control.
pub(crate) struct World {
    agents: Vec<Option<Running>>,
    control: Option<Running>,
    token: String,
    hosts: Hosts,
}

impl World {
    /// So many hosts, with control on the first, and no agent yet.
    pub(crate) fn new(name: &str, count: u8) -> Self {
        let hosts = Hosts::new(name, count).unwrap();
        let agents = (0..count).map(|_| None).collect();
        let mut world = Self { agents, control: None, token: String::new(), hosts };
        world.start_control();
        let made = world.sinew(1, &["token", "create", "--uses", "9", "--output", "json"]);
        let text = made.to_string();
        let begin = text.find("sinew-join-v1").expect("a token");
        let rest = &text[begin..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-.".contains(c)));
        world.token = rest[..end.unwrap_or(rest.len())].to_owned();
        world
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn host(&self, number: u8) -> &Host {
        self.hosts.host(number).unwrap()
    }

    /// From now on nothing gets to the host or back.
    pub(crate) fn cut(&self, number: u8) {
        self.hosts.cut(self.host(number)).unwrap();
    }

    pub(crate) fn heal(&self, number: u8) {
        self.hosts.heal(self.host(number)).unwrap();
    }

    pub(crate) fn file(&self, number: u8, name: &str) -> PathBuf {
        self.host(number).files().join(name)
    }

    fn command(&self, number: u8, arguments: &[&str]) -> Command {
        let host = self.host(number);
        let mut command = host.command(SINEW).unwrap();
        command.args(arguments).env("SINEW_CONTROL", self.file(1, "control/control.sock"));
        command
    }

    fn spawn(&self, number: u8, log: &str, arguments: &[&str]) -> Running {
        let log = File::options().create(true).append(true).open(self.file(number, log)).unwrap();
        let mut command = self.command(number, arguments);
        Running(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    pub(crate) fn start_control(&mut self) {
        let (data, run) = (self.file(1, "store"), self.file(1, "control"));
        let arguments =
            ["control", "--data", data.to_str().unwrap(), "--run", run.to_str().unwrap()];
        self.control = Some(self.spawn(1, "control.log", &arguments));
        self.wait("control", || self.try_sinew(1, &["token", "list"]).status.success());
    }

    /// As kill -9 does it.
    pub(crate) fn kill_control(&mut self) {
        self.control.take().unwrap().kill();
    }

    /// Joins, or comes back.
    pub(crate) fn start_agent(&mut self, number: u8, more: &[&str]) {
        let control = self.host(1).address().to_string();
        let node = self.host(number).name();
        let token = self.token.clone();
        let first = ["agent", "--join", &control, "--token", &token, "--node", &node];
        let again = ["agent"];
        let is_first = !self.file(number, "state/fleet.json").exists();
        let mut arguments = if is_first { first.to_vec() } else { again.to_vec() };
        arguments.extend(more);
        let agent = self.spawn(number, "agent.log", &arguments);
        self.agents[usize::from(number) - 1] = Some(agent);
        self.wait("an agent", || self.try_sinew(number, &["ps"]).status.success());
    }

    /// As kill -9 does it: what it runs goes on.
    pub(crate) fn kill_agent(&mut self, number: u8) {
        self.agents[usize::from(number) - 1].take().unwrap().kill();
    }

    /// Everything that runs on it is killed (-9).
    pub(crate) fn crash(&mut self, number: u8) {
        self.host(number).kill().unwrap();
        // Nothing is left to be ended, and the process is collected.
        drop(self.agents[usize::from(number) - 1].take());
    }

    pub(crate) fn try_sinew(&self, number: u8, arguments: &[&str]) -> Output {
        self.command(number, arguments).output().unwrap()
    }

    /// What it prints, as JSON.
    pub(crate) fn sinew(&self, number: u8, arguments: &[&str]) -> Value {
        let output = self.try_sinew(number, arguments);
        let told = || format!("{arguments:?} on h{number}: {output:?}\n{}", self.logs());
        assert!(output.status.success(), "{}", told());
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    pub(crate) fn status(&self, number: u8) -> Value {
        self.sinew(number, &["status", "--output", "json"])["fleet"].clone()
    }

    /// Brings up a web server that says who it is.
    pub(crate) fn serve(&self, number: u8, service: &str, replicas: u8) {
        let program = format!(
            r#"
import http.server, os
class Here(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        said = b"h{number}"
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Here).serve_forever()
"#
        );
        let script = self.file(number, "here.py");
        fs::write(&script, program).unwrap();
        let file = self.file(number, &format!("{service}.yaml"));
        let text = format!(
            "name: {service}\nservices:\n  {service}:\n    command: [python3, {}]\n    ports: [\"http:8080\"]\n    replicas: {replicas}\n",
            script.display()
        );
        fs::write(&file, text).unwrap();
        self.sinew(number, &["up", "-d", "--timeout", "50", "-f", file.to_str().unwrap()]);
    }

    /// Who answers each of so many calls by name, from a member of that host; `!` with what is wrong.
    pub(crate) fn calls(&self, number: u8, service: &str, count: u32) -> Vec<String> {
        let program = format!(
            r#"
import urllib.request
for _ in range({count}):
    try: print(urllib.request.urlopen("http://{service}:8080/", timeout=5).read().decode())
    except OSError as e: print("!", e)
"#
        );
        let output = self.try_sinew(number, &["exec", "--", "python3", "-c", &program]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said: Vec<String> = text.lines().map(str::to_owned).collect();
        assert!(said.len() == count as usize, "{output:?}\n{}", self.logs());
        said
    }

    /// A member that is connected to a service, and waits for what the server says.
    pub(crate) fn hold(&self, number: u8, service: &str) -> Held {
        let program = format!(
            r#"
import socket
held = socket.create_connection(("{service}", 8080))
print("open", flush=True)
try: print(held.recv(1))
except OSError as e: print(type(e).__name__)
"#
        );
        let mut command = self.command(number, &["exec", "--", "python3", "-c", &program]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "open\n");
        Held { output, _child: Running(child) }
    }

    pub(crate) fn wait(&self, for_what: &str, is_so: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is_so() {
            assert!(begin.elapsed() < PATIENCE, "{for_what} does not come\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn logs(&self) -> String {
        let mut logs = String::new();
        for host in self.hosts.all() {
            for name in ["control.log", "agent.log"] {
                let text = fs::read_to_string(host.files().join(name)).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let tail = lines[lines.len().saturating_sub(25)..].join("\n");
                if !tail.is_empty() {
                    logs += &format!("--- {} {name}\n{tail}\n", host.name());
                }
            }
        }
        logs
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for number in 1..=u8::try_from(self.agents.len()).unwrap() {
            let _ = self.try_sinew(number, &["down", "--purge", "--yes"]);
        }
    }
}
