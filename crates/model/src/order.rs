//! The order in which services start: those that others wait for come first.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Project, Service, ServiceName};

/// Waves of services: each service comes after the waves that hold those it depends on; the
/// services of one wave may start together. Stopping goes backwards. A dependency that the project
/// lacks counts as there; services of a cycle, which validation refuses, come last, together.
#[must_use]
pub fn start_order(project: &Project) -> Vec<Vec<ServiceName>> {
    let mut waiting: BTreeMap<&ServiceName, &Service> = project.services.iter().collect();
    let mut waves = Vec::new();
    while !waiting.is_empty() {
        let mut wave: Vec<ServiceName> = waiting
            .iter()
            .filter(|(_, service)| {
                !service.depends_on.iter().any(|name| waiting.contains_key(name))
            })
            .map(|(name, _)| (*name).clone())
            .collect();
        if wave.is_empty() {
            wave = waiting.keys().map(|name| (*name).clone()).collect();
        }
        waiting.retain(|name, _| wave.binary_search(name).is_err());
        waves.push(wave);
    }
    waves
}

/// Each cycle of dependencies once, from its first name by the alphabet back to it.
pub(crate) fn cycles(services: &BTreeMap<ServiceName, Service>) -> Vec<Vec<ServiceName>> {
    let mut told = BTreeSet::new();
    let mut cycles = Vec::new();
    for name in services.keys() {
        if told.contains(name) {
            continue;
        }
        if let Some(cycle) = shortest_cycle(services, name) {
            told.extend(cycle.iter().cloned());
            cycles.push(cycle);
        }
    }
    cycles
}

/// Breadth first, so that the cycle told is the shortest through `start`.
fn shortest_cycle(
    services: &BTreeMap<ServiceName, Service>,
    start: &ServiceName,
) -> Option<Vec<ServiceName>> {
    let mut came_from: BTreeMap<&ServiceName, &ServiceName> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(name) = queue.pop_front() {
        for next in &services.get(name)?.depends_on {
            if next == start {
                return Some(path_back(&came_from, start, name));
            }
            if services.contains_key(next) && !came_from.contains_key(next) {
                came_from.insert(next, name);
                queue.push_back(next);
            }
        }
    }
    None
}

fn path_back(
    came_from: &BTreeMap<&ServiceName, &ServiceName>,
    start: &ServiceName,
    last: &ServiceName,
) -> Vec<ServiceName> {
    let mut path = vec![start.clone()];
    let mut at = last;
    while at != start {
        path.push(at.clone());
        let Some(previous) = came_from.get(at) else { break };
        at = previous;
    }
    path.push(start.clone());
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{project_of, service};

    fn graph(edges: &[(&str, &[&str])]) -> Project {
        project_of(edges.iter().map(|(name, needs)| {
            let needs = needs.iter().map(|name| ServiceName::new(*name).unwrap()).collect();
            (*name, Service { depends_on: needs, ..service("run") })
        }))
    }

    fn words(names: &[ServiceName]) -> Vec<&str> {
        names.iter().map(ServiceName::as_str).collect()
    }

    #[test]
    fn dependencies_come_first() {
        let project = graph(&[
            ("web", &["api"]),
            ("api", &["db", "cache"]),
            ("db", &[]),
            ("cache", &[]),
            ("mail", &["db", "elsewhere"]),
        ]);
        let waves = start_order(&project);
        let waves: Vec<_> = waves.iter().map(|wave| words(wave)).collect();
        assert_eq!(waves, [vec!["cache", "db"], vec!["api", "mail"], vec!["web"]]);
        assert!(cycles(&project.services).is_empty());
    }

    #[test]
    fn each_cycle_is_named_once_and_in_full() {
        let project = graph(&[
            ("a", &["b"]),
            ("b", &["c"]),
            ("c", &["a"]),
            ("d", &["a", "d"]),
            ("e", &["d"]),
        ]);
        let cycles = cycles(&project.services);
        let cycles: Vec<_> = cycles.iter().map(|cycle| words(cycle)).collect();
        assert_eq!(cycles, [vec!["a", "b", "c", "a"], vec!["d", "d"]]);
        assert_eq!(start_order(&project).len(), 1);
    }

    proptest! {
        #[test]
        fn every_service_starts_once_and_after_what_it_needs(
            edges in prop::collection::vec((0_usize..12, 0_usize..12), 0..40)
        ) {
            // Edges from higher to lower numbers only: no cycle.
            let names: Vec<String> = (0..12).map(|n| format!("s{n}")).collect();
            let project = project_of(names.iter().enumerate().map(|(n, name)| {
                let needs = edges.iter().filter(|(from, to)| *from == n && to < from);
                let needs = needs.map(|(_, to)| ServiceName::new(&*names[*to]).unwrap()).collect();
                (name.as_str(), Service { depends_on: needs, ..service("run") })
            }));
            let waves = start_order(&project);
            let wave_of = |name: &ServiceName| waves.iter().position(|wave| wave.contains(name));
            prop_assert_eq!(waves.iter().map(Vec::len).sum::<usize>(), 12);
            for (name, service) in &project.services {
                for needed in &service.depends_on {
                    prop_assert!(wave_of(needed) < wave_of(name));
                }
            }
            prop_assert!(cycles(&project.services).is_empty());
        }
    }
}
