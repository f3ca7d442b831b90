//! Sinew itself: an agent of its own, servers started by it, clients made members by it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Contender, Path};
use crate::bench::world::{self, Room, World};
use crate::process;

pub(crate) const SERVICE: &str = "echo";
pub(crate) const PORT: u16 = 8080;

/// A service of so many replicas.
pub(crate) struct Sinew {
    pub(crate) name: &'static str,
    pub(crate) replicas: u16,
}

impl Contender for Sinew {
    fn name(&self) -> &'static str {
        self.name
    }

    fn start(&self, world: &World) -> Result<Box<dyn Path>> {
        let host = Host::start(world, self.name)?;
        host.up(&json!({"name": "bench", "services": {SERVICE: echo(self.replicas)}}))?;
        let target = format!("{}:{PORT}", host.address(SERVICE)?);
        Ok(Box::new(Member { host, target }))
    }
}

/// The service of our own servers, as in a file.
pub(crate) fn echo(replicas: u16) -> Value {
    let listen = format!("0.0.0.0:{PORT}");
    let own = world::own();
    json!({
        "command": [own.to_string_lossy(), "internal", "server", listen],
        "port": PORT,
        "replicas": replicas,
    })
}

/// A way that leads through Sinew.
struct Member {
    host: Host,
    target: String,
}

impl Path for Member {
    fn targets(&self) -> String {
        self.target.clone()
    }

    fn client(&self) -> Result<Command> {
        self.host.client()
    }

    fn room(&self) -> &Room {
        &self.host.room
    }
}

/// A room with a Sinew agent in it, all of whose paths lie in the room.
pub(crate) struct Host {
    pub(crate) room: Room,
    agent: Option<Child>,
}

impl Host {
    pub(crate) fn start(world: &World, name: &str) -> Result<Self> {
        let mut host = Self { room: world.room(name)?, agent: None };
        host.start_agent()?;
        Ok(host)
    }

    /// Starts the agent and waits until it answers.
    pub(crate) fn start_agent(&mut self) -> Result<()> {
        let mut agent = self.sinew()?;
        agent.arg("agent").stdin(Stdio::null()).stdout(Stdio::null());
        self.agent = Some(agent.stderr(self.room.log("agent.log")?).spawn()?);
        let socket = self.room.files().join("run/api.sock");
        process::run(self.room.task("probe")?.arg(&socket)).with_context(|| self.last_words())
    }

    /// The process of the agent.
    pub(crate) fn agent(&self) -> Option<u32> {
        self.agent.as_ref().map(Child::id)
    }

    /// Ends the agent, with its will or without, and waits for its end.
    pub(crate) fn end_agent(&mut self, signal: Signal) -> Result<()> {
        let mut agent = self.agent.take().context("there is no agent")?;
        kill_process(Pid::from_child(&agent), signal)?;
        agent.wait()?;
        Ok(())
    }

    /// The `sinew` command, speaking with this agent.
    pub(crate) fn sinew(&self) -> Result<Command> {
        let files = self.room.files();
        let mut command = self.room.command(sinew())?;
        command
            .env("SINEW_RUN", files.join("run"))
            .env("SINEW_STATE", files.join("state"))
            .env("SINEW_PINS", self.room.pins())
            .env("SINEW_CGROUP", self.room.cgroup().join("sinew"));
        Ok(command)
    }

    /// This binary as a client that can call the services.
    pub(crate) fn client(&self) -> Result<Command> {
        let mut command = self.sinew()?;
        command.args(["exec", "--"]).arg(world::own());
        Ok(command)
    }

    /// Applies a file and waits until every instance is up.
    pub(crate) fn up(&self, file: &Value) -> Result<()> {
        // JSON is YAML too.
        let file = self.room.write("sinew.yaml", &file.to_string())?;
        let mut up = self.sinew()?;
        up.args(["up", "--detach", "--timeout", "300", "--file"]).arg(file);
        process::output(&mut up).map(|_| ()).with_context(|| self.last_words())
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.room.files().join("agent.log"));
        format!("the agent said: {}", log.unwrap_or_default())
    }

    /// The service's replicas that take connections: their main processes, in order.
    pub(crate) fn processes(&self, service: &str) -> Result<Vec<Pid>> {
        let pid = |workload: &Value| Pid::from_raw(workload["pid"].as_i64()?.try_into().ok()?);
        let workloads = self.workloads(service)?;
        let up = workloads.iter().filter(|workload| workload["state"] == "up");
        Ok(up.filter_map(pid).collect())
    }

    /// Whether the service has so many replicas, all of them up, and none that is on its way out.
    pub(crate) fn has_settled(&self, service: &str, replicas: u16) -> Result<bool> {
        let workloads = self.workloads(service)?;
        let up = workloads.iter().filter(|workload| workload["state"] == "up").count();
        Ok(up == usize::from(replicas) && up == workloads.len())
    }

    fn workloads(&self, service: &str) -> Result<Vec<Value>> {
        let Value::Array(mut workloads) = self.ask(&["ps"])? else { return Ok(Vec::new()) };
        workloads.retain(|workload| workload["service"] == service);
        Ok(workloads)
    }

    pub(crate) fn address(&self, service: &str) -> Result<String> {
        let status = self.ask(&["services", service])?;
        let address = status.get("address4").and_then(Value::as_str);
        address
            .map(ToOwned::to_owned)
            .with_context(|| format!("{service} has no address: {status}"))
    }

    /// What a subcommand prints for programs.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<Value> {
        let answer = process::output(self.sinew()?.args(["--output", "json"]).args(words))?;
        serde_json::from_str(&answer).with_context(|| format!("`sinew {words:?}`: {answer}"))
    }
}

/// The `sinew` built beside this binary.
pub(crate) fn sinew() -> PathBuf {
    world::own().with_file_name("sinew")
}
