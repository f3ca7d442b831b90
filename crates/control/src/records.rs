//! What the store holds of the fleet: keys, and values in JSON.
//!
//! | key | value |
//! |---|---|
//! | `services/<service>` | [`StoredService`] |
//! | `endpoints/<service>/<node>` | [`StoredEndpoints`]: all of that service on that host |
//! | `tombstones/<service>/<node>/<instance>` | [`StoredTombstone`]; its generation is the revision that put it |
//! | `swept/<service>` | [`StoredSweep`]: put with every transaction that deletes tombstones of endpoints that are gone |
//! | `sessions/<node>` | [`StoredSession`] |
//! | `nodes/<node>` | [`StoredNode`]: put when a session of the host begins |
//! | `slices/<index>` | [`StoredSlice`]: who has that slice of the instance networks, or had it last |
//! | `config/networks` | [`StoredNetworks`]: made by the first replica of control |
//! | `controls/<id>` | [`StoredControl`], under a lease of that replica |
//! | `duty/lead` | [`StoredLead`](config::StoredLead), under the lease of the replica that has the duty |
//! | `zones/<zone>` | [`StoredZone`](config::StoredZone), while it gets less than its share |
//! | `projects/<project>` | [`StoredProject`](placed::StoredProject): services that are placed together |
//! | `assigned/<node>` | [`StoredAssigned`](placed::StoredAssigned): what of them a host runs |
//! | `pauses/<what>` | [`StoredPause`](config::StoredPause), while it lasts |
//! | `history/<id>` | [`Action`](crate::duty::history::Action): what was done, by 20 digits of the revision that it was
//! computed from |
//! | `config/limits` | [`Limits`](config::Limits), when they are not the usual ones |
//!
//! Who takes an endpoint out of its value puts a tombstone in the same transaction, and who takes a
//! service away puts it without a record: what disappears otherwise is told as a mistake.

pub mod config;
mod nodes;
pub mod placed;
mod service;

pub use nodes::{NetworksError, StoredNetworks, StoredNode, StoredSlice};
pub use service::{StoredService, StoredWord};

use std::{collections::BTreeMap, str::FromStr};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sinew_model::{
    ControlName, NodeName, ProjectName, ServiceName, ZoneName,
    fleet::{Endpoint, EndpointKey, Generation, OutOfBounds, Removal},
};

use crate::store::{lineage, schema::ROOT};

use config::Pausable;

/// A key of the fleet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// What a service is.
    Service(ServiceName),
    /// Its endpoints on a host.
    Endpoints(ServiceName, NodeName),
    /// One that went.
    Tombstone(ServiceName, EndpointKey),
    /// Up to where its tombstones were deleted.
    Swept(ServiceName),
    /// The session of a host.
    Session(NodeName),
    /// A host.
    Node(NodeName),
    /// Who has a slice of the instance networks.
    Slice(u32),
    /// The instance networks.
    Networks,
    /// In what revisions count.
    Lineage,
    /// A replica of control that runs; each start of one has an id of its own.
    Control(String),
    /// Who has the duty.
    Lead,
    /// The share of a zone.
    Zone(ZoneName),
    /// A pause.
    Pause(Pausable),
    /// The limits.
    Limits,
    /// Services that are placed together.
    Project(ProjectName),
    /// What of placed services a host runs.
    Assigned(NodeName),
    /// What was done.
    History(u64),
}

/// Endpoints of a service on a host, by instance.
pub type StoredEndpoints = BTreeMap<u32, Endpoint>;

/// Why an endpoint went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredTombstone {
    /// Why.
    pub removal: Removal,
    /// When, as its writer's clock shows; milliseconds since 1970.
    #[serde(default)]
    pub at_ms: u64,
    /// It counts against the cap of removals: nobody saw the endpoint end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub capped: bool,
}

/// Up to where tombstones of a service were deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredSweep {
    /// The newest of those that were deleted.
    pub generation: Generation,
}

