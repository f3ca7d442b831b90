//! What people and the duty set: limits, pauses, shares of zones, and who has the duty.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use sinew_abi::capacity;
use sinew_model::fleet::{Generation, OutOfBounds};
use sinew_proto::bounds;

/// What the control plane does by itself, and can be told to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pausable {
    /// Hosts are declared dead and their endpoints removed; tombstones are swept.
    Removals,
    /// Replicas are placed on hosts; zones come back by steps.
    Placement,
    /// Both.
    All,
}

impl Pausable {
    /// All there are.
    pub const EACH: [Self; 3] = [Self::Removals, Self::Placement, Self::All];

    const fn name(self) -> &'static str {
        match self {
            Self::Removals => "removals",
            Self::Placement => "placement",
            Self::All => "all",
        }
    }
}

impl fmt::Display for Pausable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Nothing of that name can be paused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be paused: name removals, placement or all")]
pub struct NotPausable(String);

impl FromStr for Pausable {
    type Err = NotPausable;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::EACH.into_iter().find(|it| it.name() == text);
        named.ok_or_else(|| NotPausable(text.to_owned()))
    }
}

/// A pause, until somebody ends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredPause {
    /// Who paused it.
    pub by: String,
    /// Why, in their words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Milliseconds since 1970.
    pub since_ms: u64,
}

/// A zone that gets less than its share of new connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredZone {
    /// Of its share; 0: nothing new, and what is there drains.
    pub percent: u8,
    /// When that was set; milliseconds since 1970.
    pub since_ms: u64,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// It is being brought back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returning: Option<StoredReturn>,
}

/// How a zone stood when a step of its return began: the next one waits for as much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredReturn {
    /// What the store had then.
    pub generation: Generation,
    /// Endpoints of the zone that were up.
    pub up: u32,
    /// Those that were unhealthy.
    pub unhealthy: u32,
    /// Why it goes no further, until somebody says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

/// Who has the duty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredLead {
    /// The replica of control.
    pub control: String,
    /// Milliseconds since 1970.
    pub since_ms: u64,
}

/// What is declared of how much and how fast. Changed while everything runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// A host that is not heard of for so long is taken for dead.
    pub session_timeout_ms: u64,
    /// What hosts get besides to come back by another replica, where theirs has gone, or the duty
    /// has just been taken.
    pub reconnect_ms: u64,
    /// When more than this share of all hosts, or of a zone's, is gone at once, none is declared
    /// dead.
    pub mass_percent: u8,
    /// Of a service's endpoints, how many go in an interval on the control plane's word.
    pub removal_cap_percent: u8,
    /// That interval.
    pub removal_interval_ms: u64,
    /// How long tombstones are kept.
    pub tombstone_life_ms: u64,
    /// How many are kept of one service.
    pub service_tombstones: u32,
    /// Endpoints of one service.
    pub service_endpoints: u32,
    /// Services.
    pub services: u32,
    /// Hosts.
    pub nodes: u32,
    /// How long a zone that comes back stays at a step before the next.
    pub return_step_ms: u64,
    /// What a dead host had placed on it runs elsewhere after that.
    pub reschedule_ms: u64,
    /// A host that has been dead for so long is forgotten: it leaves its slice, and does not come back
    /// unless it joins anew.
    pub forget_ms: u64,
    /// A slice that a host has left is not another's for so long: connections, names that programs
    /// remember, and hosts that were cut off may still mean the one that had it.
    pub slice_rest_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            session_timeout_ms: 5_000,
            reconnect_ms: 5_000,
            mass_percent: 50,
            removal_cap_percent: 10,
            removal_interval_ms: 10_000,
            tombstone_life_ms: 3_600_000,
            service_tombstones: 1024,
            service_endpoints: 16_384,
            services: 16_384,
            nodes: 4_096,
            return_step_ms: 10_000,
            reschedule_ms: 60_000,
            forget_ms: 30 * 86_400_000,
            slice_rest_ms: 3_600_000,
        }
    }
}

const MAX_SERVICES: u64 = bounds::MAX_SERVICES as u64;
const MAX_ENDPOINTS: u64 = bounds::MAX_ENDPOINTS as u64;
const _: () = assert!(bounds::MAX_HOSTS >= capacity::NODES as usize);

/// Why there are not more.
const TABLES: &str =
    ": the tables of each host's kernel hold no more; what is more takes a network of its own";
const MESSAGE: &str = ": agents take no more at once";

/// The least and the most of each, and why not more, where that is not for anybody to choose.
const BOUNDS: [(&str, u64, u64, &str); 14] = [
    ("session_timeout_ms", 1_000, 600_000, ""),
    ("reconnect_ms", 0, 600_000, ""),
    ("mass_percent", 1, 100, ""),
    ("removal_cap_percent", 1, 100, ""),
    ("removal_interval_ms", 1_000, 3_600_000, ""),
    ("tombstone_life_ms", 60_000, 30 * 86_400_000, ""),
    ("service_tombstones", 16, MAX_ENDPOINTS, MESSAGE),
    ("service_endpoints", 1, MAX_ENDPOINTS, MESSAGE),
    ("services", 1, MAX_SERVICES, MESSAGE),
    ("nodes", 1, capacity::NODES as u64, TABLES),
    ("return_step_ms", 1_000, 86_400_000, ""),
    ("reschedule_ms", 0, 86_400_000, ""),
    ("forget_ms", 3_600_000, 3_650 * 86_400_000, ""),
    ("slice_rest_ms", 60_000, 30 * 86_400_000, ""),
];

