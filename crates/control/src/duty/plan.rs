//! What is to be done, before it is: which keys change from what to what, whom it touches, and why.
//! A plan can be shown instead of done.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinew_model::{NodeName, ServiceName, ZoneName, fleet::Generation};

use crate::{
    records::{Key, write as encode},
    registry::Registry,
    store::{Compare, Op, Revision, Transaction},
};

/// Why something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A host was not heard of for the session time-out.
    HostDead,
    /// Endpoints of a dead host go, within the cap.
    RemoveDead,
    /// A person takes a host out.
    Withdraw,
    /// A dead host is gone for good, as a person says, or by the time that it has been dead.
    Forget,
    /// A person takes a zone out.
    Evacuate,
    /// A person has a zone brought back.
    Return,
    /// The zone is well at its share, so it gets more.
    ReturnStep,
    /// The zone is not well at its share, so it gets no more.
    ReturnStopped,
    /// A person pauses something.
    Pause,
    /// A person ends a pause.
    Resume,
    /// A person changes limits.
    SetLimits,
    /// A person has services placed on hosts.
    Place,
    /// A person has them run nowhere.
    Unplace,
    /// Replicas begin or end on hosts.
    Spread,
    /// A person undoes actions.
    Rollback,
}

/// Whom something touches, by zone. Hosts whose zone is not known are in the zone `None`.
pub type Radius = BTreeMap<String, ZoneRadius>;

/// The zone of hosts that have not said where they are.
const NOWHERE: &str = "(unknown)";

/// Whom something touches in a zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneRadius {
    /// Hosts.
    pub hosts: usize,
    /// Endpoints that go, or get another share.
    pub endpoints: usize,
    /// The services that these are of.
    pub services: usize,
}

/// A key that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub key: Key,
    /// The revision that put what is there; 0: nothing is.
    pub from: Revision,
    /// What a person is shown of it as it is.
    pub before: Option<Value>,
    /// What a person is shown of it as it will be.
    pub after: Option<Value>,
    op: Op,
}

impl Change {
    /// A key gets a value, or none.
    pub(super) fn new<T: Serialize>(
        key: Key,
        before: Option<&(Revision, T)>,
        after: Option<&T>,
    ) -> Self {
        let op = match after {
            Some(after) => Op::put(key.bytes(), encode(after)),
            None => Op::delete(key.bytes()),
        };
        Self {
            key,
            from: before.map_or(Revision(0), |(revision, _)| *revision),
            before: before.map(|(_, value)| shown(value)),
            after: after.map(shown),
            op,
        }
    }

    /// The same, of which a person is shown something else.
    pub(super) fn showing(self, before: Option<Value>, after: Option<Value>) -> Self {
        Self { before, after, ..self }
    }
}

pub(super) fn shown<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Why.
    pub rule: Rule,
    /// The same in words.
    pub words: String,
    /// What that goes by.
    pub inputs: BTreeMap<String, String>,
    /// What was known then.
    pub generation: Generation,
    /// Keys that change.
    pub changes: Vec<Change>,
    /// Whom it touches.
    pub radius: Radius,
    guards: Vec<(Key, Revision)>,
    quiet: Vec<Op>,
}

impl Plan {
    pub(super) fn new(rule: Rule, registry: &Registry, words: impl Into<String>) -> Self {
        Self {
            rule,
            words: words.into(),
            inputs: BTreeMap::new(),
            generation: Generation(registry.revision().0),
            changes: Vec::new(),
            radius: Radius::new(),
            guards: Vec::new(),
            quiet: Vec::new(),
        }
    }

    pub(super) fn with(mut self, change: Change) -> Self {
        self.changes.push(change);
        self
    }

    pub(super) fn input(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.inputs.insert(name.to_owned(), value.to_string());
        self
    }

    /// Only while a key is as that revision put it.
    pub(super) fn guarded(mut self, key: Key, revision: Revision) -> Self {
        self.guards.push((key, revision));
        self
    }

    /// An operation of which the other changes tell already.
    pub(super) fn quietly(&mut self, op: Op) {
        self.quiet.push(op);
    }

    /// Operations of which other changes tell.
    pub(super) fn quiet_ops(&self) -> usize {
        self.quiet.len()
    }

    /// Comparisons or operations, whatever is more.
    pub(super) fn len(&self) -> usize {
        (self.changes.len() + self.guards.len()).max(self.changes.len() + self.quiet.len())
    }

    pub(super) fn touch(&mut self, zone: Option<&ZoneName>, touched: &Touched) {
        let zone = zone.map_or(NOWHERE, ZoneName::as_str).to_owned();
        let radius = self.radius.entry(zone).or_default();
        radius.hosts += touched.hosts;
        radius.endpoints += touched.endpoints;
        radius.services += touched.services;
    }

    /// For the store: it compares what the plan was computed from.
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        let compare = |(key, revision): (&Key, Revision)| match revision {
            Revision(0) => Compare::absent(key.bytes()),
            revision => Compare::unchanged(key.bytes(), revision),
        };
        let guards = self.guards.iter().map(|(key, revision)| (key, *revision));
        let changed = self.changes.iter().map(|change| (&change.key, change.from));
        let all = changed.chain(guards).map(compare).fold(Transaction::new(), Transaction::when);
        let ops = self.changes.iter().map(|change| &change.op).chain(&self.quiet);
        ops.cloned().fold(all, Transaction::then)
    }
}

/// Counts of a [`ZoneRadius`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Touched {
    pub(super) hosts: usize,
    pub(super) endpoints: usize,
    pub(super) services: usize,
}

/// All of a host.
pub(super) fn of_host(registry: &Registry, node: &NodeName) -> Touched {
    let count =
        |service: &ServiceName| registry.of_node(service, node).endpoints.map_or(0, BTreeMap::len);
    let mut touched = Touched { hosts: 1, ..Touched::default() };
    for endpoints in registry.services_of(node).map(count).filter(|count| *count > 0) {
        touched.services += 1;
        touched.endpoints += endpoints;
    }
    touched
}

/// All of a zone.
pub(super) fn of_zone(registry: &Registry, zone: &ZoneName) -> Touched {
    let mut touched = Touched::default();
    for (node, ..) in registry.sessions().filter(|(node, ..)| registry.zone(node) == Some(zone)) {
        touched.hosts += usize::from(!registry.is_dead(node));
    }
    for service in registry.services() {
        let there = registry.hosts_of(service).flat_map(|(_, endpoints)| endpoints.values());
        let endpoints = there.filter(|endpoint| endpoint.zone == *zone).count();
        touched.services += usize::from(endpoints > 0);
        touched.endpoints += endpoints;
    }
    touched
}
