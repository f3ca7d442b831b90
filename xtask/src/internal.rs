//! The roles in which a task starts this binary again.

use anyhow::Result;

use crate::bench::{load, server, world};
use crate::demo::shoppers;

/// Not for users: their options change with the tasks that use them.
#[derive(clap::Subcommand)]
pub(crate) enum Internal {
    Hold(world::hold::Args),
    Enter(world::enter::Args),
    Reap(world::reap::Args),
    Probe(world::probe::Args),
    Server(server::Args),
    #[command(subcommand)]
    Load(load::Load),
    Shoppers(shoppers::Args),
}

pub(crate) fn run(role: &Internal) -> Result<()> {
    match role {
        Internal::Hold(args) => world::hold::run(args),
        Internal::Enter(args) => world::enter::run(args),
        Internal::Reap(args) => world::reap::run(args),
        Internal::Probe(args) => world::probe::run(args),
        Internal::Server(args) => server::run(args),
        Internal::Load(load) => load::run(load),
        Internal::Shoppers(args) => shoppers::run(args),
    }
}
