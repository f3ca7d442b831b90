//! Undoing: what people and the duty have set since a generation is set back to what it was then.
//!
//! Zones, pauses and limits are set back, each only while it is as the last action left it. What a
//! host is and runs is not: it says so itself, and comes back with its next session.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use sinew_model::fleet::Generation;

use super::{
    history::{Diff, Entry},
    people::Refused,
    plan::{Change, Plan, Rule, of_zone},
};
use crate::{
    records::{
        Key,
        config::{Limits, StoredPause, StoredZone},
        placed::StoredProject,
    },
    registry::Registry,
    session::{Now, milliseconds},
    store::Revision,
};

/// What is not undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotUndone {
    /// The action.
    pub generation: Generation,
    /// What it did, in words.
    pub what: String,
    /// Why it stays.
    pub why: String,
}

/// A rollback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// What is set back; `None`: nothing.
    pub plan: Option<Plan>,
    /// What is not.
    pub not_undone: Vec<NotUndone>,
}

/// What the actions after a generation did to a key.
struct Touched<'a> {
    before: Option<&'a Value>,
    last: &'a Entry,
    deleted: bool,
}

/// Undoes what was set after `generation`. `entries`: the history after it, oldest first.
///
/// # Errors
/// When there has been no such generation yet.
pub fn plan(
    generation: Generation,
    entries: &[Entry],
    now: Now,
    registry: &Registry,
) -> Result<Rollback, Refused> {
    let newest = registry.revision().0;
    if generation.0 > newest {
        return Err(Refused::Future { generation: generation.0, newest });
    }
    let mut touched: BTreeMap<&str, Touched<'_>> = BTreeMap::new();
    let mut not_undone = Vec::new();
    for entry in entries.iter().filter(|entry| entry.generation > generation) {
        for Diff { key, before, after } in &entry.action.diff {
            let deleted = after.is_none();
            let first = Touched { before: before.as_ref(), last: entry, deleted };
            let touched = touched.entry(key).or_insert(first);
            (touched.last, touched.deleted) = (entry, deleted);
        }
    }
    let words = format!("all that was set after generation {generation} is set back");
    let mut plan = Plan::new(Rule::Rollback, registry, words).input("generation", generation);
    for (key, touched) in touched {
        match undo(key, &touched, now, registry, &mut plan) {
            Ok(Some(change)) => plan.changes.push(change),
            Ok(None) => (),
            Err(why) => not_undone.push(NotUndone {
                generation: touched.last.generation,
                what: touched.last.action.words.clone(),
                why,
            }),
        }
    }
    // One action may have touched many keys.
    not_undone.sort_by(|a, b| (a.generation, &a.why).cmp(&(b.generation, &b.why)));
    not_undone.dedup();
    Ok(Rollback { plan: (!plan.changes.is_empty()).then_some(plan), not_undone })
}

fn undo(
    key: &str,
    touched: &Touched<'_>,
    now: Now,
    registry: &Registry,
    plan: &mut Plan,
) -> Result<Option<Change>, String> {
    let Some(Ok(parsed)) = Key::parse(key.as_bytes()) else {
        return Err(format!("key {key} is not known"));
    };
    let config = registry.config();
    match &parsed {
        Key::Zone(zone) => {
            let is = config.zones().get(zone);
            let now_ms = milliseconds(now.wall);
            // Its health counts from now.
            let renew = |mut zone: StoredZone| {
                zone.since_ms = now_ms;
                if let Some(returning) = &mut zone.returning {
                    returning.generation = Generation(registry.revision().0);
                }
                zone
            };
            let change = set_back(parsed.clone(), is, touched, renew)?;
            if change.is_some() {
                plan.touch(Some(zone), &of_zone(registry, zone));
            }
            Ok(change)
        }
        Key::Pause(what) => {
            let is = config.pauses().get(what);
            set_back(parsed, is, touched, |pause: StoredPause| pause)
        }
        Key::Limits => {
            let revision = config.limits_revision();
            let is = (revision != Revision(0)).then(|| (revision, config.limits().clone()));
            set_back(parsed, is.as_ref(), touched, |limits: Limits| limits)
        }
        Key::Project(project) => {
            let is = registry.placed().projects().get(project);
            set_back(parsed.clone(), is, touched, |project: StoredProject| project)
        }
        Key::Assigned(_) => Err("it follows from what is placed".to_owned()),
        Key::Session(_) | Key::Endpoints(..) => {
            Err("a host comes back by itself, with its next session and report".to_owned())
        }
        _ => Err(format!("key {key} is nothing that is set")),
    }
}

/// The change to what was there before, while what is there is what the last action left.
fn set_back<T: Serialize + DeserializeOwned + Clone + PartialEq>(
    key: Key,
    is: Option<&(Revision, T)>,
    touched: &Touched<'_>,
    renew: impl FnOnce(T) -> T,
) -> Result<Option<Change>, String> {
    let same = match is {
        Some((revision, _)) => !touched.deleted && revision.0 == touched.last.generation.0,
        None => touched.deleted,
    };
    if !same {
        return Err("it was changed since, and not by what is in the history".to_owned());
    }
    let before: Option<T> = match touched.before {
        Some(value) => Some(
            T::deserialize(value).map_err(|error| format!("what was there is damaged: {error}"))?,
        ),
        None => None,
    };
    if before.as_ref() == is.map(|(_, value)| value) {
        return Ok(None);
    }
    let before = before.map(renew);
    Ok(Some(Change::new(key, is, before.as_ref())))
}
