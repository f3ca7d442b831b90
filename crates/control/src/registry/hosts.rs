//! Which hosts there are, how each was known last, and which slices of the instance networks they
//! have.

use std::collections::{BTreeMap, BTreeSet};

use sinew_model::{
    NodeName,
    fleet::{Generation, Host},
};
use sinew_proto::Hosts as Told;

use crate::{
    records::{Poison, StoredNetworks, StoredNode, StoredSlice, read},
    store::Revision,
};

/// Hosts that went and are remembered: who was told longer ago gets all.
const GONE: usize = 1024;

/// Hosts, and when each came, changed or went.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    generation: Generation,
    /// What went before it is forgotten.
    floor: Generation,
    all: BTreeMap<NodeName, (Revision, Option<StoredNode>)>,
    /// The newest change of each.
    changes: BTreeMap<Generation, BTreeSet<NodeName>>,
    at: BTreeMap<NodeName, Generation>,
    /// What others were told may have changed in the revision that is being taken.
    touched: BTreeMap<NodeName, Option<Host>>,
}

impl Hosts {
    pub(super) fn put(
        &mut self,
        node: NodeName,
        revision: Revision,
        value: Option<&[u8]>,
    ) -> Result<(), Poison> {
        self.touched.entry(node.clone()).or_insert_with(|| {
            let (_, known) = self.all.get(&node)?;
            known.as_ref().map(StoredNode::host)
        });
        let Some(value) = value else {
            self.all.remove(&node);
            return Ok(());
        };
        let held = self.all.entry(node).or_default();
        held.0 = revision;
        held.1 = Some(read(value)?);
        Ok(())
    }

    /// Numbers what changed in a revision. Answers whether something did.
    pub(super) fn settle(&mut self, now: Generation) -> bool {
        let mut changed = false;
        for (node, before) in std::mem::take(&mut self.touched) {
            if self.get(&node).1.map(StoredNode::host) == before {
                continue;
            }
            self.unmark(&node);
            self.changes.entry(now).or_default().insert(node.clone());
            self.at.insert(node, now);
            self.generation = self.generation.max(now);
            changed = true;
        }
        while self.at.len() > self.all.len() + GONE && self.forget_oldest() {}
        changed
    }

    /// What was told before cannot be brought up to date.
    pub(super) fn forget_before(&mut self, floor: Generation) {
        (self.floor, self.generation) = (self.floor.max(floor), self.generation.max(floor));
    }

    fn unmark(&mut self, node: &NodeName) {
        let Some(generation) = self.at.remove(node) else { return };
        let Some(nodes) = self.changes.get_mut(&generation) else { return };
        nodes.remove(node);
        if nodes.is_empty() {
            self.changes.remove(&generation);
        }
    }

    /// Forgets the host that went longest ago.
    fn forget_oldest(&mut self) -> bool {
        let mut all =
            self.changes.iter().flat_map(|(at, nodes)| nodes.iter().map(move |it| (at, it)));
        let oldest = all.find(|(_, node)| !self.all.contains_key(*node));
        let Some((at, node)) = oldest.map(|(at, node)| (*at, node.clone())) else { return false };
        self.unmark(&node);
        self.floor = self.floor.max(at);
        true
    }

    pub(super) fn since(&self, since: Option<Generation>) -> Option<Told> {
        let there = |node: &NodeName| self.get(node).1.map(StoredNode::host);
        let since = since.filter(|since| (self.floor..=self.generation).contains(since));
        let Some(from) = since else {
            let put = self.all.keys().filter_map(|node| Some((node.clone(), there(node)?)));
            let (put, removed) = (put.collect(), BTreeSet::new());
            return Some(Told { from: None, to: self.generation, put, removed });
        };
        let mut told =
            Told { from: Some(from), to: self.generation, put: [].into(), removed: [].into() };
        let later = self.changes.range(Generation(from.0.saturating_add(1))..);
        for node in later.flat_map(|(_, nodes)| nodes) {
            match there(node) {
                Some(host) => drop(told.put.insert(node.clone(), host)),
                None => drop(told.removed.insert(node.clone())),
            }
        }
        (!told.put.is_empty() || !told.removed.is_empty()).then_some(told)
    }

