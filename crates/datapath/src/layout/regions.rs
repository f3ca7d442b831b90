//! Regions of the slot table: powers of two, each size with a free list of its own. What is given
//! back waits for a grace period.

use sinew_abi::capacity;

use crate::Error;

/// Hands out regions.
#[derive(Debug, Default)]
pub(super) struct Regions {
    /// First slot that was never used.
    fresh: u32,
    /// Free regions by the logarithm of their size.
    free: [Vec<u32>; 20],
    retired: Vec<(u32, u32)>,
}

fn class(len: u32) -> u32 {
    len.max(1).next_power_of_two().trailing_zeros()
}

impl Regions {
    /// Takes a region for `len` slots; `None` when only retired ones, or none, would fit.
    pub(super) fn take(&mut self, len: u32) -> Option<u32> {
        let class = class(len);
        if let Some(base) = self.free.get_mut(class as usize)?.pop() {
            return Some(base);
        }
        // What was used before goes first: changes that fail, after which the table is read anew,
        // would else move ever further up.
        if let Some(base) = self.split(class) {
            return Some(base);
        }
        let end = self.fresh.checked_add(1 << class)?;
        (end <= capacity::SLOTS).then(|| std::mem::replace(&mut self.fresh, end))
    }

    /// Halves the smallest larger region.
    fn split(&mut self, class: u32) -> Option<u32> {
        let larger = (class + 1..20).find(|c| !self.free[*c as usize].is_empty())?;
        let base = self.free[larger as usize].pop()?;
        for half in (class..larger).rev() {
            self.free[half as usize].push(base + (1 << half));
        }
        Some(base)
    }

    /// Gives a region back, to be used after the next [`reclaim`](Self::reclaim).
    pub(super) fn retire(&mut self, base: u32, len: u32) {
        if len > 0 {
            self.retired.push((base, class(len)));
        }
    }

    pub(super) fn retired(&self) -> usize {
        self.retired.len()
    }

    /// A grace period has passed since the last retirement.
    pub(super) fn reclaim(&mut self) {
        for (base, class) in self.retired.drain(..) {
            self.free[class as usize].push(base);
        }
    }

    /// Takes note of regions found in use; what lies between them is free.
    pub(super) fn adopt(&mut self, mut used: Vec<(u32, u32)>) {
        used.retain(|(_, len)| *len > 0);
        used.sort_unstable();
        let mut at = 0;
        for (base, len) in used {
            self.free_between(at, base);
            at = at.max(base + (1 << class(len)));
        }
        self.fresh = at;
    }

    fn free_between(&mut self, mut from: u32, to: u32) {
        while from < to {
            // The largest aligned block that fits.
            let align = if from == 0 { 19 } else { from.trailing_zeros().min(19) };
            let class = align.min((to - from).ilog2());
            self.free[class as usize].push(from);
            from += 1 << class;
        }
    }
}

pub(super) fn full(wanted: u64) -> Error {
    Error::Full { map: "the slot table", capacity: capacity::SLOTS, wanted }
}
