//! Maglev: the same backend for the same key, by one look into a table.

use super::Node;
use crate::draw::mix;
use crate::invalid::{Invalid, check};

/// Maglev hashing (Eisenbud and others, NSDI 2016), with weights. Each backend has places of the
/// table in an order of its own, and takes the first free one in turn. Shares are within about 1 %
/// of the weights where the table has a hundred places for each backend; when a backend comes or
/// goes, some of the other keys move too: of 20 backends' and 65537 places, one in 300.
#[derive(Clone, Debug)]
pub struct Maglev(Box<[u32]>);

const FREE: u32 = u32::MAX;

impl Maglev {
    /// Fills a table of so many places, a prime number; 65537 is usual.
    ///
    /// # Errors
    /// A weight above 1000, a size that is not a prime up to 16777213, or less places than backends.
    pub fn new(nodes: &[Node], size: u32) -> Result<Self, Invalid> {
        let prime = (3..1 << 24).contains(&size) && is_prime(size);
        check(prime, "size", &size, "a prime number up to 16777213")?;
        for node in nodes {
            check(node.weight <= super::MOST_WEIGHT, "weight", &node.weight, "0 to 1000")?;
        }
        let mut turns: Vec<Turn> =
            nodes.iter().zip(0..).filter_map(|(n, i)| Turn::new(*n, i, size)).collect();
        check(turns.len() <= size as usize, "size", &size, "at least as many as backends")?;
        // In whatever order they were given, all build the same table.
        turns.sort_unstable_by_key(|turn| turn.key);
        Ok(Self(fill(turns, size)))
    }

    /// The backend of a key, given its hash; none of none.
    #[inline]
    #[must_use]
    pub fn get(&self, hash: u64) -> Option<usize> {
        let place = crate::draw::below(hash, self.0.len() as u64) as usize;
        let backend = self.0[place];
        (backend != FREE).then_some(backend as usize)
    }
}

/// A backend that takes places.
struct Turn {
    key: u64,
    backend: u32,
    weight: u32,
    /// What it has gained of a turn; a whole one is the greatest weight.
    gained: u32,
    place: u32,
    skip: u32,
}

impl Turn {
    fn new(node: Node, backend: u32, size: u32) -> Option<Self> {
        let Node { key, weight } = node;
        let place = (mix(key) % u64::from(size)) as u32;
        let skip = (mix(!key) % u64::from(size - 1)) as u32 + 1;
        (weight > 0).then_some(Self { key, backend, weight, gained: 0, place, skip })
    }

    fn next(&mut self, size: u32) -> usize {
        let place = self.place;
        self.place = (place + self.skip) % size;
        place as usize
    }
}

fn fill(mut turns: Vec<Turn>, size: u32) -> Box<[u32]> {
    let mut table = vec![FREE; size as usize];
    let most = turns.iter().map(|turn| turn.weight).max().unwrap_or(0);
    let mut left = if turns.is_empty() { 0 } else { size };
    while left > 0 {
        for turn in &mut turns {
            turn.gained += turn.weight;
            if turn.gained < most || left == 0 {
                continue;
            }
            turn.gained -= most;
            // The size is prime, so the order of each visits every place, and one is free.
            let mut place = turn.next(size);
            while table[place] != FREE {
                place = turn.next(size);
            }
            table[place] = turn.backend;
            left -= 1;
        }
    }
    table.into()
}

fn is_prime(number: u32) -> bool {
    (2..)
        .take_while(|divisor| divisor * divisor <= number)
        .all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nodes(weights: &[u32]) -> Vec<Node> {
        weights.iter().zip(1..).map(|(weight, n)| Node { key: mix(n), weight: *weight }).collect()
    }

    /// The paper's listing, with whole permutations, for equal weights.
    fn naive(nodes: &[Node], size: u32) -> Vec<u32> {
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.sort_by_key(|backend| nodes[*backend].key);
        let m = u64::from(size);
        let permutation = |key: u64| -> Vec<u64> {
            let (offset, skip) = (mix(key) % m, mix(!key) % (m - 1) + 1);
            (0..m).map(|j| (offset + j * skip) % m).collect()
        };
        let permutations: Vec<_> = nodes.iter().map(|node| permutation(node.key)).collect();
        let (mut next, mut entry) = (vec![0; nodes.len()], vec![u32::MAX; size as usize]);
        let mut filled = 0;
        loop {
            for &i in &order {
                let free =
                    (next[i]..).find(|j| entry[permutations[i][*j] as usize] == u32::MAX).unwrap();
                entry[permutations[i][free] as usize] = i as u32;
                next[i] = free + 1;
                filled += 1;
                if filled == size {
                    return entry;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_table_is_the_papers(keys in prop::collection::btree_set(any::<u64>(), 1..12), weight in 1..9_u32) {
            let nodes: Vec<Node> = keys.into_iter().rev().map(|key| Node { key, weight }).collect();
            prop_assert_eq!(&*Maglev::new(&nodes, 251).unwrap().0, naive(&nodes, 251));
        }

        #[test]
        fn shares_are_as_the_weights(weights in prop::collection::vec(0..50_u32, 1..10)) {
            let table = Maglev::new(&nodes(&weights), 65_537).unwrap();
            let sum: u32 = weights.iter().sum();
            prop_assume!(sum > 0);
            for (backend, weight) in weights.iter().enumerate() {
                let share = table.0.iter().filter(|taken| **taken as usize == backend).count();
                let expected = 65_537.0 * f64::from(*weight) / f64::from(sum);
                prop_assert!((share as f64 - expected).abs() <= 50.0, "{} for {}", share, expected);
            }
        }
    }

    /// The share of keys that went from one backend that stays to another when one of 20 goes.
    fn moved(seed: u64) -> f64 {
        let node = |n| Node { key: mix(mix(seed) ^ mix(n)), weight: 1 };
        let all: Vec<Node> = (0..20).map(node).collect();
        let mut fewer = all.clone();
        let gone = fewer.remove(seed as usize % 20);
        let tables = [&all, &fewer].map(|nodes| Maglev::new(nodes, 65_537).unwrap());
        let moved = (0..65_537).filter(|place| {
            let was = all[tables[0].0[*place] as usize];
            was != gone && was != fewer[tables[1].0[*place] as usize]
        });
        moved.count() as f64 / 65_537.0
    }

    #[test]
    fn when_one_goes_few_of_the_other_keys_move() {
        let mut shares: Vec<f64> = (0..25).map(moved).collect();
        shares.sort_by(f64::total_cmp);
        assert!(shares[12] < 0.005 && shares[24] < 0.05, "{shares:?}");
    }

    #[test]
    fn none_of_none_and_what_cannot_be_is_refused() {
        assert_eq!(Maglev::new(&[], 251).unwrap().get(5), None);
        assert_eq!(Maglev::new(&nodes(&[0]), 251).unwrap().get(5), None);
        assert_eq!(Maglev::new(&nodes(&[1]), 251).unwrap().get(u64::MAX), Some(0));
        assert_eq!(Maglev::new(&nodes(&[1]), 250).unwrap_err().field, "size");
        assert_eq!(Maglev::new(&nodes(&[1; 6]), 5).unwrap_err().field, "size");
        assert_eq!(Maglev::new(&nodes(&[1001]), 5).unwrap_err().field, "weight");
    }
}
