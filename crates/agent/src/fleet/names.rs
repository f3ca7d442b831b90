//! The names of all services of the network, whether this host uses them or not.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sinew_model::{ServiceName, fleet::Generation};
use sinew_proto::Catalog;

use super::hosts::Taken;

/// Of a list of all names at most this share goes for being absent from it, and at least one.
const ABSENT_PERCENT: usize = 10;

/// All names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Names {
    generation: Generation,
    names: BTreeSet<ServiceName>,
}

impl Names {
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    pub(crate) fn all(&self) -> &BTreeSet<ServiceName> {
        &self.names
    }

    /// Takes a list of names, or a change of it. Of a list that is suddenly short nothing goes.
    pub(crate) fn take(&mut self, message: Catalog) -> Taken {
        let Catalog { from, to, added, removed } = message;
        match from {
            Some(from) if from != self.generation => return Taken::Gap,
            None if to < self.generation => return Taken::Same,
            _ => {}
        }
        self.generation = to;
        let before = self.names.len();
        if from.is_none() {
            let told: BTreeSet<_> = added.iter().cloned().collect();
            let absent = self.names.difference(&told).count();
            if absent > 1.max(before * ABSENT_PERCENT / 100) {
                self.names.extend(told);
                return Taken::Doubted(absent);
            }
            let changed = absent > 0 || told.len() != before;
            self.names = told;
            return if changed { Taken::Changed } else { Taken::Same };
        }
        let mut changed = false;
        removed.iter().for_each(|name| changed |= self.names.remove(name));
        added.into_iter().for_each(|name| changed |= self.names.insert(name));
        if changed { Taken::Changed } else { Taken::Same }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(from: Option<u64>, to: u64, added: &[&str], removed: &[&str]) -> Catalog {
        let names = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let from = from.map(Generation);
        Catalog { from, to: Generation(to), added: names(added), removed: names(removed) }
    }

    fn known(names: &Names) -> Vec<&str> {
        names.all().iter().map(ServiceName::as_str).collect()
    }

    #[test]
    fn changes_follow_a_list() {
        let mut names = Names::default();
        assert_eq!(names.take(list(None, 3, &["a", "b"], &[])), Taken::Changed);
        assert_eq!(names.take(list(Some(3), 4, &["c"], &["a"])), Taken::Changed);
        assert_eq!(names.take(list(Some(3), 5, &["d"], &[])), Taken::Gap);
        assert_eq!(names.take(list(None, 2, &["x"], &[])), Taken::Same);
        assert_eq!(known(&names), ["b", "c"]);
        assert_eq!(names.take(list(None, 6, &["b", "c"], &[])), Taken::Same);
        assert_eq!(names.take(list(None, 7, &["c"], &[])), Taken::Changed);
        assert_eq!(known(&names), ["c"]);
    }

    #[test]
    fn r2_an_empty_list_takes_no_name_away() {
        let mut names = Names::default();
        names.take(list(None, 3, &["a", "b", "c"], &[]));
        assert_eq!(names.take(list(None, 4, &["d"], &[])), Taken::Doubted(3));
        assert_eq!(known(&names), ["a", "b", "c", "d"]);
    }
}
