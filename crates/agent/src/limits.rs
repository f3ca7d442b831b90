//! Whether this machine can enforce what a project limits, found out by trying it on an empty
//! cgroup: a limit that nothing enforces is refused, not ignored.

use std::path::Path;

use sinew_model::{Limits, Project};
use sinew_workload::cgroup::{self, Unsupported};

use crate::refusal::Refusal;

/// # Errors
/// With the first limit of `project` that a cgroup below `members` cannot have.
pub(crate) fn check(project: &Project, members: &Path) -> Result<(), Refusal> {
    let mut tried: Vec<Limits> = Vec::new();
    for (name, service) in &project.services {
        let limits = service.limits;
        if limits == Limits::default() || tried.contains(&limits) {
            continue;
        }
        tried.push(limits);
        try_on(&limits, members).map_err(|error| {
            let limit = match &error {
                Unsupported::NoController { limit, .. } | Unsupported::Refused { limit, .. } => {
                    format!(".{limit}")
                }
                Unsupported::Cgroup(_) => String::new(),
            };
            let field = format!("services.{name}.limits{limit}");
            Refusal::Limits { field, what: error.to_string() }
        })?;
    }
    Ok(())
}

fn try_on(limits: &Limits, members: &Path) -> Result<(), Unsupported> {
    let probe = members.join(format!("probe-{:016x}", crate::random::number()));
    let result = cgroup::create(&probe)
        .map_err(Unsupported::from)
        .and_then(|()| cgroup::apply_limits(&probe, limits));
    if let Err(error) = cgroup::remove_all(&probe) {
        tracing::warn!("an empty cgroup is left: {error}");
    }
    result
}
