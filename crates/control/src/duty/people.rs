//! What people do with the control plane: each a plan, or the reason why it is not done.

use std::collections::BTreeMap;

use sinew_model::{NodeName, ProjectName, ServiceName, ZoneName, fleet::OutOfBounds};

use super::plan::{Change, Plan, Rule};
use crate::{
    records::{
        Key,
        config::{Limits, NotPausable, Pausable, StoredPause},
    },
    registry::Registry,
    session::{Now, milliseconds},
    store::Revision,
};

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is so already.
    #[error("{why}: nothing to do")]
    Nothing {
        /// What is so.
        why: String,
    },
    /// Nobody is there.
    #[error("no host of zone {zone} has ever had a session; known zones: {}", named(known))]
    NoZone {
        /// Asked for.
        zone: ZoneName,
        /// Those that are known.
        known: Vec<String>,
    },
    /// No such host.
    #[error("host {node} has never had a session: see `sinew nodes`")]
    NoHost {
        /// Asked for.
        node: NodeName,
    },
    /// It may come back.
    #[error(
        "host {node} is not dead: only a host that is gone can be forgotten; end its agent, or take it \
         out with `sinew nodes withdraw {node}`"
    )]
    Alive {
        /// Asked for.
        node: NodeName,
    },
    /// It is not gone yet.
    #[error(
        "{services} services have endpoints of host {node} that are still to be removed, which a cap \
         and pauses hold up: try again later, see `sinew nodes`"
    )]
    Remains {
        /// Asked for.
        node: NodeName,
        /// So many.
        services: usize,
    },
    /// Two at once leave too little.
    #[error(
        "zone {other} gets {percent} % of its share: one zone at a time is taken out; bring it back \
         with `sinew return {other}`, or use --force"
    )]
    AnotherZone {
        /// Asked for.
        zone: ZoneName,
        /// The one that is out.
        other: ZoneName,
        /// Its share.
        percent: u8,
    },
    /// The others cannot carry it.
    #[error(
        "more than half of what is up of {} is in zone {zone}{}: what is left may not carry it; \
         start more elsewhere, or use --force",
        named(needed), more(*of, needed.len())
    )]
    Needed {
        /// Asked for.
        zone: ZoneName,
        /// So many services.
        of: usize,
        /// Some of them.
        needed: Vec<String>,
    },
    /// Nothing of that name.
    #[error(transparent)]
    NotPausable(#[from] NotPausable),
    /// Another project has the service.
    #[error("service {service} is placed by project {project}: one of them needs another name")]
    Taken {
        /// Which.
        service: ServiceName,
        /// Whose it is.
        project: ProjectName,
    },
    /// It is no project that can be run.
    #[error("{0}")]
    Invalid(String),
    /// More than the store and the protocol take.
    #[error(
        "{what} has {bytes} bytes, and at most {most} are placed: split it, or take from `env`"
    )]
    TooLarge {
        /// Of what.
        what: String,
        /// So many.
        bytes: usize,
        /// At most.
        most: usize,
    },
    /// More services than a host may be told of.
    #[error(
        "{services} services would be placed, and at most {most} are: take some out with `sinew \
         unplace`, or make one service of several"
    )]
    TooMany {
        /// So many.
        services: usize,
        /// At most.
        most: usize,
    },
    /// Nothing of that name is placed.
    #[error("no project {project} is placed: `sinew placement` lists them")]
    NoProject {
        /// Asked for.
        project: ProjectName,
    },
    /// No limit of that name, or not that value.
    #[error(transparent)]
    Limit(#[from] OutOfBounds),
    /// One limit is against another.
    #[error(
        "removal_interval_ms is {interval_ms}, and tombstones are kept for tombstone_life_ms {life_ms}: they are kept for longer"
    )]
    Life {
        /// The interval.
        interval_ms: u64,
        /// How long they are kept.
        life_ms: u64,
    },
    /// Nothing is that new.
    #[error("generation {generation} has not been yet: the store is at {newest}")]
    Future {
        /// Asked for.
        generation: u64,
        /// The newest.
        newest: u64,
    },
}

fn named(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn more(of: usize, named: usize) -> String {
    match of.saturating_sub(named) {
        0 => String::new(),
        more => format!(" (and of {more} more services)"),
    }
}

/// Pauses something until somebody ends that.
///
/// # Errors
/// When it is paused.
pub fn pause(
    what: Pausable,
    who: &str,
    reason: &str,
    now: Now,
    registry: &Registry,
) -> Result<Plan, Refused> {
    if let Some((_, pause)) = registry.config().pauses().get(&what) {
        return Err(Refused::Nothing { why: format!("{what} is paused by {}", pause.by) });
    }
    let since_ms = milliseconds(now.wall);
    let pause = StoredPause { by: who.to_owned(), reason: reason.to_owned(), since_ms };
    let change = Change::new(Key::Pause(what), None, Some(&pause));
    let words = format!("{what} is paused");
    Ok(Plan::new(Rule::Pause, registry, words).with(change).input("reason", reason))
}

/// Ends a pause.
///
/// # Errors
/// When there is none.
pub fn resume(what: Pausable, registry: &Registry) -> Result<Plan, Refused> {
    let Some(pause) = registry.config().pauses().get(&what) else {
        let of = if registry.config().is_paused(what) { ", but all is" } else { "" };
        return Err(Refused::Nothing { why: format!("{what} is not paused by itself{of}") });
    };
    let change = Change::new(Key::Pause(what), Some(pause), None);
    Ok(Plan::new(Rule::Resume, registry, format!("{what} goes on")).with(change))
}

/// Changes limits.
///
/// # Errors
/// When one is out of its bounds, or nothing changes.
pub fn set_limits(changes: &BTreeMap<String, u64>, registry: &Registry) -> Result<Plan, Refused> {
    let (revision, before) = (registry.config().limits_revision(), registry.config().limits());
    let mut after = before.clone();
    for (name, value) in changes {
        after.set(name, *value)?;
    }
    check_limits(&after)?;
    if after == *before {
        return Err(Refused::Nothing { why: "the limits are so".to_owned() });
    }
    let named: Vec<_> = changes.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let before = (revision != Revision(0)).then(|| (revision, before.clone()));
    let change = Change::new(Key::Limits, before.as_ref(), Some(&after));
    let words = format!("limits are changed: {}", named.join(", "));
    Ok(Plan::new(Rule::SetLimits, registry, words).with(change))
}

fn check_limits(limits: &Limits) -> Result<(), Refused> {
    let (interval_ms, life_ms) = (limits.removal_interval_ms, limits.tombstone_life_ms);
    if life_ms < interval_ms {
        return Err(Refused::Life { interval_ms, life_ms });
    }
    Ok(())
}
