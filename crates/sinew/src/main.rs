//! The `sinew` command: parses its arguments and hands them to a subcommand.

use std::{path::Path, process::ExitCode};

use clap::Parser as _;

mod args;
mod command;
mod context;
mod error;
mod file;
mod readable;
mod render;
mod spawn;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == "shim")
        && let Some(directory) = words.next()
    {
        // One such process lives beside every workload: it stays small, without a runtime, without
        // the parser.
        return sinew_workload::shim_main(Path::new(&directory));
    }
    command::run(args::Cli::parse())
}
