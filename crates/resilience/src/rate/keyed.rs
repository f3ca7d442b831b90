//! A rate limit of each of many keys.

use super::{Gauge, Limited, Rate};
use crate::draw::mix;
use crate::invalid::{Invalid, check};
use crate::sync::{Mutex, lock};
use crate::time::Time;

/// One rate for each key, such as a caller's address, in memory that does not grow.
///
/// Keys are in sets of eight by their hash, each under a lock that is held for a moment. A key that comes when its set is full takes the place
/// of the one that is nearest to its full burst. That one forgets what it used; a key that is at
/// its limit keeps its place before all others. Give a hash that callers cannot choose, if they
/// may want keys to meet.
#[derive(Debug)]
pub struct Keyed {
    gauge: Gauge,
    sets: Box<[Mutex<Set>]>,
}

const WAYS: usize = 8;

#[derive(Clone, Copy, Debug, Default)]
struct Set {
    hashes: [u64; WAYS],
    /// 0: free, or as good as free.
    arrivals_ns: [u64; WAYS],
}

impl Keyed {
    /// Room for so many keys, 8 to 16777216, rounded up to a power of two; 16 bytes each.
    ///
    /// # Errors
    /// A rate or a number that cannot be.
    pub fn new(rate: Rate, keys: usize) -> Result<Self, Invalid> {
        check((WAYS..=1 << 24).contains(&keys), "keys", &keys, "8 to 16777216")?;
        let sets = keys.next_power_of_two() / WAYS;
        let sets = (0..sets).map(|_| Mutex::new(Set::default())).collect();
        Ok(Self { gauge: rate.gauge()?, sets })
    }

    /// Counts something of the key of this hash that costs so much; 1 is usual.
    ///
    /// # Errors
    /// The rate does not allow it.
    pub fn take(&self, hash: u64, now: Time, cost: u32) -> Result<(), Limited> {
        let set = mix(hash) as usize & (self.sets.len() - 1);
        let mut set = lock(&self.sets[set]);
        let found = (0..WAYS).find(|&way| set.hashes[way] == hash && set.arrivals_ns[way] > 0);
        let arrival_ns = found.map_or(0, |way| set.arrivals_ns[way]);
        let next = self.gauge.next(arrival_ns, now, cost)?;
        let way = found.unwrap_or_else(|| set.least());
        set.hashes[way] = hash;
        set.arrivals_ns[way] = next;
        Ok(())
    }
}

impl Set {
    fn least(&self) -> usize {
        let mut least = 0;
        for way in 1..WAYS {
            if self.arrivals_ns[way] < self.arrivals_ns[least] {
                least = way;
            }
        }
        least
    }
}
