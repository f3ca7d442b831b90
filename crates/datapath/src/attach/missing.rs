//! Which links are gone although they should be there, and how they come back.

use std::{
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use super::{
    Changes, Duties, HOOKS, Links, PUBLISHED, SOCKET_CALLBACKS, Watch, attach_hooks, cgroup_id,
    deaths, make, network_namespace, open_cgroup, remove_pin,
};
use crate::{Error, object::Object, sys};

/// What the link pinned there is attached to; `None` when there is no such pin.
pub(super) fn target(pin: &Path) -> Option<u64> {
    let link = sys::open_pin(pin).ok()?;
    sys::link_info(link.as_fd()).ok().map(|info| info.target)
}

impl Links {
    /// The hooks that the members' cgroup lacks, as the kernel says.
    pub(crate) fn missing(&self, cgroup: &Path, duties: Duties) -> Vec<&'static str> {
        let id = open_cgroup(cgroup).and_then(|directory| cgroup_id(&directory, cgroup)).ok();
        let lacks = |name: &&str| id.is_none() || target(&self.directory.join(name)) != id;
        let mut missing: Vec<_> = HOOKS.iter().map(|(name, _)| *name).filter(lacks).collect();
        if duties.looks_up && !self.publishes_here() {
            missing.push(PUBLISHED);
        }
        let callbacks = duties.calls_back && !self.calls_back(cgroup);
        if callbacks || self.watched.keys().any(|id| !self.watches(*id)) {
            missing.push(SOCKET_CALLBACKS);
        }
        missing.extend(deaths::missing(&self.directory, &self.deaths));
        missing
    }

    fn publishes_here(&self) -> bool {
        let here = network_namespace().ok().map(|(_, id)| id);
        here.is_some() && target(&self.directory.join(PUBLISHED)) == here
    }

    /// Whether listen() is still seen in a watched cgroup. One that is gone is missed by nobody.
    fn watches(&self, id: u64) -> bool {
        match target(&self.watch_path(id)) {
            Some(0) => self.lost(id).is_none(),
            Some(_) => true,
            None => false,
        }
    }

    /// A watched cgroup that is there.
    fn lost(&self, id: u64) -> Option<PathBuf> {
        let cgroup = self.watched.get(&id)?.cgroup.clone()?;
        let directory = open_cgroup(&cgroup).ok()?;
        (cgroup_id(&directory, &cgroup).ok()? == id).then_some(cgroup)
    }

    fn watch_again(&mut self, object: &Object, id: u64) -> Result<(), Error> {
        let Some(Watch { link, .. }) = self.watched.get(&id) else { return Ok(()) };
        let path = self.watch_path(id);
        // It lives as long as this process has it: the pin alone is gone.
        if sys::link_info(link.as_fd()).is_ok_and(|info| info.target == id) {
            return sys::pin(link.as_fd(), &path)
                .map_err(|e| Error::system(format!("pin {}", path.display()), e));
        }
        let cgroup = self.lost(id);
        remove_pin(&path)?;
        self.watched.remove(&id);
        cgroup.map_or(Ok(()), |cgroup| self.watch_one(object, id, &cgroup))
    }

    /// Puts back what the members lack.
    pub(crate) fn mend(
        &mut self,
        object: &Object,
        cgroup: &Path,
        duties: Duties,
    ) -> Result<(), Error> {
        make(&self.directory.join("watch"))?;
        let mut changes = Changes::default();
        if let Err(error) = attach_hooks(object, cgroup, HOOKS, &self.directory, &mut changes) {
            changes.take_back();
            return Err(error);
        }
        if duties.looks_up && !self.publishes_here() {
            self.attach_published(object, &mut Changes::default())?;
        }
        if duties.calls_back {
            self.call_back(object, cgroup)?;
        }
        deaths::attach(object, &self.directory);
        let lost: Vec<u64> = self.watched.keys().copied().filter(|id| !self.watches(*id)).collect();
        lost.into_iter().try_for_each(|id| self.watch_again(object, id))
    }
}