/// The session of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredSession {
    /// The replica of control that has it.
    pub control: String,
    /// Rises by one with each session of the host: who has an older one writes nothing more.
    pub epoch: u64,
    /// When it began; milliseconds since 1970.
    pub since_ms: u64,
    /// When it was lost, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_since_ms: Option<u64>,
    /// For how long nothing had been heard of the host when the session was lost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub silent_ms: u64,
    /// When the host was declared dead, if it was. Its next session puts another value here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_since_ms: Option<u64>,
    /// A person said so: all of it goes, and no cap holds that up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A replica of control that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredControl {
    /// Its name.
    pub name: ControlName,
    /// Where hosts reach it.
    pub advertise: String,
    /// Of Sinew.
    pub version: String,
    /// When it began; milliseconds since 1970.
    pub since_ms: u64,
}

/// Why what the store holds is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Poison {
    /// The key names nothing.
    #[error("the key names nothing that is known")]
    Key,
    /// The value is no JSON of its kind.
    #[error("{0}")]
    Value(String),
    /// A field is out of its bounds.
    #[error(transparent)]
    Field(#[from] OutOfBounds),
}

impl Key {
    /// The key's bytes.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let text = match self {
            Self::Service(service) => format!("{ROOT}services/{service}"),
            Self::Endpoints(service, node) => format!("{ROOT}endpoints/{service}/{node}"),
            Self::Tombstone(service, key) => format!("{ROOT}tombstones/{service}/{key}"),
            Self::Swept(service) => format!("{ROOT}swept/{service}"),
            Self::Session(node) => format!("{ROOT}sessions/{node}"),
            Self::Node(node) => format!("{ROOT}nodes/{node}"),
            Self::Slice(index) => format!("{ROOT}slices/{index}"),
            Self::Networks => format!("{ROOT}config/networks"),
            Self::Lineage => lineage::KEY.to_owned(),
            Self::Control(id) => format!("{ROOT}controls/{id}"),
            Self::Lead => format!("{ROOT}duty/lead"),
            Self::Zone(zone) => format!("{ROOT}zones/{zone}"),
            Self::Pause(what) => format!("{ROOT}pauses/{what}"),
            Self::Limits => format!("{ROOT}config/limits"),
            Self::Project(project) => format!("{ROOT}projects/{project}"),
            Self::Assigned(node) => format!("{ROOT}assigned/{node}"),
            Self::History(id) => format!("{ROOT}history/{id:020}"),
        };
        text.into()
    }

    /// Reads a key; `None` when it is none of the fleet's.
    ///
    /// # Errors
    /// When it is one, and names nothing.
    pub fn parse(key: &[u8]) -> Option<Result<Self, Poison>> {
        let (kind, rest) = std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?.split_once('/')?;
        let parts: Vec<&str> = rest.split('/').collect();
        let read = match (kind, parts.as_slice()) {
            ("services", [service]) => part(service).map(Self::Service),
            ("swept", [service]) => part(service).map(Self::Swept),
            ("sessions", [node]) => part(node).map(Self::Session),
            ("endpoints", [service, node]) => pair(service, node, Self::Endpoints),
            ("tombstones", [service, node, instance]) => part(instance).and_then(|instance| {
                pair(service, node, |service, node| {
                    Self::Tombstone(service, EndpointKey { node, instance })
                })
            }),
            ("nodes", [node]) => part(node).map(Self::Node),
            ("slices", [index]) => part(index).map(Self::Slice),
            ("config", ["networks"]) => Ok(Self::Networks),
            ("config", ["lineage"]) => Ok(Self::Lineage),
            ("controls", [id]) if !id.is_empty() => Ok(Self::Control((*id).to_owned())),
            ("duty", ["lead"]) => Ok(Self::Lead),
            ("zones", [zone]) => part(zone).map(Self::Zone),
            ("pauses", [what]) => part(what).map(Self::Pause),
            ("config", ["limits"]) => Ok(Self::Limits),
            ("projects", [project]) => part(project).map(Self::Project),
            ("assigned", [node]) => part(node).map(Self::Assigned),
            ("history", [id]) if id.len() == 20 => part(id).map(Self::History),
            (
                "services" | "swept" | "sessions" | "endpoints" | "tombstones" | "controls"
                | "zones" | "pauses" | "nodes" | "slices" | "projects" | "assigned" | "history",
                _,
            ) => Err(Poison::Key),
            _ => return None,
        };
        Some(read)
    }
}

