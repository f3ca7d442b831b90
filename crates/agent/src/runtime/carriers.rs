//! What carries kernel programs, whether it carries all of them, and what was done about it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sinew_api::{AdoptedEndpoint, ReachedCgroup, WorkloadStatus};
use sinew_datapath::{Carrier, Mended};
use tokio::task::JoinHandle;

use super::{Runtime, guarded};
use crate::status;

/// The look at all hooks.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    look: Option<JoinHandle<()>>,
    lacking: Lacking,
}

/// What lacks programs that cannot be put back, and why.
#[derive(Clone, Debug, Default)]
pub(super) struct Lacking(Arc<Mutex<BTreeMap<PathBuf, String>>>);

impl Lacking {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what is new.
    fn take(&self, mended: Vec<Mended>) {
        let before = std::mem::take(&mut *self.lock());
        for Mended { cgroup, hooks, error } in mended {
            let (at, hooks) = (cgroup.display(), hooks.join(", "));
            let Some(error) = error else {
                tracing::warn!("{at} lacked {hooks}: somebody took them away; they are back");
                continue;
            };
            let what = format!("{at} lacks {hooks}: {error}");
            if before.get(&cgroup) != Some(&what) {
                tracing::error!("{what}");
            }
            self.lock().insert(cgroup, what);
        }
    }
}

impl Runtime {
    /// Looks whether somebody took a program away, and puts it back.
    pub(super) fn look_at_hooks(&mut self) {
        if self.hooks.look.as_ref().is_some_and(|look| !look.is_finished()) {
            return;
        }
        let (datapath, lacking) = (self.datapath.clone(), self.hooks.lacking.clone());
        self.hooks.look = Some(tokio::task::spawn_blocking(move || {
            match guarded(|| Ok(datapath.lock().mend())) {
                Ok(mended) => lacking.take(mended),
                Err(error) => tracing::error!("cannot look at the kernel programs: {error}"),
            }
        }));
    }

    /// What an operator should know about it.
    pub(super) fn lacking(&self) -> Vec<String> {
        self.hooks.lacking.lock().values().cloned().collect()
    }

    /// Every workload; an adopted one whose cgroup lacks programs says so.
    pub(crate) fn workloads(&self) -> Vec<WorkloadStatus> {
        let lacking = self.hooks.lacking.lock();
        let mut all = status::workloads(&self.core);
        if lacking.is_empty() {
            return all;
        }
        for (status, instance) in all.iter_mut().zip(self.core.instances()) {
            let cgroup = instance.adoption().and_then(|adoption| adoption.target.cgroup());
            let lacks = cgroup.and_then(|cgroup| lacking.get(cgroup)).cloned();
            status.reason = status.reason.take().or(lacks);
        }
        all
    }

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

    /// The programs that a carrier lacks.
    pub(crate) fn missing(&self, carrier: Carrier<'_>) -> Vec<String> {
        let missing = self.datapath.lock().missing_hooks(carrier);
        missing.into_iter().map(str::to_owned).collect()
    }
}
