//! A network of many hosts: an agent on each, and on further hosts what controls them.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sinew_hosts::{Host, Hosts};

use super::contender::sinew;
use super::set::Set;
use super::world;
use crate::{process, setup};

const PORT: u16 = 7443;
/// Has a slice for each of 4096 hosts.
const INSTANCES4: &str = "10.96.0.0/12";
/// What does not answer by then will not.
const DEADLINE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// Where control keeps what it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    /// In a file, on one host.
    Embedded,
    /// In etcd, with a member and a replica of control on each of three.
    Etcd,
}

impl Store {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Etcd => "etcd",
        }
    }

    fn hosts(self) -> u8 {
        match self {
            Self::Embedded => 1,
            Self::Etcd => 3,
        }
    }
}

/// The hosts, and what runs on them.
pub(crate) struct Network {
    hosts: Hosts,
    store: Store,
    agents: Vec<Option<Child>>,
    /// Replicas of control and members of etcd, by host.
    controls: Vec<Vec<Child>>,
}

impl Network {
    /// Makes a network of so many hosts with an agent, all of one zone.
    pub(crate) fn start(name: &str, agents: u8, store: Store) -> Result<Self> {
        let mut network = Self::without_agents(name, agents, store)?;
        let token = network.token(agents.into())?;
        for number in 1..=agents {
            network.start_agent_with(number, &["--token", &token])?;
        }
        network.await_hosts()?;
        Ok(network)
    }

    /// Makes hosts for so many agents, and starts what controls them.
    pub(crate) fn without_agents(name: &str, agents: u8, store: Store) -> Result<Self> {
        let hosts = Hosts::new(name, agents + store.hosts())?;
        let mut network = Self { hosts, store, agents: Vec::new(), controls: Vec::new() };
        network.agents.resize_with(agents.into(), || None);
        network.start_control()?;
        Ok(network)
    }

    /// The hosts with agents.
    pub(crate) fn hosts(&self) -> &[Host] {
        &self.hosts.all()[..self.agents.len()]
    }

    /// A host with an agent, from 1 on.
    pub(crate) fn host(&self, number: u8) -> Result<&Host> {
        Ok(self.hosts.host(number)?)
    }

    /// All hosts, to cut and heal.
    pub(crate) fn all(&self) -> &Hosts {
        &self.hosts
    }

    fn control_hosts(&self) -> &[Host] {
        &self.hosts.all()[self.agents.len()..]
    }

    /// Where agents find control.
    pub(crate) fn control(&self) -> String {
        let addresses: Vec<String> =
            self.control_hosts().iter().map(|host| format!("{}:{PORT}", host.address())).collect();
        addresses.join(",")
    }

    /// Starts the store and control on its hosts, and waits until they answer.
    pub(crate) fn start_control(&mut self) -> Result<()> {
        let mut started: Vec<Vec<Child>> = Vec::new();
        if self.store == Store::Etcd {
            for host in self.control_hosts() {
                started.push(vec![self.start_etcd(host)?]);
            }
        }
        for (index, host) in self.control_hosts().iter().enumerate() {
            let child = self.start_replica(host)?;
            match started.get_mut(index) {
                Some(children) => children.push(child),
                None => started.push(vec![child]),
            }
        }
        self.controls = started;
        for host in self.control_hosts() {
            let answers = || Ok(sinew_on(host)?.args(["token", "list"]).output()?.status.success());
            await_that("control answers", answers, host)?;
        }
        Ok(())
    }

    fn start_replica(&self, host: &Host) -> Result<Child> {
        let mut control = sinew_on(host)?;
        control.args(["control", "--listen"]).arg(format!("{}:{PORT}", host.address()));
        control.args(["--instances4", INSTANCES4]);
        match self.store {
            Store::Embedded => control.arg("--data").arg(host.files().join("control")),
            Store::Etcd => {
                let members: Vec<String> = self
                    .control_hosts()
                    .iter()
                    .map(|host| format!("http://{}:2379", host.address()))
                    .collect();
                control.arg("--etcd").arg(members.join(",")).args(["--name", &host.name()])
            }
        };
        spawn(control, host, "control.log")
    }

