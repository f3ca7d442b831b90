//! What the choice may do, in the plainest words, and states of services to try it in. The tests of
//! this crate hold the code to it, and those of the data path the programs in the kernel.
//!
//! Nothing here is taken from the code under test.

extern crate std;

use std::{collections::BTreeMap, vec::Vec};

/// Which listeners there are at each place that a replica may have: IPv4, IPv6.
pub(crate) const PLACES: [(bool, bool); 20] = {
    let mut places = [(true, true); 20];
    let mut at = 10;
    while at < 20 {
        places[at] = [(true, false), (false, true), (false, false)][at % 3];
        at += 1;
    }
    places
};

/// The accept queue of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// Nobody waits.
    Empty,
    /// Somebody waits, and a moment ago nobody did.
    Busy,
    /// Somebody has waited for too long.
    Hangs,
}

/// What is held against a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ejection {
    Never,
    Lasts,
    /// It has ended, and nobody has tried the replica since.
    Ended,
    /// It has ended, and somebody tries the replica now.
    Tried,
    /// It has ended, and somebody has tried the replica without an outcome.
    Lapsed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replica {
    /// Of [`PLACES`].
    pub(crate) place: usize,
    /// Whether it is announced with an IPv4 address, an IPv6 address.
    pub(crate) families: (bool, bool),
    pub(crate) queue: Queue,
    pub(crate) ejection: Ejection,
    pub(crate) active: u32,
    pub(crate) weight: u32,
    /// Its connects take long.
    pub(crate) slow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    LeastLoad,
    RoundRobin,
    Random,
}

/// Families that a caller's socket reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    V4,
    V6,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fitness {
    Fit,
    Sick,
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Replica {
    /// The family of the listener that this caller would reach.
    pub(crate) fn reached(&self, caller: Caller) -> Option<Family> {
        let listens = PLACES[self.place];
        if caller != Caller::V6 && self.families.0 && listens.0 {
            Some(Family::V4)
        } else if caller != Caller::V4 && self.families.1 && listens.1 {
            Some(Family::V6)
        } else {
            None
        }
    }

    pub(crate) fn fitness(&self, caller: Caller) -> Fitness {
        match (self.reached(caller), self.queue, self.ejection) {
            (None, ..) => Fitness::Gone,
            (_, Queue::Hangs, _) | (.., Ejection::Lasts | Ejection::Tried) => Fitness::Sick,
            _ => Fitness::Fit,
        }
    }

    /// Whether it is known to be out before anybody looks at its listener.
    pub(crate) fn out(&self) -> bool {
        matches!(self.ejection, Ejection::Lasts | Ejection::Tried)
    }

    fn better_than(&self, other: &Self, by_latency: bool) -> bool {
        if self.out() != other.out() {
            return other.out();
        }
        let load = |r: &Self| f64::from(r.active + 1) / f64::from(r.weight);
        if (load(self) - load(other)).abs() > 1e-9 {
            return load(self) < load(other);
        }
        by_latency && other.slow && !self.slow
    }
}

/// A service and who calls it. The replicas are in the order of the slots.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    pub(crate) replicas: Vec<Replica>,
    pub(crate) policy: Policy,
    pub(crate) caller: Caller,
    /// Of the walk.
    pub(crate) step: usize,
}

/// What may be taken, and how likely that is; nobody: the call is refused.
pub(crate) type Chances = BTreeMap<Option<usize>, f64>;

impl Case {
    /// What may be taken, wherever the draws fall.
    pub(crate) fn chances(&self) -> Chances {
        let len = self.replicas.len();
        let mut chances = Chances::new();
        for start in 0..len {
            for (taken, chance) in self.chances_from(start) {
                *chances.entry(taken).or_insert(0.0) += chance / len as f64;
            }
        }
        chances
    }

    /// The same when the first draw fell on slot `start`.
    pub(crate) fn chances_from(&self, start: usize) -> Chances {
        let len = self.replicas.len();
        if self.policy != Policy::LeastLoad || len == 1 {
            return [(self.taken(start, &[start]), 1.0)].into();
        }
        let mut chances = Chances::new();
        for other in (0..len).filter(|other| *other != start) {
            for (by_latency, share) in [(true, 7.0 / 8.0), (false, 1.0 / 8.0)] {
                let (a, b) = (&self.replicas[start], &self.replicas[other]);
                let swap = b.better_than(a, by_latency);
                let drawn = if swap { [other, start] } else { [start, other] };
                *chances.entry(self.taken(start, &drawn)).or_insert(0.0) +=
                    share / (len - 1) as f64;
            }
        }
        chances
    }

    /// The first fit one of those that are looked at, else the first sick one.
    fn taken(&self, start: usize, drawn: &[usize]) -> Option<usize> {
        let len = self.replicas.len();
        let walk = (1..len).map(|n| (start + n * self.step) % len);
        let looked_at: Vec<usize> = drawn.iter().copied().chain(walk).collect();
        let first = |wanted: Fitness| {
            let is = |slot: &&usize| self.replicas[**slot].fitness(self.caller) == wanted;
            looked_at.iter().find(is).copied()
        };
        first(Fitness::Fit).or_else(|| first(Fitness::Sick))
    }
}

/// Small and good enough to make cases (a linear congruential generator, its high half).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// A case; how bad a time its service has is drawn first, so that all sick, all gone and all
    /// well come often enough.
    pub(crate) fn case(&mut self) -> Case {
        let len = 1 + self.below(17);
        let (sick, gone) = (self.one_of(&[0, 20, 60, 100]), self.one_of(&[0, 0, 30, 100]));
        let loaded = self.one_of(&[1, 2, 500]);
        let mut places: Vec<usize> = (0..PLACES.len()).collect();
        let replicas: Vec<Replica> = (0..len)
            .map(|_| {
                let place = places.swap_remove(self.below(places.len()));
                self.replica(place, sick, gone, loaded)
            })
            .collect();
        Case {
            step: self.step(replicas.len()),
            replicas,
            policy: self.one_of(&[
                Policy::LeastLoad,
                Policy::LeastLoad,
                Policy::RoundRobin,
                Policy::Random,
            ]),
            caller: self.one_of(&[Caller::V4, Caller::V6, Caller::Both]),
        }
    }

    fn replica(&mut self, place: usize, sick: usize, gone: usize, loaded: usize) -> Replica {
        let mut replica = Replica {
            place,
            families: (true, true),
            queue: self.one_of(&[Queue::Empty, Queue::Empty, Queue::Empty, Queue::Busy]),
            ejection: self.one_of(&[
                Ejection::Never,
                Ejection::Never,
                Ejection::Ended,
                Ejection::Lapsed,
            ]),
            active: self.below(loaded) as u32,
            weight: self.one_of(&[256, 256, 512, 1, 65_535]),
            slow: self.below(4) == 0,
        };
        if self.below(100) < sick {
            if self.below(2) == 0 {
                replica.queue = Queue::Hangs;
            } else {
                replica.ejection = self.one_of(&[Ejection::Lasts, Ejection::Tried]);
            }
        }
        if self.below(100) < gone {
            replica.families = self.one_of(&[(true, false), (false, true)]);
        }
        replica
    }

    /// Coprime to `len`.
    fn step(&mut self, len: usize) -> usize {
        let divides_both = |d: &usize, n: usize| n.is_multiple_of(*d) && len.is_multiple_of(*d);
        let coprime = |step: &usize| !(2..=*step).any(|d| divides_both(&d, *step));
        let steps: Vec<usize> = (1..=len).filter(coprime).collect();
        self.one_of(&steps)
    }
}
