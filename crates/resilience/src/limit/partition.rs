//! A limit divided between callers.

use std::ops::Deref;

use super::{Full, enter, leave};
use crate::invalid::{Invalid, check};
use crate::sync::{AtomicU32, Ordering, Padded};

/// Shares of a limit that are kept for some callers, whatever the others do. What is kept for
/// nobody is for all. So a caller always has its share, and the limit is never exceeded; a share
/// that its caller does not use is idle, so keep less than the whole limit.
#[derive(Debug)]
pub struct Partitions {
    percents: Box<[u32]>,
    kept: Box<[Padded<AtomicU32>]>,
    common: Padded<AtomicU32>,
}

/// A place among the calls under way, given back when it is dropped. `P` is `&Partitions` or
/// `Arc<Partitions>`.
#[derive(Debug)]
#[must_use = "the place is given back when it is dropped"]
pub struct Permit<P: Deref<Target = Partitions>> {
    partitions: P,
    kept: Option<usize>,
}

impl<P: Deref<Target = Partitions>> Drop for Permit<P> {
    fn drop(&mut self) {
        match self.kept {
            Some(partition) => leave(&self.partitions.kept[partition]),
            None => leave(&self.partitions.common),
        }
    }
}

impl Partitions {
    /// One for each share, in percent of the limit.
    ///
    /// # Errors
    /// Shares of more than a hundred percent together.
    pub fn new(percents: &[u32]) -> Result<Self, Invalid> {
        let sum: u64 = percents.iter().copied().map(u64::from).sum();
        check(sum <= 100, "percents", &sum, "shares of 100 together at most")?;
        Ok(Self {
            percents: percents.into(),
            kept: percents.iter().map(|_| Padded(AtomicU32::new(0))).collect(),
            common: Padded(AtomicU32::new(0)),
        })
    }

    /// Takes a place for the caller of a partition: its own if one is free, else a common one. A
    /// number that is no partition's has only the common ones. The limit is what the bulkhead or
    /// the adaptive limit says now.
    ///
    /// # Errors
    /// All places that this caller may have are taken.
    pub fn acquire<P>(this: P, partition: usize, limit: u32) -> Result<Permit<P>, Full>
    where
        P: Deref<Target = Self>,
    {
        let own = this.kept.get(partition).zip(this.percents.get(partition));
        if let Some((kept, percent)) = own
            && enter(kept, share(limit, *percent)).is_ok()
        {
            return Ok(Permit { partitions: this, kept: Some(partition) });
        }
        let shares: u32 = this.percents.iter().map(|percent| share(limit, *percent)).sum();
        enter(&this.common, limit - shares).map_err(|_| Full { limit })?;
        Ok(Permit { partitions: this, kept: None })
    }

    /// How many calls are under way, of all partitions.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        let kept: u32 = self.kept.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        kept + self.common.load(Ordering::Relaxed)
    }
}

fn share(limit: u32, percent: u32) -> u32 {
    (u64::from(limit) * u64::from(percent) / 100) as u32
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_has_its_share_and_all_together_the_limit(
            percents in prop::collection::vec(0..30_u32, 1..4),
            limit in 0..30_u32,
            steps in prop::collection::vec((any::<bool>(), 0..5_usize, any::<prop::sample::Index>()), 0..200),
        ) {
            let partitions = Arc::new(Partitions::new(&percents).unwrap());
            // Naively: who holds a place, and whether it is one of its own.
            let mut held: Vec<(usize, bool, Permit<Arc<Partitions>>)> = Vec::new();
            for (gives_back, who, which) in steps {
                if gives_back && !held.is_empty() {
                    drop(held.swap_remove(which.index(held.len())));
                    continue;
                }
                let own = percents.get(who).map_or(0, |percent| limit * percent / 100) as usize;
                let kept: u32 = percents.iter().map(|percent| limit * percent / 100).sum();
                let mine = held.iter().filter(|(other, own, _)| *other == who && *own).count();
                let common = held.iter().filter(|(_, own, _)| !own).count();
                let expected = mine < own || common < (limit - kept) as usize;
                let acquired = Partitions::acquire(partitions.clone(), who, limit);
                prop_assert_eq!(acquired.is_ok(), expected);
                held.extend(acquired.ok().map(|permit| (who, mine < own, permit)));
                prop_assert!(held.len() <= limit as usize);
                prop_assert_eq!(partitions.in_flight() as usize, held.len());
            }
        }
    }

    #[test]
    fn one_caller_cannot_take_the_share_of_another() {
        let partitions = Partitions::new(&[20, 50]).unwrap();
        let take = |who| Partitions::acquire(&partitions, who, 10);
        let greedy: Vec<_> = std::iter::from_fn(|| take(0).ok()).collect();
        assert_eq!(greedy.len(), 2 + 3);
        let other: Vec<_> = std::iter::from_fn(|| take(1).ok()).collect();
        assert_eq!(other.len(), 5);
        assert_eq!(take(1).unwrap_err(), Full { limit: 10 });
    }

    #[test]
    fn shares_of_more_than_all_are_refused() {
        assert_eq!(Partitions::new(&[60, 41]).unwrap_err().field, "percents");
    }
}
