//! What people have control place, and what was decided of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sinew_model::{Service, ServiceName};

/// Services that are placed together: one file of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredProject {
    /// What they are; their replicas are those of the whole network.
    pub services: BTreeMap<ServiceName, Service>,
    /// Who placed them.
    pub by: String,
    /// When; milliseconds since 1970.
    pub since_ms: u64,
}

/// Replicas that a host runs, by service. What had some and has none keeps an empty value: the host
/// is told so.
pub type StoredAssigned = BTreeMap<ServiceName, u16>;
