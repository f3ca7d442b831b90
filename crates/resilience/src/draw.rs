//! Chance, passed in: a rule that needs some is given a `u64` that the caller drew.
//!
//! Draws have to be uniform over all 64 bits. [`Draws`] makes such ones for callers without a
//! generator of their own; it is fast, and no secret.

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): one addition and a mix for a draw.
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// The sequence of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next draw.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
}

/// Spreads a number over all 64 bits: the finalizer of SplitMix64, one to one.
#[must_use]
pub const fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A number below `end`, by multiplication (Lemire, ACM TOMACS 2019). Its bias is `end` / 2^64.
pub(crate) const fn below(draw: u64, end: u64) -> u64 {
    ((draw as u128 * end as u128) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        let mut draws = Draws::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| draws.draw()).collect();
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn numbers_stay_below_their_end_and_reach_it_evenly() {
        let (mut draws, mut seen) = (Draws::new(7), [0_u32; 5]);
        for _ in 0..50_000 {
            seen[below(draws.draw(), 5) as usize] += 1;
        }
        assert!(seen.iter().all(|count| (9_500..10_500).contains(count)), "{seen:?}");
        assert_eq!(below(u64::MAX, 5), 4);
    }
}
