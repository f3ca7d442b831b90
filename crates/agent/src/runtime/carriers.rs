//! What carries kernel programs outside of the members, and whether it carries all of them.

use std::path::Path;

use sinew_api::{AdoptedEndpoint, ReachedCgroup};
use sinew_datapath::Carrier;

use super::Runtime;

impl Runtime {
    /// The cgroups whose processes call services without being members.
    pub(crate) fn reached(&self) -> Vec<ReachedCgroup> {
        let missing = |cgroup: &Path| self.missing(Carrier::Reach(cgroup));
        let cgroups = self.reach.iter();
        cgroups
            .map(|cgroup| ReachedCgroup { cgroup: cgroup.clone(), missing: missing(cgroup) })
            .collect()
    }

    /// The endpoints that Sinew did not start.
    pub(crate) fn adopted(&self) -> Vec<AdoptedEndpoint> {
        let adopted = self.core.instances().filter_map(|i| Some((i, i.adoption()?)));
        adopted
            .map(|(instance, adoption)| {
                // One that is stopped has none, and lacks nothing.
                let own = adoption.target.cgroup().filter(|cgroup| cgroup.is_dir());
                AdoptedEndpoint {
                    endpoint: instance.key.to_string(),
                    adopted: adoption.target.to_string(),
                    state: instance.state(),
                    missing: own.map_or_else(Vec::new, |at| self.missing(Carrier::Adopted(at))),
                }
            })
            .collect()
    }

    fn missing(&self, carrier: Carrier<'_>) -> Vec<String> {
        let missing = self.datapath.lock().missing_hooks(carrier);
        missing.into_iter().map(str::to_owned).collect()
    }
}
