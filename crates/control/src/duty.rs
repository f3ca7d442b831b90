//! What one replica of control does for all of them, and what people have done.
//!
//! One replica at a time has the duty, by a lock in the store that goes with its lease. It declares
//! hosts dead ([`liveness`]), removes their endpoints within a cap ([`removal`]), and forgets
//! tombstones ([`sweep`]). Nothing else depends on it: without anybody who has it, sessions, reports
//! and updates go on.
//!
//! What is to be done is a [`plan::Plan`]: keys that change, compared with what the plan was computed
//! from, and whom that touches.
//!
//! | it does nothing | because |
//! |---|---|
//! | for the session time-out and 5 s more after it took the duty, or its knowledge was in doubt | it has not seen what happened before |
//! | for as long, when a replica is gone, or lost most of its sessions at once | hosts come back by another |
//! | while more than half of all hosts are gone at once, or of a zone's that has several, and the same time after | so many do not die at once: they are cut off |
//! | while one host after the other is lost | it is not known yet how many are |
//! | while removals are paused | somebody said so |

pub mod capacity;
pub mod forgetting;
pub mod history;
pub mod liveness;
pub mod people;
pub mod placing;
pub mod plan;
pub mod removal;
pub mod rollback;
pub mod sweep;
#[cfg(test)]
mod tests;
pub mod zones;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sinew_model::NodeName;

use crate::{
    records::config::Pausable,
    registry::Registry,
    session::Now,
    store::{Revision, Transaction},
};

use liveness::{Frozen, Liveness};
use plan::Plan;

/// How often tombstones are looked through.
const SWEEPS: Duration = Duration::from_secs(10);

/// How often it is decided where everything runs, while nothing of what is placed changes: it goes
/// through all hosts and services.
const DECISIONS: Duration = Duration::from_secs(1);

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A plan, which becomes an entry of the history.
    Plan(Box<Plan>),
    /// Tombstones are forgotten.
    Sweep(Transaction),
}

/// The duty, from when it was taken.
#[derive(Debug)]
pub struct Duty {
    liveness: Liveness,
    frozen: Vec<Frozen>,
    /// Dead hosts of which nothing is left, by the session that says so.
    empty: BTreeMap<NodeName, Revision>,
    /// When everything was where it was to be, by which changes of what is placed.
    decided: Option<(Duration, u64)>,
    swept: Option<Duration>,
    sweeping: BTreeSet<sinew_model::ServiceName>,
}

impl Duty {
    /// It has just been taken.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self {
            liveness: Liveness::new(now.monotonic),
            frozen: Vec::new(),
            empty: BTreeMap::new(),
            decided: None,
            swept: None,
            sweeping: BTreeSet::new(),
        }
    }

    /// What was known may have been stale.
    pub fn doubt(&mut self, now: Now) {
        self.liveness.doubt(now.monotonic);
    }

    /// What is frozen, as of the last look.
    #[must_use]
    pub fn frozen(&self) -> &[Frozen] {
        &self.frozen
    }

    /// The next thing to do. What was done before has to be in the registry.
    pub fn next(&mut self, now: Now, registry: &Registry) -> Option<Act> {
        let found = self.liveness.look(now, registry);
        self.frozen = found.frozen;
        let config = registry.config();
        let may_remove = !config.is_paused(Pausable::Removals);
        let removal = may_remove.then(|| self.remove(&found.dead, now, registry)).flatten();
        let forgotten = || forgetting::due(now, registry).filter(|_| may_remove);
        let calm = self.frozen.is_empty() && !config.is_paused(Pausable::Placement);
        let plan = removal.or_else(|| calm.then(|| zones::step(now, registry)).flatten());
        let plan = plan.or_else(|| calm.then(|| self.spread(now, registry)).flatten());
        let plan = plan.or_else(|| calm.then(forgotten).flatten());
        let act = plan.map(|plan| Act::Plan(Box::new(plan)));
        act.or_else(|| may_remove.then(|| self.sweep(now, registry)).flatten())
    }

    fn remove(
        &mut self,
        dead: &[(NodeName, Revision)],
        now: Now,
        registry: &Registry,
    ) -> Option<Plan> {
        let declared =
            dead.iter().find_map(|(node, at)| removal::declare(node, *at, now, registry));
        declared.or_else(|| self.bury(now, registry))
    }

    /// The next removal: of who has been dead for longest, first.
    fn bury(&mut self, now: Now, registry: &Registry) -> Option<Plan> {
        // Those who are back have another session, or none that is dead.
        self.empty.retain(|node, at| registry.session(node).0 == *at);
        for (at, node) in registry.dead_since(Revision(0)) {
            if self.empty.contains_key(node) {
                continue;
            }
            if let Some(plan) = removal::bury(node, now, registry) {
                return Some(plan);
            }
            if registry.services_of(node).next().is_none() {
                self.empty.insert(node.clone(), at);
            }
        }
        None
    }

    fn spread(&mut self, now: Now, registry: &Registry) -> Option<Plan> {
        let changes = registry.placed().changes();
        let settled = self.decided.is_some_and(|(at, then)| {
            then == changes && now.monotonic.saturating_sub(at) < DECISIONS
        });
        if settled {
            return None;
        }
        let plan = placing::step(now, registry);
        self.decided = plan.is_none().then_some((now.monotonic, changes));
        plan
    }

    fn sweep(&mut self, now: Now, registry: &Registry) -> Option<Act> {
        if let Some(prune) = history::prune(registry) {
            return Some(Act::Sweep(prune));
        }
        if self.swept.is_none_or(|at| at + SWEEPS <= now.monotonic) {
            self.swept = Some(now.monotonic);
            self.sweeping = registry.services().cloned().collect();
        }
        while let Some(service) = self.sweeping.first() {
            if let Some(transaction) = sweep::sweep(service, now, registry) {
                return Some(Act::Sweep(transaction));
            }
            self.sweeping.pop_first();
        }
        None
    }
}
