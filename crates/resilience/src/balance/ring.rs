//! A hash ring: the same backend for the same key, and no key moves but those of who went.

use super::Node;
use crate::draw::mix;
use crate::invalid::{Invalid, check};

/// Consistent hashing (Karger and others, STOC 1997) with many points for each backend, as
/// Ketama has it. A backend's share differs from its weight by about 1 / √points.
///
/// When a backend goes, only its keys move; when one comes, only those that it gets.
#[derive(Clone, Debug)]
pub struct Ring(Box<[(u64, u32)]>);

impl Ring {
    /// Places `points` points for each unit of weight; 100 are usual.
    ///
    /// # Errors
    /// A weight above 1000, no points, or more than 16777216 in all.
    pub fn new(nodes: &[Node], points: u32) -> Result<Self, Invalid> {
        check(points > 0, "points", &points, "at least 1")?;
        let mut ring = Vec::new();
        for (backend, node) in nodes.iter().enumerate() {
            check(node.weight <= super::MOST_WEIGHT, "weight", &node.weight, "0 to 1000")?;
            let mine = u64::from(node.weight) * u64::from(points);
            let all = ring.len() as u64 + mine;
            check(all <= 1 << 24, "points", &all, "16777216 in all")?;
            ring.extend((0..mine).map(|point| (place(node.key, point), backend as u32)));
        }
        // Two nodes at one place: the lower key has it, in whatever order they were given.
        ring.sort_unstable_by_key(|(place, backend)| (*place, nodes[*backend as usize].key));
        Ok(Self(ring.into()))
    }

    /// The backend of a key, given its hash; none of none.
    #[must_use]
    pub fn get(&self, hash: u64) -> Option<usize> {
        let next = self.0.partition_point(|(place, _)| *place < hash);
        let (_, backend) = self.0.get(next).or(self.0.first())?;
        Some(*backend as usize)
    }
}

fn place(key: u64, point: u64) -> u64 {
    mix(key ^ mix(point))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nodes() -> impl Strategy<Value = Vec<Node>> {
        prop::collection::btree_map(any::<u64>(), 0..4_u32, 0..8)
            .prop_map(|nodes| nodes.into_iter().map(|(key, weight)| Node { key, weight }).collect())
    }

    /// Looks at all points of all backends.
    fn naive(nodes: &[Node], points: u64, hash: u64) -> Option<usize> {
        let of = |node: &Node| {
            let places = (0..u64::from(node.weight) * points).map(|point| place(node.key, point));
            places.map(|place| place.wrapping_sub(hash)).min()
        };
        let distances = nodes.iter().enumerate().filter_map(|(i, node)| Some((of(node)?, i)));
        distances.min().map(|(_, backend)| backend)
    }

    proptest! {
        #[test]
        fn a_key_belongs_to_the_next_point(nodes in nodes(), hashes in prop::collection::vec(any::<u64>(), 20)) {
            let ring = Ring::new(&nodes, 5).unwrap();
            let points = nodes.iter().map(|node| place(node.key, 2));
            for hash in hashes.into_iter().chain(points) {
                prop_assert_eq!(ring.get(hash), naive(&nodes, 5, hash));
            }
        }

        #[test]
        fn when_one_goes_only_its_keys_move(
            nodes in nodes(), which: prop::sample::Index, hashes in prop::collection::vec(any::<u64>(), 50),
        ) {
            prop_assume!(!nodes.is_empty());
            let mut fewer = nodes.clone();
            let gone = fewer.remove(which.index(nodes.len()));
            // The order of the others is of no account.
            fewer.reverse();
            let (before, after) = (Ring::new(&nodes, 20).unwrap(), Ring::new(&fewer, 20).unwrap());
            for hash in hashes {
                let was = before.get(hash).map(|backend| nodes[backend]);
                let is = after.get(hash).map(|backend| fewer[backend]);
                prop_assert!(was == Some(gone) || was == is);
            }
        }
    }

    #[test]
    fn shares_are_as_the_weights() {
        let nodes = [1, 2, 3].map(|n| Node { key: mix(n), weight: n as u32 });
        let ring = Ring::new(&nodes, 200).unwrap();
        let mut seen = [0_u32; 3];
        (0..60_000).for_each(|key| seen[ring.get(mix(key)).unwrap()] += 1);
        for (seen, expected) in seen.into_iter().zip([10_000, 20_000, 30_000]) {
            assert!(seen.abs_diff(expected) < expected / 6, "{seen} for {expected}");
        }
    }
}
