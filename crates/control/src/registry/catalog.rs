//! Which services there are, and which lately went.

use std::collections::{BTreeMap, BTreeSet};

use sinew_model::{ServiceName, fleet::Generation};
use sinew_proto::Catalog;

/// Names that went and are remembered: who was told longer ago gets all names.
const GONE: usize = 1024;

/// Names, and when each came or went.
#[derive(Debug, Default)]
pub(super) struct Names {
    generation: Generation,
    /// What went before it is forgotten.
    floor: Generation,
    there: BTreeSet<ServiceName>,
    /// The newest change of each name.
    changes: BTreeMap<Generation, BTreeSet<ServiceName>>,
    at: BTreeMap<ServiceName, Generation>,
}

impl Names {
    /// Whether that is news.
    pub(super) fn set(&mut self, name: &ServiceName, there: bool, now: Generation) -> bool {
        let news = if there { self.there.insert(name.clone()) } else { self.there.remove(name) };
        if !news {
            return false;
        }
        self.unmark(name);
        self.changes.entry(now).or_default().insert(name.clone());
        self.at.insert(name.clone(), now);
        self.generation = self.generation.max(now);
        if self.at.len() > self.there.len() + GONE {
            self.forget_oldest();
        }
        true
    }

    pub(super) fn count(&self) -> usize {
        self.there.len()
    }

    /// What was told before cannot be brought up to date.
    pub(super) fn forget_before(&mut self, floor: Generation) {
        (self.floor, self.generation) = (self.floor.max(floor), self.generation.max(floor));
    }

    fn unmark(&mut self, name: &ServiceName) {
        let Some(generation) = self.at.remove(name) else { return };
        let Some(names) = self.changes.get_mut(&generation) else { return };
        names.remove(name);
        if names.is_empty() {
            self.changes.remove(&generation);
        }
    }

    /// Forgets the name that went longest ago.
    fn forget_oldest(&mut self) {
        let mut all =
            self.changes.iter().flat_map(|(at, names)| names.iter().map(move |it| (at, it)));
        let oldest = all.find(|(_, name)| !self.there.contains(*name));
        if let Some((&at, name)) = oldest.map(|(at, name)| (at, name.clone())) {
            self.unmark(&name);
            self.floor = self.floor.max(at);
        }
    }

    pub(super) fn since(&self, since: Option<Generation>) -> Option<Catalog> {
        let since = since.filter(|since| (self.floor..=self.generation).contains(since));
        let Some(from) = since else {
            let added = self.there.iter().cloned().collect();
            return Some(Catalog { from: None, to: self.generation, added, removed: Vec::new() });
        };
        let later = self.changes.range(Generation(from.0.saturating_add(1))..);
        let later = later.flat_map(|(_, names)| names).cloned();
        let (added, removed): (Vec<_>, _) = later.partition(|name| self.there.contains(name));
        let news = !added.is_empty() || !removed.is_empty();
        news.then_some(Catalog { from: Some(from), to: self.generation, added, removed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_told_long_ago_gets_all_names() {
        let name = |n: u64| ServiceName::new(format!("s{n}")).unwrap();
        let mut names = Names::default();
        names.set(&name(0), true, Generation(1));
        for n in 1..=1100 {
            names.set(&name(n), true, Generation(2 * n));
            names.set(&name(n), false, Generation(2 * n + 1));
        }
        assert_eq!(names.at.len(), 1025);
        let all = names.since(Some(Generation(100))).unwrap();
        assert_eq!((all.from, all.added), (None, vec![name(0)]));
        let some = names.since(Some(Generation(2199))).unwrap();
        assert_eq!((some.from, some.removed), (Some(Generation(2199)), vec![name(1100)]));
        assert_eq!(names.since(Some(some.to)), None);
    }
}
