//! What is to run on which hosts.

use std::collections::{BTreeMap, BTreeSet};

use sinew_model::{
    NodeName, ProjectName, Service, ServiceName,
    fleet::{Generation, Resources},
};
use sinew_proto::{Assigned, Assignment};

use crate::{
    placement::{Demand, Placement},
    records::{
        self, Key, Poison,
        placed::{StoredAssigned, StoredProject},
    },
    store::Revision,
};

use super::config::set;

/// Projects that are placed, and what each host runs of them.
#[derive(Debug, Default)]
pub struct Placed {
    projects: BTreeMap<ProjectName, (Revision, StoredProject)>,
    /// The project of each service; of two that name it, the one that was put last.
    of: BTreeMap<ServiceName, ProjectName>,
    assigned: BTreeMap<NodeName, (Revision, StoredAssigned)>,
    /// Hosts that have to be told something since the last settling.
    touched: BTreeSet<NodeName>,
    /// Rises with what is placed, and where.
    changes: u64,
}

impl Placed {
    pub(super) fn take(
        &mut self,
        key: Key,
        revision: Revision,
        value: Option<&[u8]>,
    ) -> Result<(), Poison> {
        self.changes += 1;
        match key {
            Key::Project(project) => {
                let read: Option<StoredProject> = value.map(records::read).transpose()?;
                self.touch_all_of(&project);
                self.of.retain(|_, of| *of != project);
                match read {
                    Some(read) => {
                        let of = read.services.keys().map(|it| (it.clone(), project.clone()));
                        self.of.extend(of);
                        self.projects.insert(project.clone(), (revision, read));
                        self.touch_all_of(&project);
                    }
                    None => drop(self.projects.remove(&project)),
                }
            }
            Key::Assigned(node) => {
                self.touched.insert(node.clone());
                set(&mut self.assigned, node, revision, value)?;
            }
            _ => (),
        }
        Ok(())
    }

    fn touch_all_of(&mut self, project: &ProjectName) {
        let Some((_, stored)) = self.projects.get(project) else { return };
        let runs = |assigned: &StoredAssigned| {
            assigned.keys().any(|service| stored.services.contains_key(service))
        };
        let there = self.assigned.iter().filter(|(_, (_, assigned))| runs(assigned));
        self.touched.extend(there.map(|(node, _)| node.clone()));
    }

    /// Another number after each change of what is placed, and where.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn take_touched(&mut self) -> BTreeSet<NodeName> {
        std::mem::take(&mut self.touched)
    }

    /// Projects that are placed, with the revisions that put them.
    #[must_use]
    pub const fn projects(&self) -> &BTreeMap<ProjectName, (Revision, StoredProject)> {
        &self.projects
    }

    /// What each host runs, with the revisions that decided so.
    #[must_use]
    pub const fn assigned(&self) -> &BTreeMap<NodeName, (Revision, StoredAssigned)> {
        &self.assigned
    }

    /// What was decided last.
    #[must_use]
    pub fn placement(&self) -> Placement {
        let mut placement = Placement::new();
        for (node, (_, assigned)) in &self.assigned {
            for (service, replicas) in assigned.iter().filter(|(_, replicas)| **replicas > 0) {
                placement.entry(service.clone()).or_default().insert(node.clone(), *replicas);
            }
        }
        placement
    }

    /// What is wanted of each service.
    #[must_use]
    pub fn demands(&self) -> BTreeMap<ServiceName, Demand> {
        let all = self.projects.values().flat_map(|(_, project)| &project.services);
        all.map(|(name, service)| (name.clone(), demand(service))).collect()
    }

    /// The project of a placed service.
    #[must_use]
    pub fn project_of(&self, service: &ServiceName) -> Option<&ProjectName> {
        self.service(service).map(|(project, ..)| project)
    }

    fn service(&self, name: &ServiceName) -> Option<(&ProjectName, Revision, &Service)> {
        let project = self.of.get(name)?;
        let (revision, stored) = self.projects.get(project)?;
        Some((project, *revision, stored.services.get(name)?))
    }

    /// The newest change of what a host runs; 0: nothing was ever placed there.
    #[must_use]
    pub fn generation(&self, node: &NodeName) -> Generation {
        let Some((revision, assigned)) = self.assigned.get(node) else { return Generation(0) };
        let projects = assigned.keys().filter_map(|service| self.service(service));
        let newest = projects.map(|(_, revision, _)| revision).max().unwrap_or_default();
        Generation((*revision).max(newest).0)
    }

    /// All that a host is to run.
    #[must_use]
    pub fn of(&self, node: &NodeName) -> Assigned {
        let assigned = self.assigned.get(node).map(|(_, assigned)| assigned);
        let one = |(name, replicas): (&ServiceName, &u16)| {
            let (project, _, service) = self.service(name).filter(|_| *replicas > 0)?;
            let definition = records::write(service);
            let project = project.clone();
            Some((name.clone(), Assignment { project, replicas: *replicas, definition }))
        };
        let services = assigned.into_iter().flatten().filter_map(one).collect();
        Assigned { generation: self.generation(node), services }
    }
}

/// What is wanted of a service: its limits say what one of it takes.
#[must_use]
pub fn demand(service: &Service) -> Demand {
    let each = Resources {
        cpu_millis: service.limits.cpu_millis.unwrap_or(0).into(),
        memory_bytes: service.limits.memory_bytes.unwrap_or(0),
    };
    Demand { replicas: service.replicas, each, labels: service.placement.labels.clone() }
}