impl Limits {
    /// Each by its name.
    #[must_use]
    pub fn each(&self) -> BTreeMap<&'static str, u64> {
        let values = [
            self.session_timeout_ms,
            self.reconnect_ms,
            self.mass_percent.into(),
            self.removal_cap_percent.into(),
            self.removal_interval_ms,
            self.tombstone_life_ms,
            self.service_tombstones.into(),
            self.service_endpoints.into(),
            self.services.into(),
            self.nodes.into(),
            self.return_step_ms,
            self.reschedule_ms,
            self.forget_ms,
            self.slice_rest_ms,
        ];
        BOUNDS.iter().map(|(name, ..)| *name).zip(values).collect()
    }

    /// Sets one by its name.
    ///
    /// # Errors
    /// When there is none of that name, or it may not be that.
    pub fn set(&mut self, name: &str, value: u64) -> Result<(), OutOfBounds> {
        let known = BOUNDS.iter().find(|(known, ..)| *known == name);
        let Some((_, least, most, why)) = known else {
            let names: Vec<_> = BOUNDS.iter().map(|(name, ..)| *name).collect();
            let rule = format!("is one of these: {}", names.join(", "));
            return Err(OutOfBounds::new("the name of a limit", name, rule));
        };
        if !(least..=most).contains(&&value) {
            return Err(OutOfBounds::new(name, value, format!("is from {least} to {most}{why}")));
        }
        // In bounds, so it fits.
        let (small, word) = (value as u8, value as u32);
        match name {
            "session_timeout_ms" => self.session_timeout_ms = value,
            "reconnect_ms" => self.reconnect_ms = value,
            "mass_percent" => self.mass_percent = small,
            "removal_cap_percent" => self.removal_cap_percent = small,
            "removal_interval_ms" => self.removal_interval_ms = value,
            "tombstone_life_ms" => self.tombstone_life_ms = value,
            "service_tombstones" => self.service_tombstones = word,
            "service_endpoints" => self.service_endpoints = word,
            "services" => self.services = word,
            "nodes" => self.nodes = word,
            "return_step_ms" => self.return_step_ms = value,
            "reschedule_ms" => self.reschedule_ms = value,
            "forget_ms" => self.forget_ms = value,
            _ => self.slice_rest_ms = value,
        }
        Ok(())
    }

    /// With the most of what is more than that: earlier versions let it be set.
    #[must_use]
    pub fn lowered(mut self) -> Self {
        for (name, _, most, _) in BOUNDS {
            if self.each().get(name).is_some_and(|value| *value > most) {
                // It is within its bounds.
                let _ = self.set(name, most);
            }
        }
        self
    }

    /// Checks what types do not hold.
    ///
    /// # Errors
    /// With the first field at fault.
    pub fn validate(&self) -> Result<(), OutOfBounds> {
        let mut copy = self.clone();
        self.each().into_iter().try_for_each(|(name, value)| copy.set(name, value))
    }

    /// A host that is not heard of for so long is taken for dead.
    #[must_use]
    pub const fn session_timeout(&self) -> Duration {
        Duration::from_millis(self.session_timeout_ms)
    }

    /// What hosts get besides to come back by another replica.
    #[must_use]
    pub const fn reconnect(&self) -> Duration {
        Duration::from_millis(self.reconnect_ms)
    }

    /// How many of `all` endpoints of a service go in an interval: at least one.
    #[must_use]
    pub fn removal_cap(&self, all: usize) -> usize {
        (all * usize::from(self.removal_cap_percent) / 100).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_by_name_within_their_bounds() {
        let mut limits = Limits::default();
        limits.validate().unwrap();
        for (number, (name, least, most, _)) in (1..).zip(BOUNDS) {
            for value in [least, most, least + number] {
                limits.set(name, value).unwrap();
                assert_eq!(limits.each()[name], value, "{name}");
            }
            assert!(limits.set(name, most + 1).is_err());
        }
        let changed = limits.each();
        // None was set in the place of another.
        for (number, (name, least, ..)) in (1..).zip(BOUNDS) {
            assert_eq!(changed[name], least + number, "{name}");
        }
        let told = limits.set("mass_percent", 101).unwrap_err().to_string();
        assert_eq!(told, "mass_percent is 101: is from 1 to 100");
        let told = limits.set("mass", 1).unwrap_err().to_string();
        assert!(
            told.starts_with("the name of a limit is mass: is one of these: session_timeout_ms, ")
        );
        limits.nodes = 0;
        assert!(limits.validate().unwrap_err().to_string().starts_with("nodes is 0: is from 1 to"));
    }

    #[test]
    fn no_limit_is_beyond_what_hosts_hold() {
        let mut limits = Limits::default();
        let told = limits.set("nodes", u64::from(capacity::NODES) + 1).unwrap_err().to_string();
        assert_eq!(
            told,
            "nodes is 4097: is from 1 to 4096: the tables of each host's kernel hold no more; what \
             is more takes a network of its own"
        );
        let told = limits.set("service_endpoints", 65_537).unwrap_err().to_string();
        assert!(told.ends_with("is from 1 to 65536: agents take no more at once"), "{told}");
        // What was set when it could be is not lost with all the others.
        let stored: Limits = serde_json::from_str(r#"{"nodes":50000,"mass_percent":40}"#).unwrap();
        let lowered = stored.lowered();
        lowered.validate().unwrap();
        assert_eq!((lowered.nodes, lowered.mass_percent), (capacity::NODES, 40));
    }

    #[test]
    fn limits_that_were_stored_without_a_name_have_its_default() {
        let stored: Limits = serde_json::from_str(r#"{"removal_cap_percent":20}"#).unwrap();
        assert_eq!(stored, Limits { removal_cap_percent: 20, ..Limits::default() });
        assert_eq!((stored.removal_cap(3), stored.removal_cap(100)), (1, 20));
    }
}
