//! The data path alone: its maps are written by a small process instead of the agent.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Contender, Path};
use crate::bench::world::{self, Room, World};

const SERVICE: &str = "127.64.0.1:8080";

pub(crate) struct Datapath {
    pub(crate) name: &'static str,
    pub(crate) replicas: u16,
}

impl Contender for Datapath {
    fn name(&self) -> &'static str {
        self.name
    }

    fn start(&self, world: &World) -> Result<Box<dyn Path>> {
        Ok(Box::new(Host::start(world, self)?))
    }
}

/// A room whose data path this bench rules.
pub(crate) struct Host {
    room: Room,
    _process: Child,
    orders: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Host {
    pub(crate) fn start(world: &World, wanted: &Datapath) -> Result<Self> {
        let room = world.room(wanted.name)?;
        let own = world::own();
        let mut command = room.command(own.with_file_name("examples").join("host"))?;
        command.arg(room.pins()).arg(members(&room)).arg(wanted.replicas.to_string()).arg("--");
        command.arg(&own).args(["internal", "enter", "/proc/self/ns/net", "{}"]);
        command.arg(&own).args(["internal", "server", "0.0.0.0:8080"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let pipes = process.stdin.take().zip(process.stdout.take());
        let (stdin, stdout) = pipes.context("the host has no pipes")?;
        let orders = RefCell::new((stdin, BufReader::new(stdout)));
        let host = Self { room, _process: process, orders };
        match host.answer()?.as_str() {
            "ready" => Ok(host),
            other => bail!("the host of the data path is not ready: {other:?}"),
        }
    }

    /// Gives an order to the host and returns its answer.
    pub(crate) fn order(&self, order: &str) -> Result<String> {
        writeln!(self.orders.borrow_mut().0, "{order}")?;
        self.answer()
    }

    fn answer(&self) -> Result<String> {
        let mut line = String::new();
        self.orders.borrow_mut().1.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }
}

impl Path for Host {
    fn targets(&self) -> String {
        SERVICE.to_owned()
    }

    fn client(&self) -> Result<Command> {
        self.room.command_in(&members(&self.room).join("members/client"), world::own())
    }

    fn room(&self) -> &Room {
        &self.room
    }
}

fn members(room: &Room) -> PathBuf {
    room.cgroup().join("sinew")
}
