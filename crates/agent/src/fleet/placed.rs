//! What control has this host run, as projects of the intent. Each telling is of everything: what an
//! earlier one had and this one has not is taken down.

use std::collections::{BTreeMap, BTreeSet};

use sinew_model::{Project, ProjectName, Service, ServiceName};
use sinew_proto::{Assigned, Assignment, Held, bounds};

use crate::{intent::Intent, launch::Owner};

/// A placed service runs as root unless it names its user, as what root has applied here does.
const OWNER: Owner = Owner { uid: 0, gid: 0 };

/// The intent with all that is assigned in it, and what is not run, with the reasons. `attached` are
/// names that processes here hold which were not started by the agent.
pub(crate) fn take(
    intent: &Intent,
    assigned: &Assigned,
    attached: &BTreeSet<ServiceName>,
) -> (Intent, Vec<Held>) {
    let mut projects: BTreeMap<&ProjectName, BTreeMap<&ServiceName, &Assignment>> = BTreeMap::new();
    for (service, assignment) in &assigned.services {
        projects.entry(&assignment.project).or_default().insert(service, assignment);
    }
    let mut next = intent.clone();
    for gone in intent.placed.iter().filter(|name| !projects.contains_key(name)) {
        // Somebody may have taken it down here before.
        next = next.remove(gone).unwrap_or(next);
        next.placed.remove(gone);
    }
    let mut refused = Vec::new();
    for (name, services) in projects {
        match project(&next, name, &services, attached) {
            Ok(with) => next = with,
            Err(reasons) => refused.extend(reasons),
        }
    }
    (next, refused)
}

/// With one project as it is assigned; on an error the earlier one stays.
fn project(
    intent: &Intent,
    name: &ProjectName,
    services: &BTreeMap<&ServiceName, &Assignment>,
    attached: &BTreeSet<ServiceName>,
) -> Result<Intent, Vec<Held>> {
    let all =
        |reason: String| services.keys().map(|service| held(service, &reason)).collect::<Vec<_>>();
    if intent.projects.contains_key(name) && !intent.placed.contains(name) {
        return Err(all(format!(
            "this host runs a project {name} of its own: take it down there, or give the placed one another name"
        )));
    }
    let mut wrong = Vec::new();
    let mut project = Project { name: name.clone(), services: BTreeMap::new() };
    for (service, assignment) in services {
        match definition(assignment, services) {
            Ok(definition) => drop(project.services.insert((*service).clone(), definition)),
            Err(error) => wrong.push(held(
                service,
                &format!("this version of Sinew does not read its definition: {error}"),
            )),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    project.validate().map_err(|error| all(error.to_string()))?;
    let mut next =
        intent.apply(project, OWNER, attached).map_err(|error| all(error.to_string()))?;
    next.placed.insert(name.clone());
    Ok(next)
}

/// The service, with as many replicas as this host runs. What it depends on may run elsewhere: only
/// what runs here is waited for.
fn definition(
    assignment: &Assignment,
    here: &BTreeMap<&ServiceName, &Assignment>,
) -> Result<Service, serde_json::Error> {
    let mut service: Service = serde_json::from_slice(&assignment.definition)?;
    service.replicas = assignment.replicas;
    service.depends_on.retain(|needed| here.contains_key(needed));
    Ok(service)
}

/// What is not run, and why not, as far as a message has room for it.
pub(crate) fn held(service: &ServiceName, reason: &str) -> Held {
    let mut reason = reason.to_owned();
    reason.truncate(reason.floor_char_boundary(bounds::MAX_REASON_BYTES));
    Held { service: service.clone(), reason }
}

#[cfg(test)]
mod tests;