fn part<T: FromStr>(text: &str) -> Result<T, Poison> {
    text.parse().map_err(|_| Poison::Key)
}

fn pair<A: FromStr, B: FromStr, T>(
    a: &str,
    b: &str,
    make: impl FnOnce(A, B) -> T,
) -> Result<T, Poison> {
    Ok(make(part(a)?, part(b)?))
}

/// Reads a value that has no bounds of its own.
pub(crate) fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, Poison> {
    serde_json::from_slice(value).map_err(|error| Poison::Value(error.to_string()))
}

/// The bytes of a value.
pub(crate) fn write<T: Serialize>(value: &T) -> Bytes {
    // Maps by number, names and numbers are always written.
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// Reads a service, and checks it.
pub(crate) fn read_service(value: &[u8]) -> Result<StoredService, Poison> {
    let service: StoredService = read(value)?;
    if let Some(record) = &service.record {
        record.validate().map_err(|error| error.within("record"))?;
    }
    for (index, word) in service.otherwise.iter().enumerate() {
        let within = |error: OutOfBounds| error.within(format_args!("otherwise[{index}].record"));
        word.record.validate().map_err(within)?;
    }
    Ok(service)
}

/// Reads endpoints, and checks them.
pub(crate) fn read_endpoints(value: &[u8]) -> Result<StoredEndpoints, Poison> {
    let endpoints: StoredEndpoints = read(value)?;
    for (instance, endpoint) in &endpoints {
        endpoint.validate().map_err(|error| error.within(instance))?;
    }
    Ok(endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let (service, node): (ServiceName, NodeName) = ("a".parse().unwrap(), "n".parse().unwrap());
        let endpoint = EndpointKey { node: node.clone(), instance: 7 };
        for (key, text) in [
            (Key::Service(service.clone()), "sinew/services/a"),
            (Key::Endpoints(service.clone(), node.clone()), "sinew/endpoints/a/n"),
            (Key::Tombstone(service.clone(), endpoint), "sinew/tombstones/a/n/7"),
            (Key::Swept(service), "sinew/swept/a"),
            (Key::Session(node.clone()), "sinew/sessions/n"),
            (Key::Node(node), "sinew/nodes/n"),
            (Key::Slice(7), "sinew/slices/7"),
            (Key::Networks, "sinew/config/networks"),
            (Key::Project("shop".parse().unwrap()), "sinew/projects/shop"),
            (Key::Assigned("n".parse().unwrap()), "sinew/assigned/n"),
            (Key::Control("c1".to_owned()), "sinew/controls/c1"),
            (Key::Lead, "sinew/duty/lead"),
            (Key::Zone("z".parse().unwrap()), "sinew/zones/z"),
            (Key::Pause(Pausable::Removals), "sinew/pauses/removals"),
            (Key::Limits, "sinew/config/limits"),
            (Key::History(42), "sinew/history/00000000000000000042"),
        ] {
            assert_eq!(key.bytes(), text);
            assert_eq!(Key::parse(text.as_bytes()), Some(Ok(key)));
        }
    }

    #[test]
    fn other_keys_are_passed_over_and_wrong_ones_told() {
        for text in ["sinew/ca/root", "other/services/a", "sinew/schema", ""] {
            assert_eq!(Key::parse(text.as_bytes()), None, "{text}");
        }
        for text in [
            "sinew/services/A",
            "sinew/endpoints/a",
            "sinew/tombstones/a/n/x",
            "sinew/pauses/sleep",
            "sinew/history/42",
        ] {
            assert_eq!(Key::parse(text.as_bytes()), Some(Err(Poison::Key)), "{text}");
        }
    }

    #[test]
    fn values_out_of_bounds_are_refused() {
        let endpoint = r#"{"1":{"address4":"10.0.0.1","address6":null,"zone":"a","weight":256,"status":"up"}}"#;
        assert_eq!(read_endpoints(endpoint.as_bytes()).unwrap().len(), 1);
        let heavy = endpoint.replace("256", "65537");
        let told = read_endpoints(heavy.as_bytes()).unwrap_err().to_string();
        assert_eq!(told, "1.weight is 65537: is at most 65536");
    }
}
