//! The own zone first, as far as it has room.

use crate::invalid::{Invalid, check};

/// How callers of one zone divide their calls between zones. Each zone gets as large a part of all
/// calls as it has of all capacity: callers stay in a zone that has room for them all, else what is
/// above goes to zones that have more capacity than callers, in proportion (Envoy's zone-aware
/// routing).
#[derive(Clone, Debug)]
pub struct ZoneSplit {
    /// Draws below `ends[zone]`, and not below the one before, go to a zone.
    ends: Box<[u64]>,
}

impl ZoneSplit {
    /// For the callers of zone `own`, given what each zone calls (in any unit) and the weight of
    /// its healthy backends. Where nobody knows who calls how much, give zeros: then all stay in
    /// their zone.
    ///
    /// # Errors
    /// Another number of zones here than there, or numbers below 0.
    pub fn new(own: usize, calls: &[f64], capacity: &[f64]) -> Result<Self, Invalid> {
        let same = calls.len() == capacity.len();
        check(same, "calls", &calls.len(), "one number for each zone of `capacity`")?;
        check(own < capacity.len(), "own", &own, "the number of a zone")?;
        for (field, shares) in [("calls", calls), ("capacity", capacity)] {
            let numbers = shares.iter().all(|share| share.is_finite() && *share >= 0.0);
            check(numbers, field, &shares, "numbers of 0 and above")?;
        }
        Ok(Self { ends: ends(&split(own, calls, capacity)) })
    }

    /// The zone of a call; none when no zone has capacity.
    #[inline]
    #[must_use]
    pub fn zone(&self, draw: u64) -> Option<usize> {
        let zone = self.ends.partition_point(|end| *end <= draw);
        if zone < self.ends.len() { Some(zone) } else { self.last() }
    }

    /// Rounding leaves a few draws of 2^64 beyond the last end.
    fn last(&self) -> Option<usize> {
        let before = |zone: usize| if zone == 0 { 0 } else { self.ends[zone - 1] };
        (0..self.ends.len()).rev().find(|zone| self.ends[*zone] > before(*zone))
    }
}

/// The part of the own zone's calls that goes to each zone.
fn split(own: usize, calls: &[f64], capacity: &[f64]) -> Vec<f64> {
    let (all_calls, all_capacity): (f64, f64) = (calls.iter().sum(), capacity.iter().sum());
    if all_capacity == 0.0 {
        return vec![0.0; capacity.len()];
    }
    let has = |zone: usize| capacity[zone] / all_capacity;
    let wants = |zone: usize| if all_calls == 0.0 { has(zone) } else { calls[zone] / all_calls };
    let stays = if has(own) >= wants(own) { has(own).signum() } else { has(own) / wants(own) };
    let stays = if has(own) == 0.0 { 0.0 } else { stays };
    let room = |zone: usize| (has(zone) - wants(zone)).max(0.0);
    let all_room: f64 = (0..capacity.len()).map(room).sum();
    let part = |zone: usize| {
        let spilled = if all_room > 0.0 { room(zone) / all_room } else { has(zone) };
        (1.0 - stays) * spilled + if zone == own { stays } else { 0.0 }
    };
    (0..capacity.len()).map(part).collect()
}

fn ends(parts: &[f64]) -> Box<[u64]> {
    let ends = parts.iter().scan(0.0, |sum, part| {
        *sum += part;
        Some((*sum * 2_f64.powi(64)) as u64)
    });
    ends.collect()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_zone_gets_its_part_of_all_calls_and_stays_first(
            zones in prop::collection::vec((0..100_u32, 0..100_u32), 1..6),
        ) {
            let calls: Vec<f64> = zones.iter().map(|(calls, _)| f64::from(*calls)).collect();
            let capacity: Vec<f64> = zones.iter().map(|(_, capacity)| f64::from(*capacity)).collect();
            let (all, room) = (calls.iter().sum::<f64>(), capacity.iter().sum::<f64>());
            prop_assume!(all > 0.0 && room > 0.0);
            let splits: Vec<_> = (0..zones.len()).map(|own| split(own, &calls, &capacity)).collect();
            for zone in 0..zones.len() {
                let got: f64 = splits.iter().zip(&calls).map(|(split, calls)| split[zone] * calls).sum();
                prop_assert!((got / all - capacity[zone] / room).abs() < 1e-9, "{:?}", splits);
                prop_assert!((splits[zone].iter().sum::<f64>() - 1.0).abs() < 1e-9);
                // No more leaves than has to.
                let fits = (capacity[zone] / room) / (calls[zone] / all).max(1e-12);
                prop_assert!(calls[zone] == 0.0 || (splits[zone][zone] - fits.min(1.0)).abs() < 1e-9);
            }
        }

        #[test]
        fn draws_fall_on_zones_as_the_parts_say(parts in prop::collection::vec(0..10_u32, 1..6), draw: u64) {
            let sum: u32 = parts.iter().sum();
            prop_assume!(sum > 0);
            let shares: Vec<f64> = parts.iter().map(|part| f64::from(*part) / f64::from(sum)).collect();
            let split = ZoneSplit { ends: ends(&shares) };
            let at = draw as f64 / 2_f64.powi(64);
            let zone = split.zone(draw).unwrap();
            let before: f64 = shares[..zone].iter().sum();
            prop_assert!(parts[zone] > 0);
            prop_assert!(before - 1e-9 <= at && at <= before + shares[zone] + 1e-9);
        }
    }

    #[test]
    fn zones_without_capacity_get_nothing() {
        let none = ZoneSplit::new(0, &[1.0, 1.0], &[0.0, 0.0]).unwrap();
        assert_eq!(none.zone(u64::MAX), None);
        let away = ZoneSplit::new(0, &[0.0, 0.0], &[0.0, 1.0]).unwrap();
        assert_eq!([0, 1 << 63, u64::MAX].map(|draw| away.zone(draw)), [Some(1); 3]);
        let home = ZoneSplit::new(0, &[0.0, 0.0], &[1.0, 9.0]).unwrap();
        assert_eq!([0, 1 << 63, u64::MAX].map(|draw| home.zone(draw)), [Some(0); 3]);
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        assert_eq!(ZoneSplit::new(0, &[1.0], &[1.0, 2.0]).unwrap_err().field, "calls");
        assert_eq!(ZoneSplit::new(2, &[1.0, 1.0], &[1.0, 2.0]).unwrap_err().field, "own");
        assert_eq!(ZoneSplit::new(0, &[1.0], &[f64::NAN]).unwrap_err().field, "capacity");
    }
}
