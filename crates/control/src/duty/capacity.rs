//! What is declared of how much there can be, and how near to it the network is.

use std::fmt;

use serde::{Deserialize, Serialize};
use sinew_model::ServiceName;

use crate::{
    registry::Registry,
    session::{Now, milliseconds},
};

/// Used of what there can be, when that is 80 % and more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NearlyFull {
    /// Of what.
    pub what: Capacity,
    /// So many are there.
    pub used: usize,
    /// So many can be.
    pub limit: usize,
}

/// What there can be so much of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capacity {
    /// Endpoints of a service.
    Endpoints(ServiceName),
    /// Services.
    Services,
    /// Hosts.
    Nodes,
    /// Slices of the instance networks.
    Slices,
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoints(service) => write!(f, "endpoints of service {service}"),
            Self::Services => f.write_str("services"),
            Self::Nodes => f.write_str("hosts"),
            Self::Slices => f.write_str("slices of the instance networks"),
        }
    }
}

impl fmt::Display for NearlyFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, used, limit } = self;
        write!(f, "{used} of {limit} {what}: no more are taken at {limit}")?;
        match what {
            // Their number is that of the network, which is chosen before the first host joins.
            Capacity::Slices => f.write_str(
                "; `sinew nodes forget` gives back that of a host that is gone for good",
            ),
            _ => f.write_str("; see `sinew limits`"),
        }
    }
}

/// All that is nearly full.
#[must_use]
pub fn nearly_full(now: Now, registry: &Registry) -> Vec<NearlyFull> {
    let limits = registry.config().limits();
    let services = registry.services().map(|service| {
        let what = Capacity::Endpoints(service.clone());
        (what, registry.endpoints(service), limits.service_endpoints)
    });
    let hosts = registry.sessions().filter(|(.., session)| !session.withdrawn).count();
    let slices = registry.networks().map(|(_, networks)| {
        // Also those of hosts that are gone.
        let used = registry.taken_slices(milliseconds(now.wall));
        let limit = u32::try_from(networks.number()).unwrap_or(u32::MAX);
        (Capacity::Slices, used, limit)
    });
    let all = [
        (Capacity::Services, registry.offered(), limits.services),
        (Capacity::Nodes, hosts, limits.nodes),
    ];
    let near = |(what, used, limit): (Capacity, usize, u32)| {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        (used * 5 >= limit * 4).then_some(NearlyFull { what, used, limit })
    };
    all.into_iter().chain(slices).chain(services).filter_map(near).collect()
}
