//! When a project is ready, and when it is gone.

use std::collections::BTreeSet;

use sinew_api::{EventKind, WorkloadState};
use sinew_model::{ProjectName, ServiceName};

use super::{Core, Output};
use crate::launch::Launch;

impl Core {
    /// Whether every wanted instance of `project` is up, or did what it was to do.
    pub(crate) fn is_ready(&self, project: &ProjectName) -> bool {
        self.intent.projects.contains_key(project)
            && self.unready.get(project).is_none_or(BTreeSet::is_empty)
    }

    /// Keeps count of the services that a project waits for: with thousands of them, nobody looks
    /// at all because one changed.
    pub(super) fn note_readiness(&mut self, name: &ServiceName) {
        let Some(launch) = self.launches.get(name) else { return };
        let (project, ready) = (launch.project.clone(), self.is_service_ready(name, launch));
        let unready = self.unready.entry(project.clone()).or_default();
        let changed = if ready { unready.remove(name) } else { unready.insert(name.clone()) };
        if changed {
            self.touched_projects.insert(project);
        }
    }

    fn is_service_ready(&self, name: &ServiceName, launch: &Launch) -> bool {
        let done = self.of(Some(name)).filter(|instance| match instance.state() {
            WorkloadState::Up => instance.launch().is_some_and(|is| !is.outdated(launch)),
            WorkloadState::Stopped => true,
            _ => instance.is_done(),
        });
        done.count() >= usize::from(launch.service.replicas)
    }

    /// Services that are not wanted any more are not waited for.
    pub(super) fn forget_readiness(&mut self) {
        let launches = &self.launches;
        self.unready.retain(|project, names| {
            names.retain(|name| launches.get(name).is_some_and(|l| l.project == *project));
            !names.is_empty()
        });
    }

    pub(super) fn settle_projects(&mut self) {
        while let Some(project) = self.touched_projects.pop_first() {
            if self.intent.projects.contains_key(&project) {
                let is = self.is_ready(&project);
                let was = self.ready.insert(project.clone(), is).unwrap_or(false);
                if is && !was {
                    self.publish_project(&project, "ready");
                }
            } else if self.ready.contains_key(&project) && !self.has_instances(&project) {
                self.ready.remove(&project);
                self.publish_project(&project, "removed");
            }
        }
    }

    fn has_instances(&self, project: &ProjectName) -> bool {
        self.instances.values().any(|i| i.launch().is_some_and(|l| l.project == *project))
    }

    pub(super) fn publish_project(&mut self, project: &ProjectName, change: &str) {
        let kind = EventKind::Project { change: change.to_owned() };
        self.outputs.push(Output::Publish(Some(project.clone()), kind));
    }
}
