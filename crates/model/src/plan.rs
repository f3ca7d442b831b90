//! What has to happen for one project to become another: shown before it is done, and what is
//! then done.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Project, ProjectName, Service, ServiceName, start_order};

mod diff;
mod render;
mod show;

/// Steps from what is to what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The project; `None` when there is none on either side.
    pub project: Option<ProjectName>,
    /// One a service. First those of the new project, dependencies before what needs them; then
    /// removals, the other way round.
    pub steps: Vec<Step>,
}

/// What happens to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The service.
    pub service: ServiceName,
    /// What happens to it.
    pub action: Action,
}

/// What happens to a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Action {
    /// It is new.
    Create {
        /// Instances to start.
        replicas: u16,
    },
    /// It changes.
    Change {
        /// Fields that differ; at least one.
        fields: Vec<FieldChange>,
        /// What that means for its instances.
        effect: Effect,
    },
    /// It stays as it is, its instances untouched.
    Keep,
    /// It goes.
    Remove {
        /// Instances to stop.
        replicas: u16,
    },
}

/// A field of a service that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldChange {
    /// Its path in the service, as `command` or `env.MODE`.
    pub field: String,
    /// Its value before, in words; `None`: it was not given.
    pub from: Option<String>,
    /// Its value after.
    pub to: Option<String>,
}

/// What a change means for the instances of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", deny_unknown_fields)]
pub enum Effect {
    /// They run on, under the new settings.
    LiveOnly,
    /// They run on, and some are added or stopped.
    Scale {
        /// Instances before.
        from: u16,
        /// Instances after.
        to: u16,
    },
    /// They are replaced one at a time.
    RollingRestart,
}

impl Plan {
    /// The steps that make `old` become `new`; `None` stands for no project at all.
    #[must_use]
    pub fn between(old: Option<&Project>, new: Option<&Project>) -> Self {
        let mut steps: Vec<Step> = ordered(new)
            .map(|(name, service)| {
                let before = old.and_then(|old| old.services.get(name));
                Step { service: name.clone(), action: action(before, service) }
            })
            .collect();
        let kept: BTreeSet<ServiceName> = steps.iter().map(|step| step.service.clone()).collect();
        let mut removals: Vec<Step> = ordered(old)
            .filter(|(name, _)| !kept.contains(name))
            .map(|(name, service)| Step {
                service: name.clone(),
                action: Action::Remove { replicas: service.replicas },
            })
            .collect();
        removals.reverse();
        steps.extend(removals);
        Self { project: new.or(old).map(|project| project.name.clone()), steps }
    }

    /// Whether nothing happens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.iter().all(|step| step.action == Action::Keep)
    }
}

/// The services of a project in the order of their start.
fn ordered(project: Option<&Project>) -> impl Iterator<Item = (&ServiceName, &Service)> {
    project.into_iter().flat_map(|project| {
        start_order(project)
            .into_iter()
            .flatten()
            .filter_map(|name| project.services.get_key_value(&name))
    })
}

fn action(old: Option<&Service>, new: &Service) -> Action {
    let Some(old) = old else { return Action::Create { replicas: new.replicas } };
    let diff::Differences { fields, restart } = diff::differences(old, new);
    let effect = if restart {
        Effect::RollingRestart
    } else if old.replicas == new.replicas {
        Effect::LiveOnly
    } else {
        Effect::Scale { from: old.replicas, to: new.replicas }
    };
    if fields.is_empty() { Action::Keep } else { Action::Change { fields, effect } }
}

#[cfg(test)]
mod tests;
