//! The agent with real workloads, real cgroups and a data path of memory: what a user would see over
//! the API. Runs in namespaces and below a cgroup of its own; needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::{path::Path, process::ExitCode};

mod bounds;
mod host;
mod member;
mod scenes;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("shim") => return sinew_workload::shim_main(Path::new(&arguments[2])),
        Some("resolver") => return sinew_agent::resolver_main(Path::new(&arguments[2])),
        Some("member") => return member::join(&arguments[2..]),
        Some("apply") => return member::apply(&arguments[2..]),
        // Asked for by tools that list tests.
        Some("--list") => return ExitCode::SUCCESS,
        _ => {}
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: the agent needs root");
        return ExitCode::SUCCESS;
    }
    host::enter_own_machine();
    let only = arguments.get(1).filter(|argument| !argument.starts_with('-'));
    let mut failed = false;
    for (name, scene) in scenes::ALL.iter().chain(bounds::ALL) {
        if only.is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let outcome = std::panic::catch_unwind(scene);
        println!("scene {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        failed |= outcome.is_err();
    }
    ExitCode::from(u8::from(failed))
}
