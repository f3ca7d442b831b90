//! Names that nobody uses any more. Their numbers, and so their addresses, are kept for a while,
//! because programs remember what a name resolved to; then they are free, or one host could name
//! only so many services in its life.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use sinew_model::ServiceName;

use super::{Core, Output};
use crate::intent::Intent;

/// From look to look. A name that is of no use at two of them, and was not used in between, is
/// given up.
const REST: Duration = Duration::from_secs(600);

impl Core {
    /// A name may have become of no use.
    pub(super) fn suspect_names(&mut self) {
        self.look_at_names.get_or_insert(self.now + REST);
    }

    /// The services of projects that are not as `before` are used.
    pub(super) fn use_names(&mut self, before: &Intent) {
        for (name, owned) in &self.intent.projects {
            let known = before.projects.get(name);
            if known.is_none_or(|known| !Arc::ptr_eq(known, owned)) {
                for service in owned.project.services.keys() {
                    self.unused.remove(service);
                }
            }
        }
    }

    /// Looks at all names when it is time to.
    pub(super) fn settle_names(&mut self) {
        if self.look_at_names.is_none_or(|at| at > self.now) {
            return;
        }
        let names = self.intent.numbers.keys();
        let unused: BTreeSet<ServiceName> = names
            .filter(|name| !self.launches.contains_key(*name))
            .filter(|name| self.of(Some(name)).next().is_none())
            .filter(|name| !self.is_known_elsewhere(name))
            .cloned()
            .collect();
        let still: Vec<_> = unused.intersection(&self.unused).cloned().collect();
        if !still.is_empty() {
            self.outputs.push(Output::Retire(still));
        }
        // What cannot be given up yet is looked at again.
        self.look_at_names = (!unused.is_empty()).then(|| self.now + REST);
        self.unused = unused;
    }
}
