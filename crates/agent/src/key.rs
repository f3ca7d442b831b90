//! How an instance is called.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};
use sinew_model::ServiceName;

/// An instance: a replica of a service, or an `exec` session, which belongs to none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Key {
    /// Its service.
    pub service: Option<ServiceName>,
    /// Its number there, from 0.
    pub replica: u32,
}

impl Key {
    /// Replica `replica` of `service`.
    pub(crate) fn of(service: &ServiceName, replica: u32) -> Self {
        Self { service: Some(service.clone()), replica }
    }

    /// Where its cgroup lies below the members' one. Service directories bear a prefix, so that no
    /// name of a service collides with a session.
    pub(crate) fn cgroup(&self) -> PathBuf {
        match &self.service {
            Some(service) => PathBuf::from(format!("svc-{service}")).join(self.replica.to_string()),
            None => PathBuf::from(format!("exec-{}", self.replica)),
        }
    }

    /// The name of its directory or file among all instances'. A service name holds no dot, and
    /// a session has no service, so names never collide.
    pub(crate) fn file(&self) -> String {
        match &self.service {
            Some(service) => format!("{service}.{}", self.replica),
            None => format!(".exec.{}", self.replica),
        }
    }

    /// The instance whose directory is called `name`.
    pub(crate) fn from_file(name: &str) -> Option<Self> {
        let (service, replica) = name.rsplit_once('.')?;
        let replica = replica.parse().ok()?;
        match service {
            ".exec" => Some(Self { service: None, replica }),
            _ => Some(Self { service: Some(ServiceName::new(service).ok()?), replica }),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Some(service) => write!(f, "{service}/{}", self.replica),
            None => write!(f, "exec/{}", self.replica),
        }
    }
}
