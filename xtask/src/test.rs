//! Everything that has to hold before a change lands, in one command.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::setup::{self, Purpose};
use crate::{ebpf, process, workspace};

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Also check licences, duplicates, sources and advisories of dependencies; installs cargo-deny,
    /// which takes minutes the first time. Without it the check runs where cargo-deny is present
    #[arg(long)]
    deny: bool,
}

struct Step {
    name: &'static str,
    outcome: Result<()>,
    took: Duration,
}

/// Runs `cargo xtask test`. A failed step does not keep the later ones from being run.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::require_root("test")?;
    setup::ensure(Purpose::Test)?;
    if args.deny {
        setup::ensure(Purpose::Deny)?;
    }
    let steps: Vec<Step> = plan().into_iter().map(|(name, work)| step(name, work)).collect();
    report(&steps)
}

type Work = Box<dyn FnOnce() -> Result<()>>;

fn plan() -> Vec<(&'static str, Work)> {
    let mut plan: Vec<(&'static str, Work)> = vec![
        ("format", cargo(&["fmt", "--all", "--check"])),
        ("format of the kernel programs", kernel(&["fmt", "--check"])),
        (
            "lints",
            cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-Dwarnings"]),
        ),
        ("kernel object", Box::new(|| ebpf::check(&workspace::root()))),
        ("tests of the kernel programs' logic", kernel(&["test", "--lib", "--locked"])),
        ("tests", tests()),
        ("all interleavings of threads", Box::new(interleavings)),
        ("documentation's examples", cargo(&["test", "--workspace", "--doc", "--locked"])),
    ];
    if process::find("cargo-deny").is_some() {
        let checks = &[
            "deny",
            "--workspace",
            "check",
            "--hide-inclusion-graph",
            "bans",
            "licenses",
            "sources",
        ];
        plan.push(("dependencies", cargo(checks)));
        plan.push(("advisories, where their database is reached", Box::new(advisories)));
    }
    plan
}

/// Known vulnerabilities of dependencies. A machine that does not reach the database of them (on
/// github.com) says so and goes on: whether it does is no property of the change.
fn advisories() -> Result<()> {
    let fetched = command(&["deny", "fetch", "db"]).current_dir(workspace::root()).output()?;
    if !fetched.status.success() {
        let why = String::from_utf8_lossy(&fetched.stderr);
        let why = why.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        println!("NOT CHECKED: the database of advisories is not reached: {why}");
        return Ok(());
    }
    let check = &["deny", "--workspace", "check", "--disable-fetch", "advisories"];
    process::run(command(check).current_dir(workspace::root()))
}

/// Loom's tests: what threads share is built with its atomics in the place of the real ones.
fn interleavings() -> Result<()> {
    let root = workspace::root();
    let mut loom = command(&["test", "--package", "sinew-resilience", "--lib", "--locked", "loom"]);
    loom.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", root.join("target/loom"));
    process::run(loom.current_dir(root))
}

fn tests() -> Work {
    if process::find("cargo-nextest").is_some() {
        return cargo(&["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]);
    }
    cargo(&["test", "--workspace", "--all-targets", "--locked", "--no-fail-fast"])
}

fn cargo(arguments: &'static [&'static str]) -> Work {
    Box::new(move || process::run(command(arguments).current_dir(workspace::root())))
}

/// The kernel crate is a workspace of its own; its logic also compiles for the host.
fn kernel(arguments: &'static [&'static str]) -> Work {
    Box::new(move || {
        let root = workspace::root();
        let target = root.join("target/kernel-logic");
        let mut command = command(arguments);
        process::run(command.current_dir(root.join("crates/ebpf")).env("CARGO_TARGET_DIR", target))
    })
}

fn command(arguments: &[&str]) -> Command {
    let mut command = process::cargo();
    command.args(arguments);
    command
}

fn step(name: &'static str, work: Work) -> Step {
    println!("\n== {name}");
    let start = Instant::now();
    let outcome = work();
    if let Err(error) = &outcome {
        eprintln!("error: {error:#}");
    }
    Step { name, outcome, took: start.elapsed() }
}

fn report(steps: &[Step]) -> Result<()> {
    println!();
    for step in steps {
        let verdict = if step.outcome.is_ok() { "ok" } else { "FAILED" };
        println!("{:>7.1} s  {verdict:<6}  {}", step.took.as_secs_f64(), step.name);
    }
    let total: Duration = steps.iter().map(|step| step.took).sum();
    let failed: Vec<&str> =
        steps.iter().filter(|step| step.outcome.is_err()).map(|step| step.name).collect();
    if !failed.is_empty() {
        bail!("{} of {} steps failed: {}", failed.len(), steps.len(), failed.join(", "));
    }
    println!("all {} steps passed in {:.0} s", steps.len(), total.as_secs_f64());
    Ok(())
}
