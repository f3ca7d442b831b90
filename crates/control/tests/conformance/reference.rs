//! A plain model of the semantics: every revision is a whole map.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sinew_control::store::{Batch, Entry, Event, LeaseId, Revision, Span};

/// What a random test does.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Compare, then change.
    Commit(Guard, Vec<Step>, Vec<Step>),
    Grant,
    /// The n-th lease that was granted.
    Revoke(usize),
    /// That many revisions before the newest.
    Compact(u64),
}

/// A comparison of a key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Guard {
    None,
    Absent(u8),
    VersionAbove(u8, u64),
    Value(u8, u8),
}

/// One change.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Put(u8, u8),
    PutUnder(u8, u8, usize),
    Delete(u8),
    DeleteFrom(u8),
}

#[derive(Clone, Default)]
pub(crate) struct Reference {
    /// The first is revision 1.
    states: Vec<BTreeMap<Bytes, Entry>>,
    events: Vec<Batch>,
    /// By number; none when it has ended.
    pub(crate) leases: Vec<Option<LeaseId>>,
    pub(crate) compacted: u64,
}

pub(crate) fn key(number: u8) -> Bytes {
    format!("k/{number:02}").into()
}

pub(crate) fn value(number: u8) -> Bytes {
    vec![b'v'; number.into()].into()
}

/// A transaction changes a key once: the first step wins.
pub(crate) fn distinct(steps: &[Step]) -> Vec<Step> {
    let mut taken = BTreeSet::new();
    let mut from = u8::MAX;
    let mut distinct = Vec::new();
    for &step in steps {
        let fits = match step {
            Step::Put(key, _) | Step::PutUnder(key, ..) => key < from && taken.insert(key),
            Step::Delete(key) => !taken.contains(&key),
            Step::DeleteFrom(key) => taken.iter().all(|&taken| taken < key),
        };
        if fits {
            match step {
                Step::DeleteFrom(key) => from = from.min(key),
                Step::Delete(key) => drop(taken.insert(key)),
                Step::Put(..) | Step::PutUnder(..) => {}
            }
            distinct.push(step);
        }
    }
    distinct
}

impl Reference {
    pub(crate) fn new() -> Self {
        Self { states: vec![BTreeMap::new()], ..Self::default() }
    }

    pub(crate) fn revision(&self) -> Revision {
        Revision(self.states.len() as u64)
    }

    pub(crate) fn at(&self, revision: Revision, span: &Span) -> Vec<Entry> {
        let state = &self.states[usize::try_from(revision.0).unwrap() - 1];
        state.values().filter(|entry| span.contains(&entry.key)).cloned().collect()
    }

    /// What a watch tells.
    pub(crate) fn since(&self, from: Revision, span: &Span) -> Vec<Batch> {
        let later = self.events.iter().filter(|batch| batch.revision >= from);
        let watched = later.map(|batch| Batch {
            revision: batch.revision,
            events: batch.events.iter().filter(|e| span.contains(e.key())).cloned().collect(),
        });
        watched.filter(|batch| !batch.events.is_empty()).collect()
    }

    pub(crate) fn holds(&self, guard: Guard) -> bool {
        let now = self.states.last().unwrap();
        match guard {
            Guard::None => true,
            Guard::Absent(of) => !now.contains_key(&key(of)),
            Guard::VersionAbove(of, than) => now.get(&key(of)).map_or(0, |e| e.version) > than,
            Guard::Value(of, is) => now.get(&key(of)).is_some_and(|e| e.value == value(is)),
        }
    }

    /// Whether it is taken: a put under an ended lease is not.
    pub(crate) fn commit(&mut self, steps: &[Step]) -> bool {
        let ended = |lease: &usize| self.leases.get(*lease).copied().flatten().is_none();
        let refused = |step: &Step| matches!(step, Step::PutUnder(_, _, lease) if ended(lease));
        if steps.iter().any(refused) {
            return false;
        }
        let mut state = self.states.last().unwrap().clone();
        let mut events = Vec::new();
        let next = self.revision().next();
        for &step in steps {
            let deleted: Vec<Bytes> = match step {
                Step::Put(of, is) => {
                    events.push(Event::Put(put(&mut state, next, key(of), value(is), None)));
                    continue;
                }
                Step::PutUnder(of, is, lease) => {
                    let lease = self.leases[lease];
                    events.push(Event::Put(put(&mut state, next, key(of), value(is), lease)));
                    continue;
                }
                Step::Delete(of) => vec![key(of)],
                Step::DeleteFrom(of) => state.range(key(of)..).map(|(k, _)| k.clone()).collect(),
            };
            events.extend(
                deleted
                    .into_iter()
                    .filter_map(|key| state.remove(&key).map(|_| Event::Delete(key))),
            );
        }
        self.push(state, events);
        true
    }

    pub(crate) fn revoke(&mut self, number: usize) -> Option<LeaseId> {
        let lease = self.leases.get_mut(number)?.take()?;
        let mut state = self.states.last().unwrap().clone();
        let of_lease = |entry: &Entry| entry.lease == Some(lease);
        let keys = state.values().filter(|entry| of_lease(entry)).map(|entry| entry.key.clone());
        let events = keys.map(Event::Delete).collect();
        state.retain(|_, entry| !of_lease(entry));
        self.push(state, events);
        Some(lease)
    }

    fn push(&mut self, state: BTreeMap<Bytes, Entry>, events: Vec<Event>) {
        if !events.is_empty() {
            self.states.push(state);
            self.events.push(Batch { revision: self.revision(), events });
        }
    }
}

fn put(
    state: &mut BTreeMap<Bytes, Entry>,
    next: Revision,
    key: Bytes,
    value: Bytes,
    lease: Option<LeaseId>,
) -> Entry {
    let before = state.get(&key);
    let entry = Entry {
        create_revision: before.map_or(next, |entry| entry.create_revision),
        mod_revision: next,
        version: before.map_or(0, |entry| entry.version) + 1,
        key: key.clone(),
        value,
        lease,
    };
    state.insert(key, entry.clone());
    entry
}
