//! In turn, by weight.

use crate::invalid::{Invalid, check};

/// Smooth weighted round robin, as nginx has it: each time every backend gains its weight, and the
/// one that has gained most goes and pays the sum of all. In a round of that sum each goes exactly
/// as often as its weight says, spread over the round.
///
/// It has one owner; put it under a lock to share it. A choice looks at all backends.
#[derive(Clone, Debug)]
pub struct RoundRobin {
    weights: Box<[u32]>,
    gained: Box<[i64]>,
    sum: i64,
}

impl RoundRobin {
    /// Over backends of these weights; one of weight 0 never goes.
    ///
    /// # Errors
    /// A weight above 1000.
    pub fn new(weights: &[u32]) -> Result<Self, Invalid> {
        for weight in weights {
            check(*weight <= super::MOST_WEIGHT, "weight", weight, "0 to 1000")?;
        }
        let sum = weights.iter().copied().map(i64::from).sum();
        Ok(Self { weights: weights.into(), gained: vec![0; weights.len()].into(), sum })
    }

    /// The next one; none when no backend has a weight.
    pub fn turn(&mut self) -> Option<usize> {
        if self.sum == 0 {
            return None;
        }
        let mut most: Option<usize> = None;
        for (backend, weight) in self.weights.iter().enumerate() {
            self.gained[backend] += i64::from(*weight);
            let better = most.is_none_or(|most| self.gained[backend] > self.gained[most]);
            if *weight > 0 && better {
                most = Some(backend);
            }
        }
        self.gained[most?] -= self.sum;
        most
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_order_is_nginxs() {
        let mut turns = RoundRobin::new(&[5, 1, 1]).unwrap();
        let order: Vec<_> = (0..7).filter_map(|_| turns.turn()).collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn without_a_weight_nobody_goes() {
        assert_eq!(RoundRobin::new(&[]).unwrap().turn(), None);
        assert_eq!(RoundRobin::new(&[0, 0]).unwrap().turn(), None);
        assert_eq!(RoundRobin::new(&[1001]).unwrap_err().field, "weight");
    }

    proptest! {
        #[test]
        fn at_any_time_each_has_gone_about_as_often_as_its_share_says(
            weights in prop::collection::vec(0..20_u32, 1..8), rounds in 1..4_u32,
        ) {
            let sum: u32 = weights.iter().sum();
            let mut turns = RoundRobin::new(&weights).unwrap();
            let mut gone = vec![0_u32; weights.len()];
            for turn in 1..=sum * rounds {
                gone[turns.turn().unwrap()] += 1;
                for (gone, weight) in gone.iter().zip(&weights) {
                    let fair = f64::from(turn * weight) / f64::from(sum);
                    prop_assert!((f64::from(*gone) - fair).abs() < weights.len() as f64);
                    prop_assert!(turn % sum > 0 || *gone == turn / sum * weight);
                }
            }
        }
    }
}
