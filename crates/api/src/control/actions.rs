//! What people have control do, what was done, and what holds for the whole network.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinew_model::{NodeName, Project, ProjectName, ServiceName, ZoneName, fleet::Generation};

/// What is to be done, or only shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// What.
    pub action: Request,
    /// Only show what it would do.
    #[serde(default)]
    pub dry_run: bool,
}

/// What can be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Have something left undone until it is resumed.
    Pause {
        /// `removals`, `placement` or `all`.
        what: String,
        /// Why.
        #[serde(default)]
        reason: String,
    },
    /// End a pause.
    Resume {
        /// What was paused.
        what: String,
    },
    /// Have a zone get no new connections.
    Evacuate {
        /// Which.
        zone: ZoneName,
        /// Why.
        #[serde(default)]
        reason: String,
        /// Though others may not carry it.
        #[serde(default)]
        force: bool,
    },
    /// Bring it back by steps.
    Return {
        /// Which.
        zone: ZoneName,
    },
    /// Have a project's services run wherever there is room.
    Place {
        /// The whole project; an earlier one of its name is replaced.
        project: Box<Project>,
    },
    /// Have them run nowhere.
    Unplace {
        /// Which.
        project: ProjectName,
    },
    /// Forget a dead host: it is gone for good, and its slice of the instance networks is free.
    Forget {
        /// Which.
        node: NodeName,
    },
    /// Change limits.
    SetLimits {
        /// By name.
        limits: BTreeMap<String, u64>,
    },
    /// Undo what was set after a generation.
    Rollback {
        /// That one.
        generation: Generation,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acted {
    /// What was done, or would be; `None`: nothing is to be done.
    pub done: Option<Entry>,
    /// What a rollback leaves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_undone: Vec<NotUndone>,
}

/// What was done, by the duty of control or by a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The revision in which it was done; `None`: it was only shown.
    pub generation: Option<Generation>,
    /// When, in milliseconds since 1970.
    pub when_ms: u64,
    /// Who.
    pub who: String,
    /// Why, as `host-dead`.
    pub rule: String,
    /// The same in words.
    pub words: String,
    /// What it went by.
    pub inputs: BTreeMap<String, String>,
    /// What was known when it was decided.
    pub computed_from: Generation,
    /// The generation of the duty that did it; none for what a person did.
    pub duty: Option<Generation>,
    /// What it changed in the store.
    pub diff: Vec<Diff>,
    /// Whom it touched, by zone.
    pub radius: BTreeMap<String, ZoneRadius>,
}

/// A key of the store that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// Which.
    pub key: String,
    /// What was there.
    pub before: Option<Value>,
    /// What is there then.
    pub after: Option<Value>,
}

/// Whom something touches in a zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneRadius {
    /// Hosts.
    pub hosts: usize,
    /// Endpoints that go, or get another share.
    pub endpoints: usize,
    /// The services that these are of.
    pub services: usize,
}

/// What a rollback leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotUndone {
    /// The action.
    pub generation: Generation,
    /// What it did.
    pub what: String,
    /// Why it stays.
    pub why: String,
}

/// A placed service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its name.
    pub service: ServiceName,
    /// Whose it is.
    pub project: ProjectName,
    /// Replicas that are wanted.
    pub wanted: u16,
    /// Replicas by host.
    pub hosts: BTreeMap<NodeName, u16>,
    /// How many have no place, and what the hosts lack.
    pub unplaced: Option<String>,
    /// Hosts that do not run it, and why not; told by the replica that holds their sessions alone.
    pub refused: BTreeMap<NodeName, String>,
}

/// What holds for the whole network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// The replica that declares hosts dead; `None`: just now nobody does.
    pub duty: Option<Duty>,
    /// Why hosts are not declared dead now, in words.
    pub frozen: Vec<String>,
    /// What is paused.
    pub pauses: Vec<Pause>,
    /// Zones that get less than their share.
    pub zones: Vec<Zone>,
    /// Why the store takes nothing more, in words; `None`: it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What is nearly full, in words.
    pub nearly_full: Vec<String>,
}

/// Who has the duty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duty {
    /// The id of the replica.
    pub control: String,
    /// Every write of the duty compares it.
    pub generation: Generation,
    /// In milliseconds since 1970.
    pub since_ms: u64,
}

/// A pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// What is paused.
    pub what: String,
    /// Who paused it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// In milliseconds since 1970.
    pub since_ms: u64,
}

/// A zone that gets less than its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Which.
    pub zone: ZoneName,
    /// Of its share.
    pub percent: u8,
    /// Why.
    pub reason: String,
    /// Since when it gets that, in milliseconds since 1970.
    pub since_ms: u64,
    /// Whether it is on its way back.
    pub returning: bool,
    /// Why it goes no further.
    pub stopped: Option<String>,
}