    pub(super) fn get(&self, node: &NodeName) -> (Revision, Option<&StoredNode>) {
        let found = self.all.get(node);
        found.map_or((Revision(0), None), |(revision, stored)| (*revision, stored.as_ref()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeName, &StoredNode)> {
        self.all.iter().filter_map(|(node, (_, stored))| Some((node, stored.as_ref()?)))
    }
}

/// Who has which slice of the instance networks.
#[derive(Debug, Default)]
pub(super) struct Slices {
    networks: Option<(Revision, StoredNetworks)>,
    of: BTreeMap<u32, (NodeName, Revision)>,
    /// Those that were given, and are not: by what revision, and since when.
    free: BTreeMap<u32, (Revision, u64)>,
    by_node: BTreeMap<NodeName, u32>,
    /// Those that are about to be written here: sessions that open at once do not want the same.
    reserved: BTreeMap<u32, NodeName>,
}

/// A host's place in the instance networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its number.
    pub index: u32,
    /// Whether it is the host's by the store.
    pub given: bool,
    /// The revision that put what the store has of it; 0: it was never given.
    pub revision: Revision,
}

impl Slices {
    pub(super) fn put_networks(
        &mut self,
        revision: Revision,
        value: Option<&[u8]>,
    ) -> Result<(), Poison> {
        let networks = value.map(read).transpose()?;
        self.networks = networks.map(|networks| (revision, networks));
        Ok(())
    }

    pub(super) fn put(
        &mut self,
        index: u32,
        revision: Revision,
        value: Option<&[u8]>,
    ) -> Result<(), Poison> {
        self.reserved.remove(&index);
        let slice: Option<StoredSlice> = value.map(read).transpose()?;
        self.free.remove(&index);
        let before = self.of.remove(&index);
        if let Some((before, _)) = before {
            self.by_node.remove(&before);
        }
        match slice {
            Some(StoredSlice::Given(node)) => {
                self.by_node.insert(node.clone(), index);
                self.of.insert(index, (node, revision));
            }
            Some(StoredSlice::Free { since_ms, .. }) => {
                self.free.insert(index, (revision, since_ms));
            }
            None => (),
        }
        Ok(())
    }

    /// How many nobody else can have now.
    pub(super) fn taken(&self, free_before_ms: u64) -> usize {
        let resting = self.free.values().filter(|(_, since_ms)| *since_ms > free_before_ms);
        self.of.len() + resting.count()
    }

    /// The slice that a host has by the store.
    pub(super) fn given(&self, node: &NodeName) -> Option<Slice> {
        let index = *self.by_node.get(node)?;
        let revision = self.of.get(&index)?.1;
        Some(Slice { index, given: true, revision })
    }

    pub(super) const fn networks(&self) -> Option<&(Revision, StoredNetworks)> {
        self.networks.as_ref()
    }

    /// The slice of a host, or the lowest that nobody has, and had after that time, for it alone.
    pub(super) fn of(&mut self, node: &NodeName, free_before_ms: u64) -> Option<Slice> {
        if let Some(given) = self.given(node) {
            return Some(given);
        }
        let reserved = self.reserved.iter().find(|(_, by)| *by == node).map(|(index, _)| *index);
        let rested = |index: &u32| {
            self.free.get(index).is_none_or(|(_, since_ms)| *since_ms <= free_before_ms)
        };
        let free = |index: &u32| {
            !self.of.contains_key(index) && !self.reserved.contains_key(index) && rested(index)
        };
        let index = match reserved {
            Some(index) => index,
            None => (0..=u32::MAX).find(free)?,
        };
        self.reserved.insert(index, node.clone());
        let revision = self.free.get(&index).map_or(Revision(0), |(revision, _)| *revision);
        Some(Slice { index, given: false, revision })
    }

