//! What somebody took away by hand is put back: a link that is detached, a pin that is removed, an
//! address or a route; those are lost when `lo` goes down, too. The look costs some system calls a
//! hook and changes nothing when all is well.

use std::{collections::BTreeSet, path::PathBuf};

use super::{Kernel, make_private, maps_directory};
use crate::{
    Carrier, Mended,
    attach::{Duties, Links},
};

impl Kernel {
    /// Looks at every hook and pin, and puts back what is missing. Answers what was.
    pub(super) fn put_back(&mut self) -> Vec<Mended> {
        let mut mended = Vec::new();
        // Before the first apply an earlier version is in force.
        if !self.attached {
            return mended;
        }
        let members = self.options.cgroup.clone();
        let duties = self.duties();
        let missing = self.links.missing(&members, duties);
        if !missing.is_empty() {
            let done = self.links.mend(&self.object, &members, duties);
            // What listened meanwhile was not seen.
            let done = done.and_then(|()| self.scan());
            mended.push(Mended { cgroup: members, hooks: missing, error: done.err() });
        }
        let outside: BTreeSet<PathBuf> = self.members.outside().collect();
        let Self { links, object, options, .. } = self;
        let Links { adopted, reach, .. } = links;
        let reached = options.reach.cgroups.iter().cloned().collect();
        for (carriers, cgroups) in [(adopted, outside), (reach, reached)] {
            for cgroup in cgroups.into_iter().filter(|cgroup| cgroup.is_dir()) {
                let hooks = carriers.missing(&cgroup);
                if !hooks.is_empty() {
                    let error = carriers.hook(object, &cgroup).err();
                    mended.push(Mended { cgroup, hooks, error });
                }
            }
        }
        self.pin_maps(&mut mended);
        let (hooks, done) = self.routes.mend();
        let error = done.err();
        if !hooks.is_empty() || error.is_some() {
            mended.push(Mended { cgroup: "lo".into(), hooks, error });
        }
        self.put_back_for_hosts(&mut mended);
        mended
    }

    fn put_back_for_hosts(&mut self, mended: &mut Vec<Mended>) {
        let (hooks, done) = self.fleet_routes.mend();
        // A socket of datagrams that was bound again is known from now on.
        let error = done.and_then(|()| self.scan_datagrams()).err();
        if !hooks.is_empty() || error.is_some() {
            mended.push(Mended { cgroup: "routes".into(), hooks, error });
        }
    }

    fn duties(&self) -> Duties {
        let looks_up = self.joined || self.ledger.publishes();
        Duties { looks_up, calls_back: self.joined }
    }

    fn pin_maps(&self, mended: &mut Vec<Mended>) {
        let directory = maps_directory(&self.options.pins);
        if self.object.is_pinned(&directory) {
            return;
        }
        let made = make_private(&self.options.pins).and_then(|()| make_private(&directory));
        let done = made.and_then(|()| self.object.pin_maps(&directory));
        mended.push(Mended { cgroup: directory, hooks: vec!["maps"], error: done.err() });
    }

    /// The hooks that a carrier lacks.
    pub(super) fn lacks(&self, carrier: Carrier<'_>) -> Vec<&'static str> {
        match carrier {
            // Nobody is a member before the first apply.
            Carrier::Members if !self.attached => Vec::new(),
            Carrier::Members => self.links.missing(&self.options.cgroup, self.duties()),
            Carrier::Adopted(cgroup) => self.links.adopted.missing(cgroup),
            Carrier::Reach(cgroup) => self.links.reach.missing(cgroup),
        }
    }
}
