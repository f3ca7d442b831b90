//! Timers in steps of 10 ms. Most never fire: they are set for each request and answered in time,
//! so to set one has to cost next to nothing, and to fire one somewhat late is no harm.

use std::time::Duration;

use sinew_resilience::Time;

const STEP_NS: u64 = 10_000_000;
/// Forty seconds. What is due later is looked at again then.
const STEPS: usize = 4096;
const WORD: usize = 64;

#[derive(Debug)]
pub(super) struct Wheel<K> {
    slots: Vec<Vec<K>>,
    /// Which slots hold any.
    taken: [u64; STEPS / WORD],
    /// The step up to which all have fired.
    step: u64,
}

/// A step; the first one at or after the time.
fn step(at: Time) -> u64 {
    at.as_ns().div_ceil(STEP_NS)
}

impl<K> Wheel<K> {
    pub(super) fn new(now: Time) -> Self {
        let slots = std::iter::repeat_with(Vec::new).take(STEPS).collect();
        Self { slots, taken: [0; STEPS / WORD], step: now.as_ns() / STEP_NS }
    }

    /// Fires `key` at this time or soon after; one that is far off earlier than that. Says when.
    pub(super) fn arm(&mut self, key: K, at: Time) -> Time {
        let step = step(at).clamp(self.step + 1, self.step + STEPS as u64 - 1);
        let slot = (step % STEPS as u64) as usize;
        self.slots[slot].push(key);
        self.taken[slot / WORD] |= 1 << (slot % WORD);
        Time::from_ns(step * STEP_NS)
    }

    /// All that are due, in the order of their steps.
    pub(super) fn expire(&mut self, now: Time, due: &mut Vec<K>) {
        let last = now.as_ns() / STEP_NS;
        // Once round is all.
        self.step = self.step.max(last.saturating_sub(STEPS as u64));
        while self.step < last {
            self.step += 1;
            let slot = (self.step % STEPS as u64) as usize;
            due.append(&mut self.slots[slot]);
            self.taken[slot / WORD] &= !(1 << (slot % WORD));
        }
    }

    /// How long until one may be due.
    pub(super) fn next(&self, now: Time) -> Option<Duration> {
        let first = (self.step + 1) % STEPS as u64;
        let (word, bit) = ((first as usize) / WORD, (first as usize) % WORD);
        let words = self.taken.len();
        for nth in 0..=words {
            let at = (word + nth) % words;
            // Of the word that it begins in, the part before is the last to come.
            let mask = match nth {
                0 => u64::MAX << bit,
                _ if nth == words => !(u64::MAX << bit),
                _ => u64::MAX,
            };
            let bits = self.taken[at] & mask;
            if bits != 0 {
                let slot = (at * WORD) as u64 + u64::from(bits.trailing_zeros());
                let ahead = (slot + STEPS as u64 - first) % STEPS as u64;
                return Some(Time::from_ns((self.step + 1 + ahead) * STEP_NS) - now);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Beside one that looks at all of them each time.
        #[test]
        fn all_fire_once_and_never_early(
            steps in prop::collection::vec((0..3_u8, 0..60_000_000_000_u64), 1..60),
        ) {
            let (mut now, mut wheel) = (Time::from_ns(777), Wheel::new(Time::from_ns(777)));
            let mut naive: BTreeMap<usize, Time> = BTreeMap::new();
            for (key, (what, ns)) in steps.into_iter().enumerate() {
                if what > 0 {
                    let at = Time::from_ns(now.as_ns() + ns);
                    let fires = wheel.arm(key, at);
                    prop_assert!(fires.as_ns() < at.as_ns() + 2 * STEP_NS);
                    prop_assert!(fires >= at || ns > 40_000_000_000);
                    naive.insert(key, fires);
                    continue;
                }
                let next = naive.values().min().map(|first| *first - now);
                prop_assert_eq!(wheel.next(now), next);
                now = Time::from_ns(now.as_ns() + ns / 4);
                let mut due = Vec::new();
                wheel.expire(now, &mut due);
                due.sort_unstable();
                let expected: Vec<usize> =
                    naive.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect();
                prop_assert_eq!(&due, &expected);
                naive.retain(|key, _| !due.contains(key));
            }
        }
    }
}
