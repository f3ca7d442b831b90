//! Tasks of the workspace: `cargo xtask <task>`.

mod ebpf;
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
    /// Build the kernel programs and put the object where the `sinew` binary embeds it
    Ebpf(ebpf::Args),
    /// Install what other tasks need, without running them
    Setup(setup::Args),
    /// Check formatting, lints, the kernel object and every test
    Test(test::Args),
}

fn main() -> ExitCode {
    if let Some(code) = ebpf::become_rustc() {
        return code;
    }
    let outcome = match Cli::parse().task {
        Task::Ebpf(args) => ebpf::run(&args),
        Task::Setup(args) => setup::run(&args),
        Task::Test(args) => test::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
