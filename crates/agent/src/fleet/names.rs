//! The names of all services of the network, whether this host uses them or not.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sinew_model::{ServiceName, fleet::Generation};
use sinew_proto::Catalog;

use super::{
    doubts::Turn,
    list::{List, Taken},
};

/// All names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Names {
    generation: Generation,
    names: BTreeSet<ServiceName>,
    #[serde(skip)]
    list: List<ServiceName>,
}

impl Names {
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// What is known was told as of no generation that means anything.
    pub(super) fn begin_lineage(&mut self) {
        (self.generation, self.list) = (Generation(0), List::default());
    }

    pub(crate) fn all(&self) -> &BTreeSet<ServiceName> {
        &self.names
    }

    /// Those that may be gone.
    pub(super) fn doubts(&self) -> usize {
        self.list.doubts()
    }

    /// Takes a list of names, or a change of it.
    pub(super) fn take(&mut self, turn: &Turn, message: Catalog) -> Taken {
        let Catalog { from, to, added, mut removed } = message;
        if let Some(refused) = self.list.refuses(self.generation, from, to) {
            return refused;
        }
        self.generation = to;
        let mut doubted = 0;
        if from.is_none() {
            let told: BTreeSet<_> = added.iter().collect();
            let told = |name: &ServiceName| told.contains(name);
            let (gone, more) = self.list.absent(turn, self.names.iter(), told);
            removed.extend(gone);
            doubted = more;
        }
        let mut changed = false;
        for name in &removed {
            self.list.settled(name);
            changed |= self.names.remove(name);
        }
        for name in added {
            self.list.settled(&name);
            changed |= self.names.insert(name);
        }
        Taken::Applied { changed, doubted }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn list(from: Option<u64>, to: u64, added: &[&str], removed: &[&str]) -> Catalog {
        let names = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let from = from.map(Generation);
        Catalog { from, to: Generation(to), added: names(added), removed: names(removed) }
    }

    fn known(names: &Names) -> Vec<&str> {
        names.all().iter().map(ServiceName::as_str).collect()
    }

    /// What is known, and a clock.
    struct Told {
        names: Names,
        turn: Turn,
    }

    impl Told {
        fn new() -> Self {
            let (percent, interval) = (10, Duration::from_secs(10));
            let turn = Turn { now: Instant::now(), percent, interval, quiet: false };
            Self { names: Names::default(), turn }
        }

        fn take(&mut self, message: Catalog) -> Taken {
            self.names.take(&self.turn, message)
        }
    }

    fn applied(changed: bool, doubted: usize) -> Taken {
        Taken::Applied { changed, doubted }
    }

    #[test]
    fn changes_follow_a_list() {
        let mut told = Told::new();
        assert_eq!(told.take(list(None, 3, &["a", "b"], &[])), applied(true, 0));
        assert_eq!(told.take(list(Some(3), 4, &["c"], &["a"])), applied(true, 0));
        assert_eq!(told.take(list(Some(3), 5, &["d"], &[])), Taken::Gap);
        assert!(matches!(told.take(list(None, 2, &["x"], &[])), Taken::Older { .. }));
        assert_eq!(known(&told.names), ["b", "c"]);
        assert_eq!(told.take(list(None, 6, &["b", "c"], &[])), applied(false, 0));
        assert_eq!(told.take(list(None, 7, &["c"], &[])), applied(false, 1));
        told.turn.now += told.turn.interval;
        assert_eq!(told.take(list(None, 8, &["c"], &[])), applied(true, 0));
        assert_eq!(known(&told.names), ["c"]);
    }

    #[test]
    fn r2_an_empty_list_takes_no_name_away() {
        let mut told = Told::new();
        told.take(list(None, 3, &["a", "b", "c"], &[]));
        assert_eq!(told.take(list(None, 4, &["d"], &[])), applied(true, 3));
        assert_eq!(known(&told.names), ["a", "b", "c", "d"]);
    }

    #[test]
    fn r3_names_that_are_missing_an_interval_later_still_go_one_by_one() {
        let mut told = Told::new();
        told.take(list(None, 3, &["a", "b", "c"], &[]));
        told.take(list(None, 4, &["d"], &[]));
        for left in [3, 2, 1] {
            told.turn.now += told.turn.interval;
            assert_eq!(told.take(list(None, 4, &["d"], &[])), applied(true, 0));
            assert_eq!(told.names.all().len(), left);
        }
        assert_eq!((known(&told.names), told.names.doubts()), (vec!["d"], 0));
    }
}
