//! The agent with real workloads, real cgroups and a data path of memory: what a user would see over
//! the API. Runs in namespaces and below a cgroup of its own; needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{path::Path, process::ExitCode};

mod bounds;
mod host;
mod member;
mod scenes;

/// Name and scene.
type Scene = (&'static str, fn());

fn all() -> impl Iterator<Item = Scene> {
    scenes::ALL.iter().chain(bounds::ALL).copied()
}

/// What is asked for, by its name.
fn name_of(arguments: &[String]) -> Option<&str> {
    arguments.iter().skip(1).map(String::as_str).find(|argument| !argument.starts_with('-'))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("shim") => return sinew_workload::shim_main(Path::new(&arguments[2])),
        Some("resolver") => return sinew_agent::resolver_main(Path::new(&arguments[2])),
        Some("member") => return member::join(&arguments[2..]),
        Some("apply") => return member::apply(&arguments[2..]),
        _ => {}
    }
    // What a runner of tests asks, each of which it then runs by its name.
    let is_set = |option: &str| arguments.iter().any(|argument| argument == option);
    if is_set("--list") {
        let listed = all().filter(|_| !is_set("--ignored"));
        listed.for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: the agent needs root");
        return ExitCode::SUCCESS;
    }
    host::enter_own_machine();
    let wanted = |name: &str| match name_of(&arguments) {
        Some(exact) if is_set("--exact") => name == exact,
        Some(part) => name.contains(part),
        None => true,
    };
    let mut failed = false;
    for (name, scene) in all().filter(|(name, _)| wanted(name)) {
        let outcome = std::panic::catch_unwind(scene);
        println!("scene {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        failed |= outcome.is_err();
    }
    ExitCode::from(u8::from(failed))
}
