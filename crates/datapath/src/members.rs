//! Which cgroups are members: found by their paths, and only those looked up that are new.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::Arc,
};

use crate::{
    Error, Instance,
    layout::{Applied, Delta, Member},
};

/// The members that were applied last.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// The cgroup that holds those of Sinew's own making.
    root: PathBuf,
    applied: Applied<u64, Instance>,
    /// Ids of their cgroups.
    cgroups: HashMap<u64, u64>,
    /// Those whose cgroups others make and remove: there or not, and at times another one.
    outside: HashMap<u64, Arc<Instance>>,
}

/// The way to other members.
pub(crate) struct Change {
    instances: Delta<Arc<Instance>>,
    /// The same, in cgroups.
    pub members: Delta<Member>,
    /// All cgroups outside the members' that instances have then, by their ids.
    pub outside: HashMap<u64, PathBuf>,
}

impl Members {
    /// Knows nothing; `root` holds the cgroups of Sinew's own making.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, ..Self::default() }
    }

    /// The way from here to `wanted`.
    ///
    /// # Errors
    /// When a cgroup of Sinew's own making is not there.
    pub(crate) fn to(&self, wanted: &BTreeMap<u64, Arc<Instance>>) -> Result<Change, Error> {
        let instances = self.applied.to(wanted);
        let mut left: Vec<Member> = instances.left.iter().filter_map(|i| self.known(i)).collect();
        let mut came = Vec::with_capacity(instances.came.len());
        for instance in &instances.came {
            came.extend(self.member(instance)?);
        }
        let mut outside: HashMap<u64, PathBuf> = came
            .iter()
            .filter(|member| self.is_outside(&member.instance))
            .map(|member| (member.cgroup, member.instance.cgroup.clone()))
            .collect();
        let stays = |instance: &&Arc<Instance>| {
            wanted.get(&instance.id).is_some_and(|wanted| Arc::ptr_eq(wanted, instance))
        };
        for instance in self.outside.values().filter(stays) {
            let (was, is) = (self.known(instance), self.member(instance)?);
            outside.extend(is.iter().map(|is| (is.cgroup, instance.cgroup.clone())));
            if was.as_ref().map(|was| was.cgroup) != is.as_ref().map(|is| is.cgroup) {
                left.extend(was);
                came.extend(is);
            }
        }
        let members = Delta { whole: instances.whole, left, came };
        Ok(Change { instances, members, outside })
    }

    /// Cgroups outside the root that instances have.
    pub(crate) fn outside(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.outside.values().map(|instance| instance.cgroup.clone())
    }

    /// Ids of all cgroups of members, those below instances' too.
    pub(crate) fn all_cgroups(&self) -> HashSet<u64> {
        let mut found = HashSet::new();
        let mut left: Vec<PathBuf> =
            std::iter::once(self.root.clone()).chain(self.outside()).collect();
        while let Some(cgroup) = left.pop() {
            found.extend(fs::metadata(&cgroup).ok().map(|metadata| metadata.ino()));
            let below = fs::read_dir(&cgroup).into_iter().flatten().flatten();
            let is_cgroup =
                |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
            left.extend(below.filter(is_cgroup).map(|entry| entry.path()));
        }
        found
    }

    /// Nothing is known until the next [`reach`](Self::reach).
    pub(crate) fn forget(&mut self) {
        *self = Self::new(std::mem::take(&mut self.root));
    }

    /// Went this way.
    pub(crate) fn reach(&mut self, change: &Change) {
        self.applied.reach(&change.instances, |instance| instance.id);
        for left in &change.instances.left {
            self.outside.remove(&left.id);
        }
        for came in &change.instances.came {
            if self.is_outside(came) {
                self.outside.insert(came.id, came.clone());
            }
        }
        for left in &change.members.left {
            self.cgroups.remove(&left.instance.id);
        }
        self.cgroups.extend(change.members.came.iter().map(|m| (m.instance.id, m.cgroup)));
    }

    fn is_outside(&self, instance: &Instance) -> bool {
        !instance.cgroup.starts_with(&self.root)
    }

    /// As it was applied.
    fn known(&self, instance: &Arc<Instance>) -> Option<Member> {
        let cgroup = *self.cgroups.get(&instance.id)?;
        Some(Member { cgroup, instance: instance.clone() })
    }

    /// As it is now; `None`: its cgroup is not there, and others may make it.
    fn member(&self, instance: &Arc<Instance>) -> Result<Option<Member>, Error> {
        match fs::metadata(&instance.cgroup) {
            Ok(metadata) => Ok(Some(Member { cgroup: metadata.ino(), instance: instance.clone() })),
            Err(_) if self.is_outside(instance) => Ok(None),
            Err(source) => Err(Error::Cgroup { path: instance.cgroup.clone(), source }),
        }
    }
}
