//! What was done, by the duty and by people: one entry an action, written with what it does, so that
//! there is none without the other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sinew_model::fleet::Generation;

use super::plan::{Plan, Radius, Rule};
use crate::{
    records::{self, Key, Poison, write as encode},
    registry::Registry,
    session::{Now, milliseconds},
    store::{Compare, Entry as Stored, Op, Revision, Span, Transaction},
};

/// Entries that are kept.
pub const KEPT: usize = 10_000;
/// Bytes of all of them: whoever lists the store reads them, and what is kept of it in memory is to be
/// the greater part. One entry is no larger than a transaction.
pub const KEPT_BYTES: usize = 32 << 20;
/// Older ones are deleted so many at once,
const SLACK: usize = 100;
/// or so many bytes.
const SLACK_BYTES: usize = 1 << 20;

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// When, as the clock of who did it shows; milliseconds since 1970.
    pub when_ms: u64,
    /// Who.
    pub who: String,
    /// Why.
    pub rule: Rule,
    /// The same in words.
    pub words: String,
    /// What it went by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
    /// What was known when it was decided.
    pub computed_from: Generation,
    /// The generation of the duty that did it; none for what a person did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duty: Option<Generation>,
    /// What it changed.
    pub diff: Vec<Diff>,
    /// Whom it touched.
    #[serde(default, skip_serializing_if = "Radius::is_empty")]
    pub radius: Radius,
}

/// A key that was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diff {
    /// Which.
    pub key: String,
    /// What was there; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What is there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// An action in the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The revision in which it was done.
    pub generation: Generation,
    /// What was done.
    #[serde(flatten)]
    pub action: Action,
}

impl Action {
    /// A plan that is carried out.
    #[must_use]
    pub fn of(plan: &Plan, who: &str, now: Now, duty: Option<Revision>) -> Self {
        let diff = plan.changes.iter().map(|change| Diff {
            key: String::from_utf8_lossy(&change.key.bytes()).into_owned(),
            before: change.before.clone(),
            after: change.after.clone(),
        });
        Self {
            when_ms: milliseconds(now.wall),
            who: who.to_owned(),
            rule: plan.rule,
            words: plan.words.clone(),
            inputs: plan.inputs.clone(),
            computed_from: plan.generation,
            duty: duty.map(|revision| Generation(revision.0)),
            diff: diff.collect(),
            radius: plan.radius.clone(),
        }
    }
}

/// A plan with its entry. Done by the duty only while that is of the generation `duty`.
#[must_use]
pub fn recorded(plan: &Plan, who: &str, now: Now, duty: Option<Revision>) -> Transaction {
    // Whatever is done advances the revision, so that no two are computed from the same and done.
    let key = Key::History(plan.generation.0).bytes();
    let action = encode(&Action::of(plan, who, now, duty));
    let all = plan.transaction().when(Compare::absent(key.clone())).then(Op::put(key, action));
    fenced(all, duty)
}

/// Only while the duty is of that generation.
#[must_use]
pub fn fenced(transaction: Transaction, duty: Option<Revision>) -> Transaction {
    match duty {
        Some(revision) => transaction.when(Compare::unchanged(Key::Lead.bytes(), revision)),
        None => transaction,
    }
}

/// Reads an entry.
///
/// # Errors
/// When it is none.
pub fn read(stored: &Stored) -> Result<Entry, Poison> {
    let action = records::read(&stored.value)?;
    Ok(Entry { generation: Generation(stored.mod_revision.0), action })
}

/// Deletes the oldest entries when there are too many, or they are too large.
pub(super) fn prune(registry: &Registry) -> Option<Transaction> {
    let config = registry.config();
    let history = config.history();
    let (mut left, mut bytes) = (history.len(), config.history_bytes());
    if left < KEPT + SLACK && bytes < KEPT_BYTES + SLACK_BYTES {
        return None;
    }
    let first = *history.first_key_value()?.0;
    let mut kept = first;
    for (id, record) in history {
        kept = *id;
        // The newest stays, whatever its size.
        if left == 1 || (left <= KEPT && bytes <= KEPT_BYTES) {
            break;
        }
        (left, bytes) = (left - 1, bytes - record.bytes);
    }
    let span = Span::range(Key::History(first).bytes(), Key::History(kept).bytes());
    Some(Transaction::new().then(Op::Delete(span)))
}
