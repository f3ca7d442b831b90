//! When a project is ready, and when it is gone.

use sinew_api::{EventKind, WorkloadState};
use sinew_model::ProjectName;

use super::{Core, Output};

impl Core {
    /// Whether every wanted instance of `project` is up, or did what it was to do.
    pub(crate) fn is_ready(&self, project: &ProjectName) -> bool {
        let Some(owned) = self.intent.projects.get(project) else { return false };
        owned.project.services.iter().all(|(name, service)| {
            let ready = self
                .of(Some(name))
                .filter(|i| i.state() == WorkloadState::Up || i.is_done())
                .filter(|i| {
                    let launch = self.launches.get(name);
                    i.launch().is_some_and(|is| launch.is_some_and(|shall| !is.outdated(shall)))
                })
                .count();
            let held = self.of(Some(name)).filter(|i| i.state() == WorkloadState::Stopped).count();
            ready + held >= usize::from(service.replicas)
        })
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
