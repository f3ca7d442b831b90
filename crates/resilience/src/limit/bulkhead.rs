//! A fixed number of calls at a time: Hystrix's semaphore.

use std::ops::Deref;

use super::{Full, enter, leave};
use crate::sync::{AtomicU32, Ordering, Padded};

/// A limit that only people change.
#[derive(Debug)]
pub struct Bulkhead {
    in_flight: Padded<AtomicU32>,
    limit: AtomicU32,
}

/// A place among the calls under way, given back when it is dropped. `B` is `&Bulkhead` or
/// `Arc<Bulkhead>`.
#[derive(Debug)]
#[must_use = "the place is given back when it is dropped"]
pub struct Permit<B: Deref<Target = Bulkhead>>(B);

impl<B: Deref<Target = Bulkhead>> Drop for Permit<B> {
    #[inline]
    fn drop(&mut self) {
        leave(&self.0.in_flight);
    }
}

impl Bulkhead {
    /// So many calls at a time; 0: none.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self { in_flight: Padded(AtomicU32::new(0)), limit: AtomicU32::new(limit) }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// All are taken.
    #[inline]
    pub fn acquire<B: Deref<Target = Self>>(this: B) -> Result<Permit<B>, Full> {
        enter(&this.in_flight, this.limit())?;
        Ok(Permit(this))
    }

    /// How many calls are under way.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many may be.
    #[inline]
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit. Calls under way go on, also those above it.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    #[test]
    fn two_threads_are_never_both_in() {
        loom::model(|| {
            let shared = Arc::new((Bulkhead::new(1), AtomicU32::new(0)));
            let enter = |shared: &(Bulkhead, AtomicU32)| {
                let permit = Bulkhead::acquire(&shared.0);
                if permit.is_ok() {
                    assert_eq!(shared.1.fetch_add(1, Ordering::Relaxed), 0);
                    shared.1.fetch_sub(1, Ordering::Relaxed);
                }
            };
            let other = {
                let shared = shared.clone();
                thread::spawn(move || enter(&shared))
            };
            enter(&shared);
            other.join().unwrap();
            assert!(Bulkhead::acquire(&shared.0).is_ok());
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_as_many_as_it_may(
            limit in 0..5_u32,
            steps in prop::collection::vec((0..3_u8, any::<prop::sample::Index>(), 0..6_u32), 0..100),
        ) {
            let bulkhead = Arc::new(Bulkhead::new(limit));
            let (mut limit, mut held) = (limit, Vec::new());
            for (step, which, next) in steps {
                match step {
                    0 if !held.is_empty() => drop(held.swap_remove(which.index(held.len()))),
                    1 => {
                        limit = next;
                        bulkhead.set_limit(next);
                    }
                    _ => match Bulkhead::acquire(bulkhead.clone()) {
                        Ok(permit) => {
                            held.push(permit);
                            prop_assert!(held.len() <= limit as usize);
                        }
                        Err(full) => {
                            prop_assert_eq!(full, Full { limit });
                            prop_assert!(held.len() >= limit as usize);
                        }
                    },
                }
                prop_assert_eq!(bulkhead.in_flight(), held.len() as u32);
            }
        }
    }

    #[test]
    fn threads_never_exceed_it_and_are_never_refused_below_it() {
        let bulkhead = Bulkhead::new(2);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        assert!(Bulkhead::acquire(&bulkhead).is_ok());
                    }
                });
            }
        });
        assert_eq!(bulkhead.in_flight(), 0);
    }
}
