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

    /// Slots that are not free.
    pub(super) fn taken(&self) -> u32 {
        let free = |(class, regions): (usize, &Vec<u32>)| (regions.len() as u32) << class;
        self.fresh - self.free.iter().enumerate().map(free).sum::<u32>()
    }

    /// Joins free regions that lie side by side: many small ones were one large one, or will be.
    pub(super) fn join(&mut self) {
        let mut free: Vec<(u32, u32)> = Vec::new();
        for (class, regions) in self.free.iter_mut().enumerate() {
            free.extend(regions.drain(..).map(|base| (base, base + (1 << class))));
        }
        free.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::new();
        for (from, to) in free {
            match joined.last_mut() {
                Some((_, end)) if *end == from => *end = to,
                _ => joined.push((from, to)),
            }
        }
        if let Some((from, _)) = joined.pop_if(|(_, end)| *end == self.fresh) {
            self.fresh = from;
        }
        for (from, to) in joined {
            self.free_between(from, to);
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
            let class = (to - from).ilog2().min(19);
            self.free[class as usize].push(from);
            from += 1 << class;
        }
    }
}

pub(super) fn full(wanted: u64) -> Error {
    Error::Full { map: "the slot table", capacity: capacity::SLOTS, wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_regions_become_large_ones_again() {
        let mut regions = Regions::default();
        // As many slots each time as there can be backends.
        for class in [0, 4, 1, 3, 2, 5, 17, 0, 6] {
            let count = capacity::BACKENDS >> class;
            let taken: Vec<u32> = (0..count)
                .map(|_| {
                    let taken = regions.take(1 << class).or_else(|| {
                        regions.join();
                        regions.take(1 << class)
                    });
                    taken.unwrap_or_else(|| panic!("no region of {} slots", 1 << class))
                })
                .collect();
            assert_eq!(regions.taken(), capacity::BACKENDS);
            taken.iter().for_each(|base| regions.retire(*base, 1 << class));
            regions.reclaim();
            assert_eq!(regions.taken(), 0);
        }
    }

    #[test]
    fn what_is_taken_does_not_overlap() {
        let mut regions = Regions::default();
        let mut taken: Vec<(u32, u32)> = Vec::new();
        for round in 0..2000u32 {
            let len = 1 + round.wrapping_mul(2_654_435_761) % 700;
            if let Some(base) = regions.take(len) {
                taken.push((base, len));
            }
            if round % 3 == 0 && taken.len() > 50 {
                let (base, len) = taken.swap_remove((round as usize * 7) % taken.len());
                regions.retire(base, len);
                regions.reclaim();
                regions.join();
            }
            if round % 500 == 0 {
                let used = std::mem::take(&mut regions);
                regions.adopt(taken.clone());
                assert!(regions.taken() <= used.taken());
            }
        }
        taken.sort_unstable();
        assert!(taken.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0), "{taken:?}");
        let all: u32 = taken.iter().map(|(_, len)| len.next_power_of_two()).sum();
        assert_eq!(regions.taken(), all);
    }
}
