//! Slots of the kernel's draws. A share of calls that leaves a zone takes many of them; when they are
//! short, services get by with one slot a backend, for which there is room for all backends.

use std::collections::{BTreeMap, BTreeSet};

use sinew_abi::capacity;
use sinew_datapath::{Service, ServicePort};
use sinew_model::ServiceName;

use super::Core;

/// Up to this share of the slots, services get as many as they like.
const FINE_PERCENT: u64 = 80;
/// Below this share, those that got by with less are looked at again.
const RELIEVED_PERCENT: u64 = 60;

#[derive(Debug, Default)]
pub(super) struct Slots {
    of: BTreeMap<u32, u64>,
    all: u64,
    /// Services that get by with one a backend.
    coarse: BTreeSet<ServiceName>,
}

impl Slots {
    /// Whether a service gets as many as it likes.
    pub(super) fn has_room_for(&self, service: &Service) -> bool {
        let before = self.of.get(&service.id).copied().unwrap_or(0);
        let after = self.all - before + slots(service);
        after * 100 <= u64::from(capacity::SLOTS) * FINE_PERCENT
    }

    pub(super) fn note_coarse(&mut self, name: &ServiceName) {
        self.coarse.insert(name.clone());
    }

    pub(super) fn note_fine(&mut self, name: &ServiceName) {
        self.coarse.remove(name);
    }

    /// Notes what a service takes now. Those that shall be looked at again are returned.
    fn set(&mut self, number: u32, takes: u64) -> BTreeSet<ServiceName> {
        let before =
            if takes > 0 { self.of.insert(number, takes) } else { self.of.remove(&number) };
        let before = before.unwrap_or(0);
        self.all = self.all - before + takes;
        let relieved = self.all * 100 < u64::from(capacity::SLOTS) * RELIEVED_PERCENT;
        if takes < before && relieved { std::mem::take(&mut self.coarse) } else { BTreeSet::new() }
    }
}

/// The slots of a service: of each port a region of a power of two.
fn slots(service: &Service) -> u64 {
    service.ports.iter().map(of_port).sum()
}

fn of_port(port: &ServicePort) -> u64 {
    // Those in reserve take one.
    let all: u64 = port.backends.iter().map(|backend| u64::from(backend.slots.max(1))).sum();
    if all == 0 { 0 } else { all.next_power_of_two() }
}

impl Core {
    /// Slots in use.
    pub(super) fn slots(&self) -> usize {
        usize::try_from(self.slots.all).unwrap_or(usize::MAX)
    }

    /// Counts what a service takes of them; `None`: it is gone.
    pub(super) fn count_slots(&mut self, number: u32, service: Option<&Service>) {
        let again = self.slots.set(number, service.map_or(0, slots));
        self.stale.extend(again.into_iter().map(Some));
    }

    /// In words, that services get by with few.
    pub(crate) fn coarse(&self) -> Option<String> {
        let count = self.slots.coarse.len();
        (count > 0).then(|| {
            format!(
                "the slots of draws are short ({} of at most {} are in use): where the calls of {count} \
                 services leave this zone, they do so by coarser shares",
                self.slots.all,
                capacity::SLOTS
            )
        })
    }
}
