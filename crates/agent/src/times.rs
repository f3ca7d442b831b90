//! How long connections to backends took: from the kernel's counts, which wrap, to sums that do
//! not.
//!
//! The counts are read when somebody asks. One that grew by more than half of what it can hold
//! was begun anew instead: with 100 000 connections a second it takes hours to come so far.

use std::collections::HashMap;

use sinew_abi::histogram::COARSE;
use sinew_datapath::BackendTimes;

/// Histograms of a backend, without the empty buckets at their ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Histograms {
    pub(crate) connect_us: Vec<u64>,
    pub(crate) duration_us: Vec<u64>,
}

/// What was counted of each backend that anybody called, by key: most of many are not called.
#[derive(Default)]
pub(crate) struct Times(HashMap<u64, Box<Sums>>);

struct Sums {
    seen: BackendTimes,
    connect_us: [u64; COARSE],
    duration_us: [u64; COARSE],
}

impl Sums {
    const NONE: Self =
        Self { seen: BackendTimes::ZERO, connect_us: [0; COARSE], duration_us: [0; COARSE] };

    fn add(&mut self, now: BackendTimes) {
        let seen = std::mem::replace(&mut self.seen, now);
        add(&mut self.connect_us, &seen.connect_us(), &now.connect_us());
        add(&mut self.duration_us, &seen.duration_us(), &now.duration_us());
    }
}

fn add(sums: &mut [u64; COARSE], seen: &[u32; COARSE], now: &[u32; COARSE]) {
    for ((sum, seen), now) in sums.iter_mut().zip(seen).zip(now) {
        let grown = now.wrapping_sub(*seen);
        *sum += u64::from(if grown > u32::MAX / 2 { *now } else { grown });
    }
}

impl Times {
    /// Takes what was read of all backends, forgets those that are gone, and answers the sums.
    pub(crate) fn take(&mut self, read: HashMap<u64, BackendTimes>) -> HashMap<u64, Histograms> {
        self.0.retain(|key, _| read.contains_key(key));
        let told = read.into_iter().map(|(key, now)| {
            if now == BackendTimes::ZERO && !self.0.contains_key(&key) {
                return (key, Histograms::default());
            }
            let sums = self.0.entry(key).or_insert_with(|| Box::new(Sums::NONE));
            sums.add(now);
            let (connect_us, duration_us) = (used(&sums.connect_us), used(&sums.duration_us));
            (key, Histograms { connect_us, duration_us })
        });
        told.collect()
    }
}

/// The buckets up to the last that holds something.
pub(crate) fn used(buckets: &[u64]) -> Vec<u64> {
    let len = buckets.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
    buckets[..len].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(connects: u32) -> HashMap<u64, BackendTimes> {
        let mut times = BackendTimes::ZERO;
        times.us[2][0] = connects;
        times.us[3][1] = 1;
        HashMap::from([(7, times)])
    }

    #[test]
    fn counts_that_wrap_go_on() {
        let mut times = Times::default();
        let mut connects = |count| times.take(read(count))[&7].connect_us.clone();
        assert_eq!(connects(2_000_000_000), [0, 0, 2_000_000_000]);
        assert_eq!(connects(4_000_000_000), [0, 0, 4_000_000_000]);
        assert_eq!(connects(5_032_704), [0, 0, 4_300_000_000]);
        assert_eq!(connects(5_032_704), [0, 0, 4_300_000_000]);
    }

    #[test]
    fn what_is_made_anew_counts_from_nothing() {
        let mut times = Times::default();
        times.take(read(1000));
        let told = times.take(read(10)).remove(&7).unwrap();
        assert_eq!((told.connect_us, told.duration_us), (vec![0, 0, 1010], vec![0, 0, 0, 1]));
        times.take(HashMap::new());
        assert_eq!(times.take(read(10))[&7].connect_us, [0, 0, 10], "it was gone");
        let idle = HashMap::from([(8, BackendTimes::ZERO)]);
        assert_eq!(times.take(idle)[&8], Histograms::default());
        assert!(times.0.is_empty(), "nothing is kept of one that nobody called");
    }
}
