//! Which hosts there are, where their instances are reached, and which zones get less than their
//! share of calls.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sinew_model::{
    NodeName, ZoneName,
    fleet::{Generation, Host},
};
use sinew_proto as proto;

use super::{
    doubts::Turn,
    list::{List, Taken},
};

/// All hosts but this one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hosts {
    generation: Generation,
    hosts: BTreeMap<NodeName, Host>,
    #[serde(skip)]
    list: List<NodeName>,
    limited_at: Generation,
    limited: BTreeMap<ZoneName, u8>,
}

impl Hosts {
    /// Of the newest change.
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// What is known was told as of no generation that means anything.
    pub(super) fn begin_lineage(&mut self) {
        (self.generation, self.limited_at) = (Generation(0), Generation(0));
        self.list = List::default();
    }

    /// By name.
    pub(crate) fn all(&self) -> &BTreeMap<NodeName, Host> {
        &self.hosts
    }

    /// What zones get of their share, in percent, where that is less than all.
    pub(crate) fn limited(&self) -> &BTreeMap<ZoneName, u8> {
        &self.limited
    }

    /// Those that may be gone.
    pub(super) fn doubts(&self) -> usize {
        self.list.doubts()
    }

    /// Takes a list of hosts, or a change of it.
    pub(super) fn take(&mut self, turn: &Turn, message: proto::Hosts) -> Taken {
        let proto::Hosts { from, to, put, mut removed } = message;
        if let Some(refused) = self.list.refuses(self.generation, from, to) {
            return refused;
        }
        let before = self.hosts.clone();
        self.generation = to;
        let mut doubted = 0;
        if from.is_none() {
            let told = |node: &NodeName| put.contains_key(node);
            let (gone, more) = self.list.absent(turn, self.hosts.keys(), told);
            removed.extend(gone);
            doubted = more;
        }
        for node in &removed {
            self.hosts.remove(node);
            self.list.settled(node);
        }
        for (node, host) in put {
            // An address leads to one host: who is told of now has it.
            let list = &mut self.list;
            self.hosts.retain(|other, known| {
                let stays = *other == node || !collide(known, &host);
                if !stays {
                    list.settled(other);
                }
                stays
            });
            list.settled(&node);
            self.hosts.insert(node, host);
        }
        Taken::Applied { changed: self.hosts != before, doubted }
    }

    /// Takes the list of limited zones; says whether it changed.
    pub(crate) fn limit(&mut self, message: proto::Zones) -> bool {
        if message.generation < self.limited_at {
            return false;
        }
        self.limited_at = message.generation;
        let changed = self.limited != message.limited;
        self.limited = message.limited;
        changed
    }
}

