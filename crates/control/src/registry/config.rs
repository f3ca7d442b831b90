//! What people and the duty have set, and which replicas of control there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use sinew_model::ZoneName;

use crate::{
    records::{
        self, Key, Poison, StoredControl,
        config::{Limits, Pausable, StoredLead, StoredPause, StoredZone},
    },
    store::Revision,
};

static DEFAULT: LazyLock<Limits> = LazyLock::new(Limits::default);

/// What holds for the whole network. Of each the revision that put it; 0: nothing did.
#[derive(Debug, Default)]
pub struct Config {
    controls: BTreeSet<String>,
    replicas: BTreeMap<String, StoredControl>,
    zones: BTreeMap<ZoneName, (Revision, StoredZone)>,
    pauses: BTreeMap<Pausable, (Revision, StoredPause)>,
    limits: Option<(Revision, Limits)>,
    lead: Option<(Revision, StoredLead)>,
    history: BTreeMap<u64, Record>,
    history_bytes: usize,
}

/// An entry of the history, as far as it is known without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The revision that put it.
    pub revision: Revision,
    /// Of its value.
    pub bytes: usize,
}

impl Config {
    pub(super) fn take(
        &mut self,
        key: Key,
        revision: Revision,
        value: Option<&[u8]>,
    ) -> Result<(), Poison> {
        match key {
            Key::Control(id) => {
                if value.is_some() {
                    self.controls.insert(id.clone());
                } else {
                    self.controls.remove(&id);
                }
                match value.map(records::read).transpose()? {
                    Some(replica) => self.replicas.insert(id, replica),
                    None => self.replicas.remove(&id),
                };
            }
            Key::History(id) => {
                let bytes = value.map_or(0, <[u8]>::len);
                let before = match value {
                    Some(_) => self.history.insert(id, Record { revision, bytes }),
                    None => self.history.remove(&id),
                };
                self.history_bytes += bytes;
                self.history_bytes -= before.map_or(0, |before| before.bytes);
            }
            Key::Zone(zone) => set(&mut self.zones, zone, revision, value)?,
            Key::Pause(what) => set(&mut self.pauses, what, revision, value)?,
            Key::Limits => {
                let limits = value.map(read_limits).transpose()?;
                self.limits = limits.map(|limits| (revision, limits));
            }
            Key::Lead => {
                let lead: Option<StoredLead> = value.map(records::read).transpose()?;
                self.lead = lead.map(|lead| (revision, lead));
            }
            _ => (),
        }
        Ok(())
    }

    /// Replicas that are there: each has a lease.
    #[must_use]
    pub const fn controls(&self) -> &BTreeSet<String> {
        &self.controls
    }

    /// What they say of themselves.
    #[must_use]
    pub const fn replicas(&self) -> &BTreeMap<String, StoredControl> {
        &self.replicas
    }

    /// Zones that get less than their share.
    #[must_use]
    pub const fn zones(&self) -> &BTreeMap<ZoneName, (Revision, StoredZone)> {
        &self.zones
    }

    /// What is paused.
    #[must_use]
    pub const fn pauses(&self) -> &BTreeMap<Pausable, (Revision, StoredPause)> {
        &self.pauses
    }

    /// Whether something is paused, by itself or with all.
    #[must_use]
    pub fn is_paused(&self, what: Pausable) -> bool {
        self.pauses.contains_key(&what) || self.pauses.contains_key(&Pausable::All)
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.limits.as_ref().map_or(&DEFAULT, |(_, limits)| limits)
    }

    /// The revision that set the limits; 0: they are the usual ones.
    #[must_use]
    pub fn limits_revision(&self) -> Revision {
        self.limits.as_ref().map_or(Revision(0), |(revision, _)| *revision)
    }

    /// The entries of the history, by id.
    #[must_use]
    pub const fn history(&self) -> &BTreeMap<u64, Record> {
        &self.history
    }

    /// Of the values of all of them.
    #[must_use]
    pub const fn history_bytes(&self) -> usize {
        self.history_bytes
    }

    /// Who has the duty. The revision is the generation of its writes.
    #[must_use]
    pub const fn lead(&self) -> Option<&(Revision, StoredLead)> {
        self.lead.as_ref()
    }
}

pub(super) fn set<K: Ord, V: serde::de::DeserializeOwned>(
    all: &mut BTreeMap<K, (Revision, V)>,
    key: K,
    revision: Revision,
    value: Option<&[u8]>,
) -> Result<(), Poison> {
    match value {
        Some(value) => drop(all.insert(key, (revision, records::read(value)?))),
        None => drop(all.remove(&key)),
    }
    Ok(())
}

fn read_limits(value: &[u8]) -> Result<Limits, Poison> {
    let limits = records::read::<Limits>(value)?.lowered();
    limits.validate()?;
    Ok(limits)
}
