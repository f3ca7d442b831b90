//! The mirror as it lies on disk, so that an agent that begins while no control is there goes on
//! with the last good state.

use std::{collections::BTreeMap, time::Instant};

use serde::{Deserialize, Serialize};
use sinew_model::{NodeName, ServiceName, fleet::Generation};

use super::{Limits, Mirror, known::Known};

/// What a mirror knew. What is in doubt stays so.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    node: NodeName,
    services: BTreeMap<ServiceName, Known>,
    floors: BTreeMap<ServiceName, Generation>,
}

#[derive(Serialize)]
struct Saving<'a> {
    node: &'a NodeName,
    services: &'a BTreeMap<ServiceName, Known>,
    floors: &'a BTreeMap<ServiceName, Generation>,
}

impl Saved {
    /// Whose it is.
    #[must_use]
    pub fn node(&self) -> &NodeName {
        &self.node
    }
}

impl Serialize for Mirror {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { node, services, floors, .. } = self;
        Saving { node, services, floors }.serialize(serializer)
    }
}

impl Mirror {
    /// Goes on with what was saved. For an interval nothing in doubt is removed.
    #[must_use]
    pub fn restore(saved: Saved, limits: Limits, now: Instant) -> Self {
        let Saved { node, services, floors } = saved;
        let interval = limits.interval;
        let mut mirror = Self::new(node, limits);
        mirror.changed = services.keys().cloned().collect();
        mirror.endpoints = services.values().map(Known::len).sum();
        mirror.services = services;
        mirror.services.values_mut().for_each(|known| known.wake(now, interval));
        mirror.floors = floors;
        mirror.quiet_until = Some(now + interval);
        mirror
    }
}

/// A map whose keys are no texts, as a list.
pub(super) mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(crate) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Vec::<(K, V)>::deserialize(deserializer).map(BTreeMap::from_iter)
    }
}
