//! Which records are without a socket: those that were so at two looks in a row. One look is not
//! enough, since a descriptor may pass from a process that was not looked at yet to one that was.

use std::collections::HashSet;

/// Records whose socket was nowhere at the last look.
#[derive(Default)]
pub(super) struct Suspects(HashSet<u64>);

impl Suspects {
    /// Those of `recorded`, as it was before `held` was looked at, that this look misses and the one
    /// before did.
    pub(super) fn missed_twice(
        &mut self,
        recorded: impl IntoIterator<Item = u64>,
        held: &HashSet<u64>,
    ) -> Vec<u64> {
        let missed = recorded.into_iter().filter(|cookie| !held.contains(cookie)).collect();
        let before = std::mem::replace(&mut self.0, missed);
        self.0.intersection(&before).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    /// The life of a socket, in looks: when it is made, when its record ends (`None`: its end was not
    /// seen), and at which looks no process seems to have it.
    #[derive(Clone, Debug)]
    struct Life {
        made: usize,
        closed: usize,
        seen: bool,
        overlooked: Vec<usize>,
    }

    const LOOKS: usize = 12;

    fn life() -> impl Strategy<Value = Life> {
        (0..LOOKS, 0..LOOKS, any::<bool>(), collection::vec(0..LOOKS, 0..3)).prop_map(
            |(made, lasts, seen, overlooked)| Life { made, closed: made + lasts, seen, overlooked },
        )
    }

    impl Life {
        fn is_open(&self, look: usize) -> bool {
            (self.made..self.closed).contains(&look)
        }

        fn is_held(&self, look: usize) -> bool {
            self.is_open(look) && !self.overlooked.contains(&look)
        }

        /// Until it is given back, as far as it goes.
        fn has_record(&self, look: usize) -> bool {
            look >= self.made && (!self.seen || look < self.closed)
        }

        /// The first look that misses it for the second time in a row.
        fn due(&self) -> Option<usize> {
            let missed = |look: usize| self.has_record(look) && !self.is_held(look);
            (1..LOOKS).find(|look| missed(*look) && missed(*look - 1))
        }
    }

    proptest! {
        #[test]
        fn only_what_is_missed_twice_in_a_row_is_given_back(
            lives in collection::vec(life(), 0..40),
        ) {
            let mut suspects = Suspects::default();
            let mut given_back: Vec<Option<usize>> = vec![None; lives.len()];
            for look in 0..LOOKS {
                let of = |is: &dyn Fn(usize, &Life) -> bool| -> Vec<u64> {
                    let lives = lives.iter().enumerate();
                    lives.filter(|(n, life)| is(*n, life)).map(|(n, _)| n as u64).collect()
                };
                let recorded = of(&|n, life| life.has_record(look) && given_back[n].is_none());
                let held = of(&|_, life| life.is_held(look)).into_iter().collect();
                for cookie in suspects.missed_twice(recorded, &held) {
                    let before = given_back[cookie as usize].replace(look);
                    prop_assert_eq!(before, None, "{} was given back twice", cookie);
                }
            }
            let due: Vec<_> = lives.iter().map(Life::due).collect();
            prop_assert_eq!(given_back, due);
        }
    }
}
