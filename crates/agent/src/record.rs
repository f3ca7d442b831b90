//! What is written beside each instance: with it an agent that was killed, or whose state is lost,
//! knows again what runs.

use std::{collections::BTreeMap, fs, io, os::unix::fs::DirBuilderExt as _, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use sinew_model::Project;

use crate::{
    adopt::Adoption,
    alloc::Network6,
    core::{Attached, Instance, Kind},
    intent::{Intent, Owned},
    key::Key,
    launch::Launch,
};

const FILE: &str = "instance.json";

/// An instance, as its directory tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its name.
    pub key: Key,
    /// Its number.
    pub number: u32,
    /// The number of its service.
    pub service_number: Option<u32>,
    /// The host's IPv6 network.
    pub network6: Network6,
    /// How it came to be.
    pub origin: Origin,
}

/// How an instance came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Origin {
    /// The agent launched it.
    Launched(Arc<Launch>),
    /// It joined by itself.
    Attached(Attached),
    /// It was there before, and was adopted.
    Adopted(Arc<Adoption>),
}

impl Record {
    /// Of an instance that is about to be launched; `None` when there is nothing to launch.
    pub(crate) fn of(instance: &Instance, intent: &Intent) -> Option<Self> {
        let origin = match &instance.kind {
            Kind::Launched(launch) => Origin::Launched(launch.clone()),
            Kind::Attached(attached) => Origin::Attached((**attached).clone()),
            Kind::Adopted(adoption) => Origin::Adopted(adoption.clone()),
            Kind::Rubble => return None,
        };
        let service = instance.key.service.as_ref();
        Some(Self {
            key: instance.key.clone(),
            number: instance.number,
            service_number: service.and_then(|name| intent.numbers.get(name).copied()),
            network6: intent.network6,
            origin,
        })
    }

    /// As the core takes it.
    pub(crate) fn kind(&self) -> Kind {
        match &self.origin {
            Origin::Launched(launch) => Kind::Launched(launch.clone()),
            Origin::Attached(attached) => Kind::Attached(Box::new(attached.clone())),
            Origin::Adopted(adoption) => Kind::Adopted(adoption.clone()),
        }
    }

    /// The cgroup of somebody else that it is, when it is one.
    pub(crate) fn foreign(&self) -> Option<&Path> {
        match &self.origin {
            Origin::Adopted(adoption) => adoption.target.cgroup(),
            Origin::Launched(_) | Origin::Attached(_) => None,
        }
    }

    /// Writes it into the directory of the instance, which is made when it is not there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let fresh = directory.join(format!("{FILE}.new"));
        fs::write(&fresh, serde_json::to_vec(self)?)?;
        fs::rename(fresh, directory.join(FILE))
    }

    /// Reads the one in `directory`.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub(crate) fn read(directory: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(directory.join(FILE))?)?)
    }
}

/// An intent under which everything that runs goes on as it is.
pub(crate) fn rebuild(records: &[Record], network6: Network6) -> Intent {
    let network6 = records.first().map_or(network6, |record| record.network6);
    let mut intent = Intent::new(network6);
    let mut projects = BTreeMap::new();
    for record in records {
        let Some(name) = record.key.service.clone() else { continue };
        intent.numbers.extend(record.service_number.map(|number| (name.clone(), number)));
        let launch = match &record.origin {
            Origin::Launched(launch) => launch,
            Origin::Attached(_) => continue,
            Origin::Adopted(adoption) => {
                intent.adopted.push(adoption.clone());
                continue;
            }
        };
        let owned = projects.entry(launch.project.clone()).or_insert_with(|| Owned {
            project: Project { name: launch.project.clone(), services: BTreeMap::new() },
            owner: launch.owner,
            generation: 1,
        });
        let service =
            owned.project.services.entry(name.clone()).or_insert_with(|| launch.service.clone());
        let replicas = u16::try_from(record.key.replica + 1).unwrap_or(u16::MAX);
        service.replicas = service.replicas.max(replicas);
        if launch.rollout > 0 {
            let rollout = intent.rollouts.entry(name).or_default();
            *rollout = launch.rollout.max(*rollout);
        }
    }
    intent.projects = projects.into_iter().map(|(name, owned)| (name, Arc::new(owned))).collect();
    intent.generation = 1;
    intent
}
