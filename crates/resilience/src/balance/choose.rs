//! Choices by cost: the least loaded, or the better of two.

use crate::draw::{below, mix};

/// The cheaper of two drawn backends of so many: next to as good as the best of all, and callers
/// that all know the same do not all run to the same one (Mitzenmacher, "The Power of Two Choices
/// in Randomized Load Balancing", IEEE TPDS 2001). None of none.
#[inline]
pub fn p2c(backends: usize, draw: u64, cost: impl Fn(usize) -> f64) -> Option<usize> {
    if backends < 2 {
        return (backends == 1).then_some(0);
    }
    let first = below(draw, backends as u64) as usize;
    // Another draw of the same one, among all but the first.
    let other = below(mix(draw), backends as u64 - 1) as usize;
    let second = if other < first { other } else { other + 1 };
    Some(if cost(second) < cost(first) { second } else { first })
}

/// The cheapest of so many; of several as cheap a drawn one. With calls under way as the cost this
/// is "least requests". None of none.
#[inline]
pub fn least(backends: usize, draw: u64, cost: impl Fn(usize) -> f64) -> Option<usize> {
    let begin = below(draw, backends.max(1) as u64) as usize;
    let (mut best, mut best_cost) = (None, f64::INFINITY);
    // The first as cheap after a drawn place.
    for backend in (begin..backends).chain(0..begin) {
        let cost = cost(backend);
        if best.is_none() || cost < best_cost {
            (best, best_cost) = (Some(backend), cost);
        }
    }
    best
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::draw::Draws;

    proptest! {
        #[test]
        fn the_least_is_the_least(costs in prop::collection::vec(0..5_u32, 0..12), draw: u64) {
            let chosen = least(costs.len(), draw, |backend| f64::from(costs[backend]));
            prop_assert_eq!(chosen.map(|backend| costs[backend]), costs.iter().min().copied());
        }

        #[test]
        fn of_two_the_better_and_never_the_worst_of_all(
            mut costs in prop::collection::vec(0..100_u32, 2..12), draw: u64,
        ) {
            costs.sort_unstable();
            costs.dedup();
            prop_assume!(costs.len() > 1);
            let chosen = p2c(costs.len(), draw, |backend| f64::from(costs[backend])).unwrap();
            prop_assert!(chosen < costs.len() - 1);
        }
    }

    #[test]
    fn of_equals_each_is_chosen_as_often() {
        let (mut draws, mut two, mut all) = (Draws::new(1), [0_u32; 5], [0_u32; 5]);
        for _ in 0..50_000 {
            two[p2c(5, draws.draw(), |_| 1.0).unwrap()] += 1;
            all[least(5, draws.draw(), |_| 1.0).unwrap()] += 1;
        }
        for count in two.into_iter().chain(all) {
            assert!((9_500..10_500).contains(&count), "{two:?}, {all:?}");
        }
    }

    #[test]
    fn two_choices_are_two_of_all_pairs() {
        // Of cost by number, number 3 of 5 wins against 4 alone: 2 of 20 ordered pairs.
        let mut draws = Draws::new(2);
        let (mut upwards, mut downwards) = ([0_u32; 5], [0_u32; 5]);
        for _ in 0..100_000 {
            upwards[p2c(5, draws.draw(), |backend| backend as f64).unwrap()] += 1;
            downwards[p2c(5, draws.draw(), |backend| -(backend as f64)).unwrap()] += 1;
        }
        for backend in 0..5 {
            let (up, down) = (upwards[4 - backend], downwards[backend]);
            let expected = backend as u32 * 10_000;
            assert!(up.abs_diff(expected) < 700, "{upwards:?}");
            assert!(down.abs_diff(expected) < 700, "{downwards:?}");
        }
    }

    #[test]
    fn none_of_none_and_one_of_one() {
        assert_eq!((p2c(0, 7, |_| 0.0), p2c(1, 7, |_| 0.0)), (None, Some(0)));
        assert_eq!((least(0, 7, |_| 0.0), least(1, 7, |_| f64::INFINITY)), (None, Some(0)));
    }
}
