//! Which cgroups are members: found by their paths, and only those looked up that are new.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::MetadataExt as _,
    sync::Arc,
};

use crate::{
    Error, Instance,
    layout::{Applied, Delta, Member},
};

/// The members that were applied last.
#[derive(Debug, Default)]
pub(crate) struct Members {
    applied: Applied<u64, Instance>,
    /// Ids of their cgroups.
    cgroups: HashMap<u64, u64>,
}

/// The way to other members.
pub(crate) struct Change {
    instances: Delta<Arc<Instance>>,
    /// The same, in cgroups.
    pub members: Delta<Member>,
}

impl Members {
    /// The way from here to `wanted`.
    ///
    /// # Errors
    /// When a cgroup is not there.
    pub(crate) fn to(&self, wanted: &BTreeMap<u64, Arc<Instance>>) -> Result<Change, Error> {
        let instances = self.applied.to(wanted);
        let left = instances.left.iter().filter_map(|instance| {
            let cgroup = *self.cgroups.get(&instance.id)?;
            Some(Member { cgroup, instance: instance.clone() })
        });
        let members = Delta {
            whole: instances.whole,
            left: left.collect(),
            came: instances.came.iter().map(member).collect::<Result<_, _>>()?,
        };
        Ok(Change { instances, members })
    }

    /// Nothing is known until the next [`reach`](Self::reach).
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Went this way.
    pub(crate) fn reach(&mut self, change: &Change) {
        self.applied.reach(&change.instances, |instance| instance.id);
        for left in &change.members.left {
            self.cgroups.remove(&left.instance.id);
        }
        self.cgroups.extend(change.members.came.iter().map(|m| (m.instance.id, m.cgroup)));
    }
}

fn member(instance: &Arc<Instance>) -> Result<Member, Error> {
    let metadata = fs::metadata(&instance.cgroup)
        .map_err(|source| Error::Cgroup { path: instance.cgroup.clone(), source })?;
    Ok(Member { cgroup: metadata.ino(), instance: instance.clone() })
}