/// Whether both give addresses of one slice.
fn collide(one: &Host, other: &Host) -> bool {
    let slices = |host: &Host| [host.instances4, host.instances6].into_iter().flatten();
    slices(one).any(|slice| slices(other).any(|of_other| slice.overlaps(&of_other)))
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        time::{Duration, Instant},
    };

    use super::*;

    fn name(number: u32) -> NodeName {
        format!("host-{number}").parse().unwrap()
    }

    fn host(number: u32) -> Host {
        Host {
            zone: "a".parse().unwrap(),
            address4: Some([192, 168, 0, number as u8].into()),
            address6: None,
            proven4: true,
            proven6: false,
            instances4: Some(format!("10.111.{number}.0/24").parse().unwrap()),
            instances6: None,
        }
    }

    fn list(from: Option<u64>, to: u64, numbers: impl IntoIterator<Item = u32>) -> proto::Hosts {
        proto::Hosts {
            from: from.map(Generation),
            to: Generation(to),
            put: numbers.into_iter().map(|n| (name(n), host(n))).collect(),
            removed: BTreeSet::new(),
        }
    }

    fn known(hosts: &Hosts) -> Vec<&str> {
        hosts.all().keys().map(NodeName::as_str).collect()
    }

    const SAME: Taken = Taken::Applied { changed: false, doubted: 0 };
    const CHANGED: Taken = Taken::Applied { changed: true, doubted: 0 };

    fn doubted(doubted: usize) -> Taken {
        Taken::Applied { changed: false, doubted }
    }

    /// What is known, and a clock.
    struct Told {
        hosts: Hosts,
        turn: Turn,
    }

    impl Told {
        fn new() -> Self {
            let (percent, interval) = (10, Duration::from_secs(10));
            let turn = Turn { now: Instant::now(), percent, interval, quiet: false };
            Self { hosts: Hosts::default(), turn }
        }

        fn take(&mut self, message: proto::Hosts) -> Taken {
            self.hosts.take(&self.turn, message)
        }

        fn pass(&mut self, seconds: u64) {
            self.turn.now += Duration::from_secs(seconds);
        }
    }

    #[test]
    fn changes_follow_a_list() {
        let mut told = Told::new();
        assert_eq!(told.take(list(Some(3), 4, [9])), Taken::Gap);
        assert_eq!(told.take(list(None, 5, [1, 2])), CHANGED);
        assert_eq!(told.take(list(Some(5), 6, [3])), CHANGED);
        assert_eq!(told.take(list(Some(6), 7, [3])), SAME);
        assert_eq!(known(&told.hosts), ["host-1", "host-2", "host-3"]);
        let removed = [name(2)].into();
        assert_eq!(told.take(proto::Hosts { removed, ..list(Some(7), 8, []) }), CHANGED);
        assert_eq!(known(&told.hosts), ["host-1", "host-3"]);
        assert_eq!(told.take(list(Some(7), 9, [4])), Taken::Gap);
    }

    /// A control plane that was restored from a backup counts from there, and what its numbers stood
    /// for before is of no meaning.
    #[test]
    fn what_is_older_is_told_once_and_ends_with_a_list_of_all() {
        let mut told = Told::new();
        told.take(list(None, 5, [1, 2]));
        let known = Generation(5);
        let older = |to, begins| Taken::Older { told: Generation(to), known, begins };
        assert_eq!(told.take(list(None, 3, [1])), older(3, true));
        assert_eq!(told.take(list(Some(3), 4, [9])), older(4, false));
        assert_eq!(told.take(list(Some(4), 5, [8])), older(5, false));
        assert_eq!(told.take(list(Some(5), 6, [7])), Taken::Gap);
        assert_eq!(told.take(list(None, 6, [1, 2, 7, 8, 9])), CHANGED);
        assert_eq!(told.take(list(Some(6), 7, [4])), CHANGED);
    }

    #[test]
    fn r2_an_empty_list_is_not_the_end_of_all_hosts() {
        let mut told = Told::new();
        told.take(list(None, 5, 1..=20));
        assert_eq!(told.take(list(None, 6, [])), doubted(20));
        assert_eq!(told.hosts.all().len(), 20);
        assert_eq!(told.take(list(None, 7, 1..=17)), doubted(0));
        assert_eq!(told.take(list(None, 8, 1..=18)), doubted(0));
        assert_eq!(told.hosts.all().len(), 20, "however few are missing");
        told.pass(10);
        assert_eq!(told.take(list(None, 9, 1..=18)), CHANGED);
        assert_eq!(told.hosts.all().len(), 18);
    }

    #[test]
    fn r3_what_is_missing_an_interval_later_still_goes_by_a_share_at_a_time() {
        let mut told = Told::new();
        told.take(list(None, 5, 1..=20));
        assert_eq!(told.take(list(None, 6, 1..=10)), doubted(10));
        assert_eq!(told.take(list(None, 6, 1..=10)), doubted(0));
        told.pass(10);
        assert_eq!(told.take(list(None, 6, 1..=10)), CHANGED);
        assert_eq!(told.hosts.all().len(), 18, "a tenth of twenty");
        assert_eq!(told.take(list(None, 6, 1..=10)), doubted(0), "once in an interval");
        let mut intervals = 0;
        while told.hosts.doubts() > 0 {
            told.pass(10);
            assert_eq!(told.take(list(None, 6, 1..=10)), CHANGED);
            intervals += 1;
        }
        assert_eq!((intervals, told.hosts.all().len()), (8, 10));
        // Who is told of again is in no doubt, and waits anew.
        told.take(list(None, 7, 1..=5));
        told.take(list(None, 7, 1..=10));
        told.pass(10);
        assert_eq!(told.take(list(None, 7, 1..=5)), doubted(5));
        // Before anybody knows what went just before this agent began, nothing does.
        told.pass(10);
        told.turn.quiet = true;
        assert_eq!(told.take(list(None, 7, 1..=5)), doubted(0));
    }

    #[test]
    fn a_slice_leads_to_the_host_that_was_told_last() {
        let mut told = Told::new();
        told.take(list(None, 5, [1, 2]));
        let mut moved = list(Some(5), 6, []);
        moved.put.insert(name(7), host(2));
        assert_eq!(told.take(moved), CHANGED);
        assert_eq!(known(&told.hosts), ["host-1", "host-7"]);
    }

    #[test]
    fn limited_zones_are_replaced_and_never_by_older_ones() {
        let mut hosts = Hosts::default();
        let zones = |generation, percent| proto::Zones {
            generation: Generation(generation),
            limited: [("a".parse().unwrap(), percent)].into(),
        };
        assert!(hosts.limit(zones(3, 0)));
        assert!(!hosts.limit(zones(4, 0)));
        assert!(!hosts.limit(zones(3, 50)));
        assert_eq!(hosts.limited().values().copied().collect::<Vec<_>>(), [0]);
        let none = proto::Zones { generation: Generation(5), limited: BTreeMap::new() };
        assert!(hosts.limit(none) && hosts.limited().is_empty());
    }
}
