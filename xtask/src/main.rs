//! Tasks of the workspace: `cargo xtask <task>`.

mod bench;
mod demo;
mod ebpf;
mod hosts;
mod internal;
mod process;
mod setup;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of the Sinew workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure, print a table and write `target/bench/<bench>.json`
    Bench(bench::Args),
    /// Run examples/shop, break it, and count what its users noticed
    Demo(demo::Args),
    /// Build the kernel programs and put the object where the `sinew` binary embeds it
    Ebpf(ebpf::Args),
    /// Make several hosts on this machine and run a command beside them
    Hosts(hosts::Args),
    /// Install what other tasks need, without running them
    Setup(setup::Args),
    /// Check formatting, lints, the kernel object and every test
    Test(test::Args),
    #[command(subcommand, hide = true)]
    Internal(internal::Internal),
}

fn main() -> ExitCode {
    if let Some(code) = ebpf::become_rustc() {
        return code;
    }
    let outcome = match Cli::parse().task {
        Task::Bench(args) => bench::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Ebpf(args) => ebpf::run(&args),
        Task::Hosts(args) => hosts::run(&args),
        Task::Setup(args) => setup::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Internal(role) => internal::run(&role),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
