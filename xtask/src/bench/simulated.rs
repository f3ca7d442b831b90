//! Many agents of the real protocol, in one process beside the hosts.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use super::network::Network;
use super::world;

/// The process.
pub(crate) struct Simulated {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Simulated {
    /// Starts so many agents with so many endpoints each on a host, of all of which so many change in
    /// a second; `subscribe`: the one service that all of them hear of. Waits until they have
    /// everything.
    pub(crate) fn start(
        network: &Network,
        on: u8,
        agents: usize,
        endpoints: usize,
        changes_per_s: f64,
        subscribe: Option<&str>,
    ) -> Result<Self> {
        let program = world::own().with_file_name("examples").join("fleet");
        let mut command = network.host(on)?.command(&program.to_string_lossy())?;
        command.arg(network.control()).arg(network.token(agents)?);
        command.args([agents.to_string(), endpoints.to_string(), changes_per_s.to_string()]);
        command.args(subscribe).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| program.display().to_string())?;
        let lines = BufReader::new(child.stdout.take().context("no output")?);
        let mut simulated = Self { child, lines };
        simulated.await_all()?;
        Ok(simulated)
    }

    /// Waits until all of them have everything, again.
    pub(crate) fn await_all(&mut self) -> Result<()> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        anyhow::ensure!(line.trim() == "ready", "the simulated agents ended: {line:?}");
        Ok(())
    }

    /// What they found.
    pub(crate) fn finish(mut self) -> Result<Value> {
        drop(self.child.stdin.take());
        let mut last = String::new();
        for line in self.lines.by_ref().lines() {
            last = line?;
        }
        self.child.wait()?;
        serde_json::from_str(&last).with_context(|| format!("no result: {last:?}"))
    }
}
