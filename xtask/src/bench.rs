//! The benches: each puts figures under one promise of Sinew, beside what others reach.

mod bpf;
mod change;
mod connect;
mod contender;
mod cost;
mod failstatic;
mod fleet;
mod http;
mod kill;
pub(crate) mod load;
mod network;
mod node_death;
mod plot;
mod prompt;
mod propagate;
mod proxy;
mod report;
mod resilience;
mod scale;
pub(crate) mod server;
mod set;
mod simulated;
pub(crate) mod world;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::setup::{self, Purpose};
use crate::{process, workspace};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    bench: Bench,
    /// Rounds; every round measures every contender once
    #[arg(long)]
    rounds: Option<usize>,
    /// Few and short rounds: to see that the bench works, not for figures
    #[arg(long)]
    quick: bool,
    /// Measure only these: in `connect` ways, against direct; in `change` kinds of change
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Bench {
    /// Short connections and established echo, against direct and against proxies
    Connect,
    /// Failures that clients see while replicas are killed and stopped under load
    Kill,
    /// How soon changes take effect, and what clients see of them
    Change,
    /// How soon other hosts know what happens on one
    Propagate,
    /// What control costs with many agents, how soon it tells and how soon it is back
    Fleet,
    /// What callers on three hosts see while control is dead
    Failstatic,
    /// What callers see of a host that is cut off
    #[value(name = "node_death")]
    NodeDeath,
    /// Time and memory for many services, and what connections cost beside them
    Scale,
    /// Requests through the proxy, beside nginx and HAProxy
    Proxy,
    /// What one call of each rule of failure handling costs
    Resilience,
    /// What reading a head of HTTP/1 costs, beside httparse
    Http,
}

/// Runs `cargo xtask bench`.
pub(crate) fn run(args: &Args) -> Result<()> {
    // These need nothing but an example of their own.
    match args.bench {
        Bench::Resilience => return resilience::run(args),
        Bench::Http => return http::run(args),
        _ => {}
    }
    setup::require_root("bench")?;
    setup::ensure(Purpose::Bench)?;
    // wrk is the client.
    if let Bench::Proxy = args.bench {
        return proxy::run(args);
    }
    if cfg!(debug_assertions) {
        return become_release();
    }
    match args.bench {
        Bench::Connect => connect::run(args),
        Bench::Kill => kill::run(args),
        Bench::Change => change::run(args),
        Bench::Propagate => propagate::run(args),
        Bench::Fleet => fleet::run(args),
        Bench::Failstatic => failstatic::run(args),
        Bench::NodeDeath => node_death::run(args),
        Bench::Scale => scale::run(args),
        Bench::Proxy => proxy::run(args),
        Bench::Resilience => resilience::run(args),
        Bench::Http => http::run(args),
    }
}

/// What an unoptimized client costs would hide what is measured: goes on as a release build.
fn become_release() -> Result<()> {
    let mut build = process::cargo();
    build.args(["build", "--release", "--package", "xtask", "--package", "sinew"]);
    process::run(build.current_dir(workspace::root()))?;
    for (package, example, features) in [
        ("sinew-datapath", "host", ""),
        ("sinew-agent", "crowd", ""),
        ("sinew-control", "fleet", "testing"),
    ] {
        let mut build = process::cargo();
        build.args(["build", "--release", "--package", package, "--example", example]);
        build.args(["--features", features]);
        process::run(build.current_dir(workspace::root()))?;
    }
    let profile = world::own().parent().map(Path::to_path_buf).unwrap_or_default();
    let release = profile.with_file_name("release").join("xtask");
    let error = Command::new(&release).args(std::env::args_os().skip(1)).exec();
    bail!("{} could not be started: {error}", release.display())
}

impl Args {
    fn rounds(&self, usual: usize, quick: usize) -> usize {
        self.rounds.unwrap_or(if self.quick { quick } else { usual }).max(1)
    }
}

/// The command of a report: what a reader types to get the figures.
fn command() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo xtask {}", words.join(" "))
}
