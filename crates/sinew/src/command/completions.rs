//! `sinew completions`.

use clap::CommandFactory as _;

use crate::{
    args::{Cli, Completions},
    context::Context,
    error::Error,
};

pub(super) fn completions(args: &Completions, context: &Context) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sinew", &mut script);
    context.print(&String::from_utf8_lossy(&script))
}