    fn start_etcd(&self, host: &Host) -> Result<Child> {
        let program = setup::etcd().context("etcd is not installed: cargo xtask setup bench")?;
        let peer = |host: &Host| format!("http://{}:2380", host.address());
        let cluster: Vec<String> = self
            .control_hosts()
            .iter()
            .map(|host| format!("{}={}", host.name(), peer(host)))
            .collect();
        let client = format!("http://{}:2379", host.address());
        let mut etcd = host.command(&program.to_string_lossy())?;
        etcd.args(["--name", &host.name(), "--log-level", "error"])
            .arg("--data-dir")
            .arg(host.files().join("etcd"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer(host), "--initial-advertise-peer-urls", &peer(host)])
            .args(["--initial-cluster", &cluster.join(",")]);
        spawn(etcd, host, "etcd.log")
    }

    /// The processes of control, without those of the store.
    pub(crate) fn control_processes(&self) -> impl Iterator<Item = u32> {
        self.controls.iter().filter_map(|children| children.last()).map(Child::id)
    }

    /// Kills all that controls the network (-9).
    pub(crate) fn kill_control(&mut self) -> Result<()> {
        for mut child in self.controls.drain(..).flatten() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// With which so many hosts join.
    pub(crate) fn token(&self, hosts: usize) -> Result<String> {
        let host = &self.control_hosts()[0];
        let uses = hosts.to_string();
        let words = ["--output", "json", "token", "create", "--uses", &uses];
        let made = ask(sinew_on(host)?.args(words))?;
        let token = made["token"].as_str().context("no token in what was made")?;
        Ok(token.to_owned())
    }

    /// Starts the agent of a host that has joined before.
    pub(crate) fn start_agent(&mut self, number: u8) -> Result<()> {
        self.start_agent_with(number, &[])
    }

    fn start_agent_with(&mut self, number: u8, more: &[&str]) -> Result<()> {
        let (host, control) = (self.hosts.host(number)?, self.control());
        let mut agent = sinew_on(host)?;
        agent.args(["agent", "--join", &control, "--node", &host.name()]);
        agent.args(["--zone", "bench"]).args(more);
        let child = spawn(agent, host, "agent.log")?;
        self.agents[usize::from(number) - 1] = Some(child);
        let answers = || Ok(sinew_on(host)?.arg("ps").output()?.status.success());
        await_that("the agent answers", answers, host)
    }

    /// Ends an agent by a signal and waits for its end.
    pub(crate) fn end_agent(&mut self, number: u8, signal: Signal) -> Result<()> {
        let agent = self.agents.get_mut(usize::from(number) - 1).and_then(Option::take);
        let mut agent = agent.context("there is no agent")?;
        kill_process(Pid::from_child(&agent), signal)?;
        agent.wait()?;
        Ok(())
    }

    /// Waits until each agent knows all the others.
    fn await_hosts(&self) -> Result<()> {
        let others = self.agents.len() - 1;
        for host in self.hosts() {
            let knows = || {
                let status = self.ask(host, &["status"])?;
                let fleet = &status["fleet"];
                Ok(fleet["hosts"].as_object().is_some_and(|known| known.len() >= others))
            };
            await_that("the agent knows the other hosts", knows, host)?;
        }
        Ok(())
    }

    /// Applies a file on a host and waits until every instance is up.
    pub(crate) fn up(&self, host: &Host, file: &Value) -> Result<()> {
        let path = host.files().join("sinew.yaml");
        fs::write(&path, file.to_string())?;
        let mut up = sinew_on(host)?;
        up.args(["up", "--detach", "--timeout", "300", "--file"]).arg(path);
        process::output(&mut up).map(drop).with_context(|| last_words(host))
    }

    /// Sets the number of replicas of a service on its host, and goes on at once.
    pub(crate) fn scale(&self, host: &Host, service: &str, replicas: usize) -> Result<()> {
        let replicas = format!("{service}={replicas}");
        process::output(sinew_on(host)?.args(["scale", "--no-wait", &replicas])).map(drop)
    }

    /// What a subcommand prints for programs on a host.
    pub(crate) fn ask(&self, host: &Host, words: &[&str]) -> Result<Value> {
        ask(sinew_on(host)?.args(["--output", "json"]).args(words))
    }

    /// Runs the servers of a service on each of the hosts, and waits until the kernel of each chooses
    /// among all of them; the service's address on each.
    pub(crate) fn serve(&self, service: &str, port: u16, on: &[u8]) -> Result<Vec<Ipv4Addr>> {
        let mut server = sinew::echo(1);
        server["port"] = port.into();
        for number in on {
            self.up(self.host(*number)?, &json!({"name": "bench", "services": {service: server}}))?;
        }
        let addresses = self.hosts().iter().map(|host| {
            let address = self.address(host, service)?;
            self.await_backends(host, address, port, on.len())?;
            Ok(address)
        });
        addresses.collect()
    }

    /// Waits until the kernel of a host chooses among so many backends.
    pub(crate) fn await_backends(
        &self,
        host: &Host,
        address: Ipv4Addr,
        port: u16,
        backends: usize,
    ) -> Result<()> {
        let set = Set::of(&pins(host), address, port)?;
        let chosen = || Ok(set.len().is_ok_and(|found| found as usize == backends));
        await_that(&format!("{address}:{port} has {backends} backends"), chosen, host)
    }

    /// This binary as a caller on a host.
    pub(crate) fn client(&self, host: &Host) -> Result<Command> {
        let mut command = sinew_on(host)?;
        command.args(["exec", "--"]).arg(world::own());
        Ok(command)
    }

    /// A service's address on a host, which has looked its name up thereby.
    pub(crate) fn address(&self, host: &Host, service: &str) -> Result<Ipv4Addr> {
        let mut lookup = sinew_on(host)?;
        lookup.args(["exec", "--", "getent", "ahostsv4", service]);
        let mut found = None;
        let name = format!("{service} has an address");
        let known = || {
            let output = lookup.output()?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            found = text.split_whitespace().next().and_then(|word| word.parse().ok());
            Ok(found.is_some())
        };
        await_that(&name, known, host)?;
        found.context("the name has an address")
    }
}

/// Where a host's maps are pinned.
pub(crate) fn pins(host: &Host) -> PathBuf {
    let [.., (_, pins), _] = host.environment();
    pins
}

fn sinew_on(host: &Host) -> Result<Command> {
    Ok(host.command(&sinew::sinew().to_string_lossy())?)
}

fn spawn(mut command: Command, host: &Host, log: &str) -> Result<Child> {
    let log = File::options().create(true).append(true).open(host.files().join(log))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.spawn().with_context(|| process::line(&command))
}

fn ask(command: &mut Command) -> Result<Value> {
    let answer = process::output(command)?;
    serde_json::from_str(&answer).with_context(|| format!("`{}`: {answer}", process::line(command)))
}

/// Waits for something, and says what the host's processes said when it does not come.
pub(crate) fn await_that(
    what: &str,
    mut holds: impl FnMut() -> Result<bool>,
    host: &Host,
) -> Result<()> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > DEADLINE {
            bail!("on {} not in {DEADLINE:?}: {what}\n{}", host.name(), last_words(host));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn last_words(host: &Host) -> String {
    let end = |name: &str| {
        let text = fs::read_to_string(Path::new(host.files()).join(name)).ok()?;
        let lines: Vec<&str> = text.lines().collect();
        Some(format!("{name}:\n{}", lines[lines.len().saturating_sub(15)..].join("\n")))
    };
    let logs = ["agent.log", "control.log", "etcd.log"].into_iter().filter_map(end);
    logs.collect::<Vec<_>>().join("\n")
}
