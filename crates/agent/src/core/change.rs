//! What follows from another intent. A host may have ten thousand services and a change be about one:
//! only those that differ are looked at again.

use std::{collections::BTreeSet, sync::Arc};

use sinew_model::ServiceName;

use super::Core;
use crate::{
    intent::{Intent, Owned},
    launch::Launch,
};

impl Core {
    /// What the intent says from now on; `news` unless it is told of at the start of the agent.
    pub(super) fn take_intent(&mut self, intent: &Arc<Intent>, news: bool) {
        let before = std::mem::replace(&mut self.intent, intent.clone());
        for (name, owned) in &intent.projects {
            let known = before.projects.get(name);
            if known.is_none_or(|known| known.generation != owned.generation) {
                self.ready.insert(name.clone(), false);
                self.touched_projects.insert(name.clone());
                if news {
                    self.publish_project(name, "applied");
                }
            }
        }
        self.use_names(&before);
        self.suspect_names();
        let changed = self.renew_launches(&before);
        self.touch_around(&changed);
        self.touch_marked(&before);
        if !news {
            self.touch_all();
        }
        if before.numbers != intent.numbers {
            self.names += 1;
        }
        self.configure_others();
        self.forget_readiness();
        self.dirty = true;
    }

    /// Brings the launches to the intent, which was `before`; those that are the same keep their
    /// allocation, so that comparing them is comparing pointers. Answers which are not.
    fn renew_launches(&mut self, before: &Intent) -> BTreeSet<ServiceName> {
        let intent = self.intent.clone();
        let mut changed = BTreeSet::new();
        for (project, owned) in &before.projects {
            let after = intent.projects.get(project);
            if after.is_some_and(|after| Arc::ptr_eq(after, owned)) {
                continue;
            }
            let wanted = |name: &&ServiceName| {
                after.is_some_and(|after| after.project.services.contains_key(*name))
            };
            let gone = owned.project.services.keys().filter(|name| !wanted(name));
            changed.extend(gone.cloned());
        }
        for name in &changed {
            self.touch_needed_by(name);
            self.launches.remove(name);
            self.names += 1;
        }
        for (project, owned) in &intent.projects {
            let known = before.projects.get(project);
            if known.is_none_or(|known| !Arc::ptr_eq(known, owned)) {
                let names = owned.project.services.keys();
                changed.extend(names.filter(|name| self.is_launch_new(owned, name)).cloned());
            }
        }
        let rolled = |name: &&ServiceName| before.rollouts.get(name) != intent.rollouts.get(name);
        changed
            .extend(before.rollouts.keys().chain(intent.rollouts.keys()).filter(rolled).cloned());
        for name in &changed {
            if let Some(launch) = intent.launch(name) {
                self.touch_needed_by(name);
                self.note_dependencies(name, &launch);
                let ports = launch.service.ports.clone();
                let known = self.launches.insert(name.clone(), Arc::new(launch));
                let is_same = known.is_some_and(|known| known.service.ports == ports);
                self.names += u64::from(!is_same);
            }
        }
        changed
    }

    fn is_launch_new(&self, owned: &Owned, name: &ServiceName) -> bool {
        let service = owned.project.services.get(name);
        self.launches.get(name).is_none_or(|launch| {
            launch.project != owned.project.name
                || launch.owner != owned.owner
                || Some(&launch.service) != service
        })
    }

    /// Who once needed a service may still be leaving: entries stay.
    pub(super) fn note_dependencies(&mut self, name: &ServiceName, launch: &Launch) {
        for needed in &launch.service.depends_on {
            self.dependents.entry(needed.clone()).or_default().insert(name.clone());
        }
    }

    /// What a launch needs may go before or after it.
    fn touch_needed_by(&mut self, name: &ServiceName) {
        let needed = self.launches.get(name).map(|launch| launch.service.depends_on.clone());
        self.touched.extend(needed.into_iter().flatten().map(Some));
    }

    fn touch_around(&mut self, changed: &BTreeSet<ServiceName>) {
        for name in changed {
            self.touched.insert(Some(name.clone()));
            self.touch_needed_by(name);
            self.touch_neighbours(name);
        }
    }

    /// Those that were drained or adopted, or are not any more.
    fn touch_marked(&mut self, before: &Intent) {
        let intent = self.intent.clone();
        let drained = before.drained.symmetric_difference(&intent.drained);
        self.touched.extend(drained.map(|key| key.service.clone()));
        let same = before.adopted.len() == intent.adopted.len()
            && before.adopted.iter().zip(&intent.adopted).all(|(a, b)| Arc::ptr_eq(a, b));
        if !same {
            let all = before.adopted.iter().chain(&intent.adopted);
            self.touched.extend(all.map(|adoption| adoption.key.service.clone()));
        }
    }
}
