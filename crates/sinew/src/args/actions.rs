//! What people have the control plane do.

use clap::{Args, Subcommand, ValueEnum};
use sinew_model::{ProjectName, ZoneName};

use super::{FileArg, value};

#[derive(Debug, Args)]
pub(crate) struct History {
    /// Only what was done after this generation
    #[arg(long, value_name = "GENERATION", default_value_t = 0)]
    pub(crate) after: u64,
    /// So many actions, the newest
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    pub(crate) limit: usize,
    /// Go on with what is done from now on, until interrupted
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// Whether to do it.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct DryRun {
    /// Only show what it would change, and whom that touches in each zone
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// What was set after it is undone, as `sinew history` shows it
    pub(crate) generation: u64,
    #[command(flatten)]
    pub(crate) run: DryRun,
}

/// What can be paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pausable {
    /// Declaring hosts dead, and removing what they ran.
    Removals,
    /// Placing replicas, and bringing zones back.
    Placement,
    /// Both.
    All,
}

impl Pausable {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Removals => "removals",
            Self::Placement => "placement",
            Self::All => "all",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Pause {
    /// What; without it: show what is paused, frozen, or gets less than its share
    pub(crate) what: Option<Pausable>,
    /// Why: others see it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) run: DryRun,
}

#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// What was paused
    pub(crate) what: Pausable,
    #[command(flatten)]
    pub(crate) run: DryRun,
}

#[derive(Debug, Args)]
pub(crate) struct Evacuate {
    /// The zone
    pub(crate) zone: ZoneName,
    /// Why: others see it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// Though other zones may not carry it, or another one is out
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) run: DryRun,
}

#[derive(Debug, Args)]
pub(crate) struct Return {
    /// The zone
    pub(crate) zone: ZoneName,
    #[command(flatten)]
    pub(crate) run: DryRun,
}

#[derive(Debug, Args)]
pub(crate) struct Place {
    #[command(flatten)]
    pub(crate) file: FileArg,
    #[command(flatten)]
    pub(crate) run: DryRun,
}

#[derive(Debug, Args)]
pub(crate) struct Unplace {
    /// The project: `name` in the file, or the name of its directory
    pub(crate) project: ProjectName,
    #[command(flatten)]
    pub(crate) run: DryRun,
}

#[derive(Debug, Args)]
pub(crate) struct Limits {
    #[command(subcommand)]
    pub(crate) action: Option<LimitsAction>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LimitsAction {
    /// Change some
    Set {
        /// As removal_cap_percent=20
        #[arg(required = true, value_name = "NAME=NUMBER", value_parser = value::limit)]
        limits: Vec<(String, u64)>,
        #[command(flatten)]
        run: DryRun,
    },
}
