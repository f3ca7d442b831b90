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
mod top;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if let (Some(helper), Some(directory)) = (words.next(), words.next()) {
        let directory = Path::new(&directory);
        // These stay small, without the parser: a shim lives beside every workload, without a
        // runtime even.
        if helper == "shim" {
            return sinew_workload::shim_main(directory);
        }
        if helper == "resolver" {
            command::log_of_helper();
            return sinew_agent::resolver_main(directory);
        }
    }
    command::run(args::Cli::parse())
}
