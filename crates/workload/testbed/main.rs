//! What the tests start: a shim, and an agent that can be killed.

use std::{env, path::PathBuf, process::ExitCode};

use sinew_workload::{LaunchSpec, Shims, shim_main, start};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["shim", dir] => shim_main(&PathBuf::from(dir)),
        ["agent", dir, cgroup, spec] => agent(dir, cgroup, spec),
        _ => ExitCode::FAILURE,
    }
}

/// Starts a workload, says so, and does nothing until it is killed.
fn agent(dir: &str, cgroup: &str, spec: &str) -> ExitCode {
    let Ok(exe) = env::current_exe() else { return ExitCode::FAILURE };
    let Ok(spec) = serde_json::from_str::<LaunchSpec>(spec) else { return ExitCode::FAILURE };
    let Ok(runtime) = tokio::runtime::Runtime::new() else { return ExitCode::FAILURE };
    let shims = Shims { exe, cgroup: cgroup.into() };
    runtime.block_on(async {
        let Ok(_supervised) = start(&shims, &PathBuf::from(dir), &spec).await else {
            return ExitCode::FAILURE;
        };
        println!("started");
        std::future::pending().await
    })
}
