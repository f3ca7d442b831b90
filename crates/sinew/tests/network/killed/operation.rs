//! What is ordered of an agent before it is killed, and what has to come of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use super::Random;
use crate::world::World;

/// Work on the service `web`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Scale(u64),
    /// So many replicas, and another environment: all are replaced.
    Change(u64, u64),
    /// One replica, by its number.
    Drain(u64),
    Restart,
    Down,
}

/// Writes the file of the project, with so many replicas of an edition.
pub(super) fn write(world: &World, replicas: u64, edition: u64) {
    world.file(&format!(
        r#"
name: trial
services:
  web:
    command: ["python3", "-u", "-m", "http.server", "8000"]
    port: 8000
    replicas: {replicas}
    env:
      EDITION: "{edition}"
"#
    ));
}

impl Operation {
    /// Something to do with what there is.
    pub(super) fn draw(random: &mut Random, is: &Observed) -> Self {
        // With one alone, callers would be without any while it is drained.
        let replicas = 2 + random.below(4);
        match random.below(6) {
            0 => Self::Scale(replicas),
            1 => Self::Change(replicas, is.edition() + 1),
            2 | 3 => Self::Drain(random.below(is.replicas())),
            4 => Self::Restart,
            _ => Self::Down,
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Scale(_) => "scale",
            Self::Change(..) => "up",
            Self::Drain(_) => "drain",
            Self::Restart => "restart",
            Self::Down => "down",
        }
    }

    pub(super) fn order(&self, world: &World) -> Command {
        match self {
            Self::Scale(replicas) => world.sinew(&["scale", &format!("web={replicas}")]),
            Self::Change(replicas, edition) => {
                write(world, *replicas, *edition);
                world.sinew(&["up", "-d"])
            }
            Self::Drain(replica) => world.sinew(&["drain", &format!("web/{replica}")]),
            Self::Restart => world.sinew(&["restart", "web"]),
            Self::Down => world.sinew(&["down", "trial", "--yes"]),
        }
    }

    /// Does it, and nobody is killed.
    pub(super) fn run(&self, world: &World) {
        let output = self.order(world).output().unwrap();
        let fault = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{self:?}: {}\n{fault}", output.status);
    }

    /// What there is when it is done.
    pub(super) fn after(&self, before: &Observed) -> Observed {
        let edition = before.edition();
        match self {
            Self::Scale(replicas) => Observed::all(*replicas, edition),
            Self::Change(replicas, edition) => Observed::all(*replicas, *edition),
            Self::Restart => Observed::all(before.replicas(), edition),
            Self::Down => Observed::all(0, 0),
            Self::Drain(replica) => {
                let mut after = before.clone();
                after.up.remove(replica);
                after.held.insert(*replica);
                after
            }
        }
    }
}

/// What there is of the service `web`. Something in between two states is neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Observed {
    /// Edition by replica.
    up: BTreeMap<u64, u64>,
    pub(super) held: BTreeSet<u64>,
    /// Neither, with their states.
    moving: BTreeMap<u64, String>,
}

impl Observed {
    /// All of them up.
    pub(super) fn all(replicas: u64, edition: u64) -> Self {
        let up = (0..replicas).map(|replica| (replica, edition)).collect();
        Self { up, ..Self::default() }
    }

    pub(super) fn of(world: &World) -> Self {
        let mut is = Self::default();
        for one in world.workloads("web") {
            let replica = one["replica"].as_u64().unwrap();
            match one["state"].as_str().unwrap() {
                "up" => drop(is.up.insert(replica, edition_of(&one["pid"]))),
                "stopped" => drop(is.held.insert(replica)),
                state => drop(is.moving.insert(replica, state.to_owned())),
            }
        }
        is
    }

    pub(super) fn replicas(&self) -> u64 {
        (self.up.len() + self.held.len() + self.moving.len()) as u64
    }

    /// The newest; 0 when there is none.
    fn edition(&self) -> u64 {
        self.up.values().copied().max().unwrap_or_default()
    }
}

/// Which file a process was started with.
fn edition_of(pid: &serde_json::Value) -> u64 {
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap_or_default();
    let edition = environment.split('\0').find_map(|line| line.strip_prefix("EDITION="));
    edition.and_then(|edition| edition.parse().ok()).unwrap_or(u64::MAX)
}
