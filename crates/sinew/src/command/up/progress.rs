//! Where each workload of a project stands, and what is worth a word when that changes. No IO.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use sinew_api::WorkloadState;
use sinew_model::{Project, ServiceName};

use crate::render::{
    service::call,
    style::{Tint, state_tint, state_word},
};

/// Where a workload stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) state: WorkloadState,
    pub(crate) reason: Option<String>,
}

/// Words for people, and how good the news is.
pub(crate) type News = (Tint, String);

/// Where each workload of a project stands.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    project: &'a Project,
    standings: BTreeMap<(ServiceName, u32), Standing>,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(project: &'a Project) -> Self {
        Self { project, standings: BTreeMap::new() }
    }

    /// Takes note of where a workload stands now. News are told once, and not those of other
    /// projects.
    pub(crate) fn note(
        &mut self,
        service: &ServiceName,
        replica: u32,
        standing: Standing,
    ) -> Option<News> {
        let wanted = self.project.services.get(service)?;
        let told_of_another = self.standings.iter().any(|((other, number), told)| {
            other == service && *number != replica && *told == standing
        });
        let key = (service.clone(), replica);
        let before = self.standings.insert(key, standing.clone());
        if before.as_ref() == Some(&standing) {
            return None;
        }
        let Standing { state, reason } = standing;
        let tint = state_tint(state);
        match state {
            // One word for all its replicas.
            WorkloadState::Waiting if told_of_another => return None,
            WorkloadState::Waiting => {
                let awaited: Vec<&str> =
                    wanted.depends_on.iter().map(ServiceName::as_str).collect();
                let waits = format!("waits for {}", awaited.join(", "));
                return Some((tint, format!("{service} {}", reason.unwrap_or(waits))));
            }
            // That it is starting is told already.
            WorkloadState::Starting if before.is_some_and(|before| before.state == state) => {
                return None;
            }
            _ => {}
        }
        let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        Some((tint, format!("{service}/{replica} {}{reason}", state_word(state))))
    }

    /// What has still a process, as far as is known.
    pub(crate) fn running(&self) -> Vec<String> {
        let rests = |state| {
            matches!(
                state,
                WorkloadState::Waiting
                    | WorkloadState::BackingOff
                    | WorkloadState::Exited
                    | WorkloadState::Stopped
            )
        };
        let running = self.standings.iter().filter(|(_, standing)| !rests(standing.state));
        running.map(|((service, replica), _)| format!("{service}/{replica}")).collect()
    }

    /// Forgets those that are not among `present` any more.
    pub(crate) fn keep_only(&mut self, present: &BTreeSet<(ServiceName, u32)>) {
        self.standings.retain(|workload, _| present.contains(workload));
    }

    /// Wanted instances that somebody drained: they stay down, and the project is ready without
    /// them.
    pub(crate) fn drained(&self) -> Vec<String> {
        let is_wanted = |service: &ServiceName, replica: u32| {
            let wanted = self.project.services.get(service);
            wanted.is_some_and(|wanted| replica < u32::from(wanted.replicas))
        };
        let down = self.standings.iter().filter(|((service, replica), standing)| {
            standing.state == WorkloadState::Stopped && is_wanted(service, *replica)
        });
        down.map(|((service, replica), _)| {
            format!("{service}/{replica} stays drained until `sinew restart {service}`")
        })
        .collect()
    }

    /// Wanted instances that are not up.
    pub(crate) fn laggards(&self) -> Vec<Laggard> {
        let mut laggards = Vec::new();
        for (service, wanted) in &self.project.services {
            for replica in 0..u32::from(wanted.replicas) {
                let standing = self.standings.get(&(service.clone(), replica)).cloned();
                if standing.as_ref().is_none_or(|standing| standing.state != WorkloadState::Up) {
                    laggards.push(Laggard { service: service.clone(), replica, standing });
                }
            }
        }
        laggards
    }
}

/// A wanted instance that is not up.
#[derive(Debug)]
pub(crate) struct Laggard {
    pub(crate) service: ServiceName,
    pub(crate) replica: u32,
    /// `None`: nothing was seen of it.
    standing: Option<Standing>,
}

impl Laggard {
    /// Whether it ran, so that what it wrote may tell why it is not up.
    pub(crate) fn ran(&self) -> bool {
        self.standing.as_ref().is_some_and(|standing| standing.state != WorkloadState::Waiting)
    }
}

impl fmt::Display for Laggard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, replica, standing } = self;
        match standing {
            None => write!(f, "{service}/{replica} was not started yet"),
            Some(Standing { state, reason: None }) => {
                write!(f, "{service}/{replica} {}", state_word(*state))
            }
            Some(Standing { state, reason: Some(reason) }) => {
                write!(f, "{service}/{replica} {}: {reason}", state_word(*state))
            }
        }
    }
}