    /// What was reserved for a host is not going to be written.
    pub(super) fn release(&mut self, node: &NodeName) {
        self.reserved.retain(|_, by| by != node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u64) -> NodeName {
        NodeName::new(format!("n{n}")).unwrap()
    }

    fn node(last: u8, version: &str) -> Vec<u8> {
        let node = StoredNode {
            zone: "a".parse().unwrap(),
            labels: [].into(),
            capacity: sinew_model::fleet::Resources::default(),
            version: version.to_owned(),
            protocol: 1,
            boot_id: "b".to_owned(),
            address4: Some([10, 0, 0, last].into()),
            address6: None,
            proven4: false,
            proven6: false,
            instances4: None,
            instances6: None,
            first_seen_ms: 0,
        };
        serde_json::to_vec(&node).unwrap()
    }

    #[test]
    fn hosts_are_told_as_they_change_and_what_others_do_not_see_is_no_change() {
        let mut hosts = Hosts::default();
        let mut put = |n: u64, value: Option<Vec<u8>>, revision: u64| {
            hosts.put(name(n), Revision(revision), value.as_deref()).unwrap();
            let changed = hosts.settle(Generation(revision));
            (changed, hosts.since(Some(Generation(revision - 1))), hosts.since(None).unwrap())
        };
        let (changed, _, all) = put(1, Some(node(1, "0.1")), 2);
        assert!(changed && all.put.len() == 1 && all.to == Generation(2));
        let (changed, delta, _) = put(1, Some(node(1, "0.2")), 3);
        assert!(!changed && delta.is_none());
        let (changed, delta, _) = put(1, Some(node(9, "0.2")), 4);
        assert!(changed);
        assert_eq!(delta.unwrap().put[&name(1)].address4, Some([10, 0, 0, 9].into()));
        let (_, delta, all) = put(1, None, 5);
        assert_eq!((delta.unwrap().removed.len(), all.put.len()), (1, 0));
    }

    #[test]
    fn who_was_told_long_ago_gets_all_hosts() {
        let mut hosts = Hosts::default();
        for n in 1..=1100 {
            hosts.put(name(n), Revision(2 * n), Some(&node(1, ""))).unwrap();
            hosts.settle(Generation(2 * n));
            hosts.put(name(n), Revision(2 * n + 1), None).unwrap();
            hosts.settle(Generation(2 * n + 1));
        }
        assert_eq!(hosts.at.len(), 1024);
        assert_eq!(hosts.since(Some(Generation(20))).unwrap().from, None);
        let late = hosts.since(Some(Generation(2199))).unwrap();
        assert_eq!((late.from, late.removed.len()), (Some(Generation(2199)), 1));
    }

    #[test]
    fn slices_are_reserved_for_one_host_and_stay_its_own() {
        let mut slices = Slices::default();
        let given = |n: u64| serde_json::to_vec(&StoredSlice::Given(name(n))).unwrap();
        slices.put(0, Revision(2), Some(&given(7))).unwrap();
        let index = |slices: &mut Slices, n: u64| {
            let slice = slices.of(&name(n), 0).unwrap();
            (slice.index, slice.given)
        };
        assert_eq!(index(&mut slices, 7), (0, true));
        assert_eq!(index(&mut slices, 1), (1, false));
        assert_eq!(index(&mut slices, 2), (2, false));
        assert_eq!(index(&mut slices, 1), (1, false));
        // Another replica was faster.
        slices.put(1, Revision(3), Some(&given(3))).unwrap();
        assert_eq!(index(&mut slices, 1), (3, false));
        slices.release(&name(2));
        assert_eq!(index(&mut slices, 4), (2, false));
        slices.put(3, Revision(4), Some(&given(1))).unwrap();
        assert_eq!(index(&mut slices, 1), (3, true));
    }

    #[test]
    fn a_slice_that_was_given_back_rests_and_is_the_lowest_then() {
        let mut slices = Slices::default();
        let json = |slice: StoredSlice| serde_json::to_vec(&slice).unwrap();
        for n in 0..3 {
            let given = json(StoredSlice::Given(name(n.into())));
            slices.put(n, Revision(n.into()), Some(&given)).unwrap();
        }
        let free = json(StoredSlice::Free { last: name(1), since_ms: 1000 });
        slices.put(1, Revision(9), Some(&free)).unwrap();
        assert_eq!((slices.given(&name(1)), slices.taken(999), slices.taken(1000)), (None, 3, 2));
        assert_eq!(slices.of(&name(4), 999).unwrap().index, 3);
        slices.release(&name(4));
        let slice = Slice { index: 1, given: false, revision: Revision(9) };
        assert_eq!(slices.of(&name(4), 1000), Some(slice), "compared with what is there");
    }
}
