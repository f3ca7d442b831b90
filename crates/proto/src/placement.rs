//! What control has hosts run, and what became of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use sinew_model::{
    ProjectName, ServiceName,
    fleet::{Generation, OutOfBounds, Resources},
};

use crate::{
    Held, Subject, bounds,
    read::{Read, count, data, each, map, name, number},
    wire,
};

/// All that control has a host run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// Of the newest change.
    pub generation: Generation,
    /// What of each service.
    pub services: BTreeMap<ServiceName, Assignment>,
}

/// What a host runs of a placed service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Whose service it is.
    pub project: ProjectName,
    /// On this host, not 0.
    pub replicas: u16,
    /// What it is, in JSON: it may be of another version of Sinew, so whoever runs it reads it.
    pub definition: Bytes,
}

/// What became of it: all is run but what is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Of which [`Assigned`].
    pub generation: Generation,
    /// What is not run, and why not.
    pub refused: Vec<Held>,
}

impl Assigned {
    pub(crate) fn to_wire(&self) -> wire::Assigned {
        let one = |(service, it): (&ServiceName, &Assignment)| wire::Assignment {
            project: it.project.to_string(),
            service: service.to_string(),
            replicas: it.replicas.into(),
            definition: it.definition.clone(),
        };
        let assignments = self.services.iter().map(one).collect();
        wire::Assigned { generation: self.generation.0, assignments }
    }

    /// What it is about, whatever is wrong with it.
    pub(crate) fn subject(from: &wire::Assigned) -> Subject {
        let names = from.assignments.iter().take(bounds::MAX_ASSIGNMENTS);
        let names = names.filter_map(|it| ServiceName::new(it.service.clone()).ok());
        Subject::Assigned(Generation(from.generation), names.collect())
    }

    pub(crate) fn read(from: wire::Assigned) -> Read<Self> {
        count("assignments", from.assignments.len(), bounds::MAX_ASSIGNMENTS)?;
        let services = map("assignments", from.assignments, |from| {
            let replicas = number("replicas", from.replicas, u16::MAX)?;
            if replicas == 0 {
                return Err(OutOfBounds::new("replicas", 0, "is at least 1"));
            }
            let definition = data("definition", from.definition, bounds::MAX_DEFINITION_BYTES)?;
            let project = name("project", from.project)?;
            Ok((name("service", from.service)?, Assignment { project, replicas, definition }))
        })?;
        Ok(Self { generation: Generation(from.generation), services })
    }
}

impl Placed {
    pub(crate) fn to_wire(&self) -> wire::Placed {
        let refused = self.refused.iter().map(Held::to_wire).collect();
        wire::Placed { generation: self.generation.0, refused }
    }

    pub(crate) fn read(from: wire::Placed) -> Read<Self> {
        count("refused", from.refused.len(), bounds::MAX_ASSIGNMENTS)?;
        let refused = each("refused", from.refused, Held::read)?;
        Ok(Self { generation: Generation(from.generation), refused })
    }
}

pub(crate) fn resources(from: Resources) -> wire::Resources {
    wire::Resources { cpu_millis: from.cpu_millis, memory_bytes: from.memory_bytes }
}

pub(crate) fn read_resources(from: &wire::Resources) -> Resources {
    Resources { cpu_millis: from.cpu_millis, memory_bytes: from.memory_bytes }
}