/// The lines that say how to call the services of a project that is ready.
pub(crate) fn how_to_call(project: &Project) -> Vec<String> {
    let first_ports = project
        .services
        .iter()
        .filter_map(|(name, service)| service.ports.first().map(|port| call(name.as_str(), port)));
    let calls: Vec<String> = first_ports.collect();
    if calls.is_empty() {
        return vec!["ready".to_owned()];
    }
    let mut lines = vec![format!("ready: {}", calls.join(", "))];
    for (name, service) in &project.services {
        for publish in &service.publish {
            lines.push(format!("{name} is published on {}", publish.host()));
        }
    }
    lines.push(match entrance(project) {
        Some(url) => format!("call it with `sinew exec -- curl {url}`"),
        None => "call them by these names from `sinew exec -- COMMAND`".to_owned(),
    });
    lines
}

/// What a browser would be pointed at: rather a service that no other one needs.
fn entrance(project: &Project) -> Option<String> {
    let urls = project.services.iter().filter_map(|(name, service)| {
        let url = call(name.as_str(), service.ports.first()?);
        url.starts_with("http").then_some((name, url))
    });
    let is_needed = |name| project.services.values().any(|other| other.depends_on.contains(name));
    urls.min_by_key(|(name, _)| is_needed(name)).map(|(_, url)| url)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sinew_model::FileSource;

    use super::*;

    const FILE: &str = "
name: shop
services:
  db:
    command: postgres
    port: 5432
  api:
    command: node api.js
    port: 8080
    replicas: 2
    depends_on: [db]
  job:
    command: tidy
  web:
    command: nginx
    port: 80
    depends_on: [api]
";

    fn project() -> Project {
        let source = FileSource { path: Path::new("sinew.yaml"), directory: Path::new("/shop") };
        let no_file = &mut |_: &Path| Err(std::io::ErrorKind::NotFound.into());
        sinew_model::parse(FILE, &source, no_file, &|_| None).unwrap()
    }

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    fn standing(state: WorkloadState, reason: Option<&str>) -> Standing {
        Standing { state, reason: reason.map(str::to_owned) }
    }

    #[test]
    fn news_are_told_once() {
        let project = project();
        let mut progress = Progress::new(&project);
        let mut note = |service, replica, state, reason| {
            progress.note(&name(service), replica, standing(state, reason)).map(|(_, text)| text)
        };
        let told = |text: &str| Some(text.to_owned());
        assert_eq!(note("db", 0, WorkloadState::Starting, None), told("db/0 starting"));
        assert_eq!(note("api", 0, WorkloadState::Waiting, None), told("api waits for db"));
        assert_eq!(note("api", 1, WorkloadState::Waiting, None), None);
        assert_eq!(note("db", 0, WorkloadState::Starting, None), None);
        assert_eq!(note("db", 0, WorkloadState::Up, None), told("db/0 up"));
        assert_eq!(
            note("api", 1, WorkloadState::BackingOff, Some("exited with 1")),
            told("api/1 backing off: exited with 1")
        );
        assert_eq!(note("other", 0, WorkloadState::Up, None), None);
    }

    #[test]
    fn laggards_are_named_with_their_reason() {
        let project = project();
        let mut progress = Progress::new(&project);
        progress.note(&name("db"), 0, standing(WorkloadState::Up, None));
        progress.note(&name("api"), 1, standing(WorkloadState::Unhealthy, Some("status 500")));
        let laggards = progress.laggards();
        assert_eq!(
            laggards.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "api/0 was not started yet",
                "api/1 unhealthy: status 500",
                "job/0 was not started yet",
                "web/0 was not started yet"
            ]
        );
        assert_eq!(
            laggards.iter().map(Laggard::ran).collect::<Vec<_>>(),
            [false, true, false, false]
        );
        assert_eq!(progress.running(), ["api/1", "db/0"]);
        progress.keep_only(&[(name("db"), 0)].into());
        assert_eq!(progress.running(), ["db/0"]);
    }

    #[test]
    fn drained_ones_are_told_as_far_as_they_are_wanted() {
        let project = project();
        let mut progress = Progress::new(&project);
        progress.note(&name("api"), 0, standing(WorkloadState::Up, None));
        progress.note(&name("api"), 1, standing(WorkloadState::Stopped, None));
        progress.note(&name("api"), 2, standing(WorkloadState::Stopped, None));
        assert_eq!(progress.drained(), ["api/1 stays drained until `sinew restart api`"]);
    }

    #[test]
    fn a_ready_project_tells_how_to_call_it() {
        assert_eq!(
            how_to_call(&project()),
            [
                "ready: http://api:8080/, db:5432, http://web/",
                "call it with `sinew exec -- curl http://web/`"
            ]
        );
    }
}
