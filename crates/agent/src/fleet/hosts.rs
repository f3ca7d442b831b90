//! Which hosts there are, where their instances are reached, and which zones get less than their
//! share of calls.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use sinew_model::{
    NodeName, ZoneName,
    fleet::{Generation, Host},
};
use sinew_proto as proto;

/// Of a list of all hosts at most this share is gone for being absent from it, and at least one: a
/// list may be short by mistake.
const ABSENT_PERCENT: usize = 10;

/// All hosts but this one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hosts {
    generation: Generation,
    hosts: BTreeMap<NodeName, Host>,
    limited_at: Generation,
    limited: BTreeMap<ZoneName, u8>,
}

/// What came of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// What is known is as it was.
    Same,
    /// It is not.
    Changed,
    /// So many hosts are absent from a list of all without a word, and stay.
    Doubted(usize),
    /// It is about a change of something that is not known: all is to be told again.
    Gap,
}

impl Hosts {
    /// Of the newest change.
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// By name.
    pub(crate) fn all(&self) -> &BTreeMap<NodeName, Host> {
        &self.hosts
    }

    /// What zones get of their share, in percent, where that is less than all.
    pub(crate) fn limited(&self) -> &BTreeMap<ZoneName, u8> {
        &self.limited
    }

    /// Takes a list of hosts, or a change of it.
    pub(crate) fn take(&mut self, message: proto::Hosts) -> Taken {
        let before = self.hosts.clone();
        let proto::Hosts { from, to, put, removed } = message;
        match from {
            Some(from) if from != self.generation => return Taken::Gap,
            None if to < self.generation => return Taken::Same,
            _ => {}
        }
        self.generation = to;
        let absent: BTreeSet<NodeName> = match from {
            Some(_) => BTreeSet::new(),
            None => self.hosts.keys().filter(|node| !put.contains_key(*node)).cloned().collect(),
        };
        let doubted = absent.len() > 1.max(self.hosts.len() * ABSENT_PERCENT / 100);
        let gone = removed.iter().chain(absent.iter().filter(|_| !doubted));
        gone.for_each(|node| drop(self.hosts.remove(node)));
        for (node, host) in put {
            // An address leads to one host: who is told of now has it.
            self.hosts.retain(|other, known| *other == node || !collide(known, &host));
            self.hosts.insert(node, host);
        }
        match self.hosts == before {
            _ if doubted => Taken::Doubted(absent.len()),
            true => Taken::Same,
            false => Taken::Changed,
        }
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
    use super::*;

    fn name(number: u32) -> NodeName {
        format!("host-{number}").parse().unwrap()
    }

    fn host(number: u32) -> Host {
        Host {
            zone: "a".parse().unwrap(),
            address4: Some([192, 168, 0, number as u8].into()),
            address6: None,
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

    #[test]
    fn changes_follow_a_list() {
        let mut hosts = Hosts::default();
        assert_eq!(hosts.take(list(Some(3), 4, [9])), Taken::Gap);
        assert_eq!(hosts.take(list(None, 5, [1, 2])), Taken::Changed);
        assert_eq!(hosts.take(list(Some(5), 6, [3])), Taken::Changed);
        assert_eq!(hosts.take(list(Some(6), 7, [3])), Taken::Same);
        assert_eq!(known(&hosts), ["host-1", "host-2", "host-3"]);
        let removed = [name(2)].into();
        assert_eq!(hosts.take(proto::Hosts { removed, ..list(Some(7), 8, []) }), Taken::Changed);
        assert_eq!(known(&hosts), ["host-1", "host-3"]);
        assert_eq!(hosts.take(list(Some(7), 9, [4])), Taken::Gap);
        // Of a replica that is behind.
        assert_eq!(hosts.take(list(None, 4, [9])), Taken::Same);
        assert_eq!(known(&hosts), ["host-1", "host-3"]);
    }

    #[test]
    fn r2_an_empty_list_is_not_the_end_of_all_hosts() {
        let mut hosts = Hosts::default();
        hosts.take(list(None, 5, 1..=20));
        assert_eq!(hosts.take(list(None, 6, [])), Taken::Doubted(20));
        assert_eq!(hosts.all().len(), 20);
        assert_eq!(hosts.take(list(None, 7, 1..=17)), Taken::Doubted(3));
        assert_eq!(hosts.take(list(None, 8, 1..=18)), Taken::Changed);
        assert_eq!(hosts.all().len(), 18);
    }

    #[test]
    fn a_slice_leads_to_the_host_that_was_told_last() {
        let mut hosts = Hosts::default();
        hosts.take(list(None, 5, [1, 2]));
        let mut moved = list(Some(5), 6, []);
        moved.put.insert(name(7), host(2));
        assert_eq!(hosts.take(moved), Taken::Changed);
        assert_eq!(known(&hosts), ["host-1", "host-7"]);
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
