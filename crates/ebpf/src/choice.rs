//! Which backend a connection gets.
//!
//! Two distinct slots are drawn and the backend with fewer open connections for its weight is
//! taken (M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001). Connect
//! latency breaks ties only, since a frozen process still accepts quickly, and only when one is
//! clearly slower, else a quiet service would send every call to the same backend; one tie in
//! eight ignores it, so that a backend is not judged for ever by one bad day. Only the winner is
//! examined, because looking at a listener costs more than all the rest. When it is not fit, the
//! other one is; when neither is, a walk visits the slots without repeating any, and then those in
//! reserve.

use sinew_abi::{NONE, Service, balance};

/// How many slots the walk visits at most: it bounds what one connect() may cost. A set with more
/// backends than this, all of those unfit, is answered by the spare.
pub const WALK: u32 = 128;

/// Fit to be taken.
pub const FIT: u32 = 0;
/// Held sick (ejected or hung), yet listening: taken only when nothing better is left.
pub const SICK: u32 = 1;
/// Not there: no listener, or no such backend.
pub const GONE: u32 = 2;

/// What the choice knows of a backend without examining it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Open connections.
    pub active: u32,
    /// Relative capacity, at least 1.
    pub weight: u32,
    /// Smoothed connect time, microseconds.
    pub connect_us: u32,
    /// Whether it is ejected now.
    pub ejected: bool,
}

/// Where the choice looks things up.
pub trait Candidates {
    /// The backend in slot `index` of the whole table, or [`NONE`].
    fn slot(&self, index: u32) -> u32;
    /// The load of a backend.
    fn load(&self, backend: u32) -> Load;
    /// [`FIT`], [`SICK`] or [`GONE`]. May take the probe of an ejected backend.
    fn examine(&self, backend: u32) -> u32;
}

/// What was chosen.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The backend, or [`NONE`].
    pub backend: u32,
    /// Whether it was taken although sick, for want of a better one.
    pub panic: bool,
}

const NOTHING: Choice = Choice { backend: NONE, panic: false };

/// The two draws: what they give, or where the walk begins when neither is fit.
#[inline(always)]
pub fn draw(from: &impl Candidates, service: &Service, random: u32, turn: u32) -> (Choice, Walk) {
    let len = service.len;
    let mut walk = Walk {
        base: service.base,
        len,
        step: service.step,
        at: 0,
        left: len.saturating_sub(1),
        reserve: service.reserve,
        random,
        choice: NOTHING,
    };
    if len == 0 {
        return (NOTHING, walk);
    }
    // One random word serves both draws: the high half of the product is uniform below `len`, and
    // its low half, which the first draw did not use, makes the second.
    let wide = u64::from(random) * u64::from(len);
    let start =
        if service.balance == balance::ROUND_ROBIN { turn % len } else { (wide >> 32) as u32 };
    walk.at = start;
    let mut winner = from.slot(service.base.wrapping_add(start));
    let mut loser = NONE;
    if service.balance == balance::LEAST_LOAD && len > 1 {
        let skip = 1 + ((u64::from(wide as u32) * u64::from(len - 1)) >> 32) as u32;
        loser = from.slot(service.base.wrapping_add(wrap(start, skip, len)));
        if lighter(&from.load(loser), &from.load(winner), random & 7 != 0) {
            (winner, loser) = (loser, winner);
        }
    }
    match from.examine(winner) {
        FIT => return (Choice { backend: winner, panic: false }, walk),
        SICK => walk.choice = Choice { backend: winner, panic: true },
        _ => {}
    }
    if loser != NONE {
        match from.examine(loser) {
            FIT => return (Choice { backend: loser, panic: false }, walk),
            SICK if walk.choice.backend == NONE => {
                walk.choice = Choice { backend: loser, panic: true };
            }
            _ => {}
        }
    }
    (walk.choice, walk)
}

/// The slow path, when neither draw is fit: from the slot after the first draw, by steps coprime
/// to the length, so that no slot is visited twice. Then the reserve from anywhere, one by one.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    base: u32,
    len: u32,
    step: u32,
    at: u32,
    /// Steps until the reserve begins.
    left: u32,
    /// Its length; 0: there is none, or it has begun.
    reserve: u32,
    random: u32,
    /// What is taken if the walk ends here.
    pub choice: Choice,
}

impl Walk {
    /// How many steps there are.
    #[inline(always)]
    pub fn steps(&self) -> u32 {
        let all = self.left.saturating_add(self.reserve);
        if all > WALK { WALK } else { all }
    }

    /// One step; true when a fit backend was found.
    #[inline(always)]
    pub fn step(&mut self, from: &impl Candidates) -> bool {
        if self.left == 0 {
            self.enter_reserve();
        } else {
            self.left -= 1;
            self.at = wrap(self.at, self.step, self.len);
        }
        let backend = from.slot(self.base.wrapping_add(self.at));
        match from.examine(backend) {
            FIT => {
                self.choice = Choice { backend, panic: false };
                return true;
            }
            SICK if self.choice.backend == NONE => self.choice = Choice { backend, panic: true },
            _ => {}
        }
        false
    }
}

impl Walk {
    #[inline(always)]
    fn enter_reserve(&mut self) {
        self.base = self.base.wrapping_add(self.len);
        self.len = self.reserve;
        self.left = self.reserve.wrapping_sub(1);
        self.reserve = 0;
        self.step = 1;
        self.at = ((u64::from(self.random) * u64::from(self.len)) >> 32) as u32;
    }
}

/// The whole choice, as the kernel makes it with a loop helper of its own.
#[cfg(test)]
fn choose(from: &impl Candidates, service: &Service, random: u32, turn: u32) -> Choice {
    let (choice, mut walk) = draw(from, service, random, turn);
    if choice.backend != NONE && !choice.panic {
        return choice;
    }
    for _ in 0..walk.steps() {
        if walk.step(from) {
            break;
        }
    }
    walk.choice
}

/// Spreads numbers that follow one another evenly over all words: the finalizer of splitmix64
/// (G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
#[inline(always)]
pub const fn mix(number: u64) -> u32 {
    let z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z >> 32) as u32
}

/// `(at + by) % len` for `at < len`, `by <= len`, without a division.
#[inline(always)]
const fn wrap(at: u32, by: u32, len: u32) -> u32 {
    let sum = at.wrapping_add(by);
    if sum >= len { sum - len } else { sum }
}

/// Whether `a` is to be preferred to `b`. Cross-multiplied: the target divides slowly.
#[inline(always)]
fn lighter(a: &Load, b: &Load, by_latency: bool) -> bool {
    if a.ejected != b.ejected {
        return b.ejected;
    }
    let (x, y) = (
        (u64::from(a.active) + 1) * u64::from(b.weight),
        (u64::from(b.active) + 1) * u64::from(a.weight),
    );
    x < y || (x == y && by_latency && clearly_slower(b.connect_us, a.connect_us))
}

/// More than twice as slow, and by more than what scheduling alone explains.
#[inline(always)]
fn clearly_slower(this_us: u32, than_us: u32) -> bool {
    u64::from(this_us) > u64::from(than_us) * 2 + 1000
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{cell::RefCell, collections::BTreeMap, vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{self, Ejection},
        outlier,
    };

    struct Table {
        slots: Vec<u32>,
        loads: Vec<Load>,
        states: Vec<u32>,
        examined: RefCell<Vec<u32>>,
    }

    impl Candidates for Table {
        fn slot(&self, index: u32) -> u32 {
            self.slots.get(index as usize).copied().unwrap_or(NONE)
        }
        fn load(&self, backend: u32) -> Load {
            self.loads[backend as usize]
        }
        fn examine(&self, backend: u32) -> u32 {
            self.examined.borrow_mut().push(backend);
            self.states[backend as usize]
        }
    }

    const IDLE: Load = Load { active: 0, weight: 256, connect_us: 0, ejected: false };

    fn table(states: Vec<u32>) -> Table {
        let len = states.len();
        Table {
            slots: (0..len as u32).collect(),
            loads: vec![IDLE; len],
            states,
            examined: RefCell::default(),
        }
    }

    fn coprime(len: u32) -> u32 {
        fn gcd(a: u32, b: u32) -> u32 {
            if b == 0 { a } else { gcd(b, a % b) }
        }
        (1..=len).rev().find(|s| gcd(*s, len) == 1).unwrap_or(1)
    }

    fn service(len: u32, policy: u32) -> Service {
        Service { len, step: coprime(len), balance: policy, ..Service::ZERO }
    }

    proptest! {
        #[test]
        fn the_reserve_is_taken_when_nobody_else_is_fit(
            states in prop::collection::vec(0u32..3, 0..60),
            reserve in prop::collection::vec(0u32..3, 0..60),
            random: u32, turn: u32, policy in 0u32..3,
        ) {
            let table = table([states.clone(), reserve.clone()].concat());
            let len = states.len() as u32;
            let service = Service { reserve: reserve.len() as u32, ..service(len, policy) };
            let choice = choose(&table, &service, random, turn);
            let state = |backend: u32| table.states[backend as usize];
            if states.contains(&FIT) {
                prop_assert!(choice.backend < len && state(choice.backend) == FIT);
            } else if reserve.contains(&FIT) {
                prop_assert!(choice.backend >= len && state(choice.backend) == FIT);
                prop_assert!(!choice.panic);
            } else if states.contains(&SICK) || reserve.contains(&SICK) {
                prop_assert!(choice.panic && state(choice.backend) == SICK);
                prop_assert!(choice.backend < len || !states.contains(&SICK));
            } else {
                prop_assert_eq!(choice.backend, NONE);
            }
            // The second draw lies on the walk's way.
            prop_assert!(table.examined.borrow().len() <= table.states.len() + 1);
        }

        #[test]
        fn all_of_the_reserve_gets_calls(random: [u32; 64]) {
            let table = table(vec![GONE, FIT, FIT, FIT]);
            let service = Service { reserve: 3, ..service(1, balance::LEAST_LOAD) };
            let takes = |word| choose(&table, &service, word, 0).backend;
            let spread = (0..64u32).map(|n| n << 26);
            let taken: std::collections::BTreeSet<u32> = spread.map(takes).collect();
            prop_assert_eq!(taken.into_iter().collect::<Vec<_>>(), vec![1, 2, 3]);
            for word in random {
                prop_assert!(takes(word) > 0);
            }
        }

        #[test]
        fn takes_a_fit_backend_whenever_there_is_one(
            states in prop::collection::vec(0u32..3, 1..100),
            random: u32, turn: u32, policy in 0u32..3,
        ) {
            let table = table(states.clone());
            let choice = choose(&table, &service(states.len() as u32, policy), random, turn);
            let best = *states.iter().min().unwrap();
            match best {
                FIT => {
                    prop_assert!(!choice.panic);
                    prop_assert_eq!(states[choice.backend as usize], FIT);
                }
                SICK => {
                    prop_assert!(choice.panic);
                    prop_assert_eq!(states[choice.backend as usize], SICK);
                }
                _ => prop_assert_eq!(choice.backend, NONE),
            }
        }

        #[test]
        fn the_walk_repeats_no_slot(len in 1u32..120, random: u32) {
            let table = table(vec![GONE; len as usize]);
            choose(&table, &service(len, balance::RANDOM), random, 0);
            let mut seen = table.examined.borrow().clone();
            prop_assert_eq!(seen.len(), len as usize);
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), len as usize);
        }

        #[test]
        fn the_lighter_of_two_distinct_ones(random: u32, heavy in 0u32..2, active in 1u32..1000) {
            let mut table = table(vec![FIT, FIT]);
            table.loads[heavy as usize].active = active;
            let choice = choose(&table, &service(2, balance::LEAST_LOAD), random, 0);
            prop_assert_eq!(choice.backend, 1 - heavy);
        }

        #[test]
        fn weight_divides_load(random: u32) {
            let mut table = table(vec![FIT, FIT]);
            table.loads[0] = Load { active: 5, weight: 512, ..IDLE };
            table.loads[1] = Load { active: 3, weight: 256, ..IDLE };
            prop_assert_eq!(choose(&table, &service(2, balance::LEAST_LOAD), random, 0).backend, 0);
        }
    }

    /// A case of the model as the choice sees it.
    fn seen(case: &model::Case) -> (Table, Service) {
        const NOW: u64 = 1_000_000;
        const RULE: sinew_abi::Outlier =
            sinew_abi::Outlier { probe_ns: 1_000, ..sinew_abi::Outlier::ZERO };
        let numbers = |replica: &model::Replica| match replica.ejection {
            Ejection::Never => (0, 0),
            Ejection::Lasts => (NOW + 1, 0),
            Ejection::Ended => (NOW, 0),
            Ejection::Tried => (NOW, NOW - RULE.probe_ns),
            Ejection::Lapsed => (NOW, NOW - RULE.probe_ns - 1),
        };
        let load = |replica: &model::Replica| {
            let (until, probe) = numbers(replica);
            let waits = until != 0 && !outlier::lease_free(&RULE, probe, NOW);
            Load {
                active: replica.active,
                weight: replica.weight,
                connect_us: if replica.slow { 50_000 } else { 0 },
                ejected: outlier::ejected(until, NOW) || waits,
            }
        };
        let state = |replica: &model::Replica| match replica.reached(case.caller) {
            None => GONE,
            Some(_) if replica.queue == model::Queue::Hangs => SICK,
            Some(_) => {
                let (until, probe) = numbers(replica);
                let probes =
                    outlier::needs_probe(until, NOW) && outlier::lease_free(&RULE, probe, NOW);
                if until == 0 || probes { FIT } else { SICK }
            }
        };
        let balance = match case.policy {
            model::Policy::LeastLoad => balance::LEAST_LOAD,
            model::Policy::RoundRobin => balance::ROUND_ROBIN,
            model::Policy::Random => balance::RANDOM,
        };
        let len = case.replicas.len() as u32;
        let table = Table {
            loads: case.replicas.iter().map(load).collect(),
            ..table(case.replicas.iter().map(state).collect())
        };
        (table, Service { len, step: case.step as u32, balance, ..Service::ZERO })
    }

    proptest! {
        #[test]
        fn as_the_model_allows(seed: u64) {
            let mut random = model::Random(seed);
            let case = random.case();
            let (table, service) = seen(&case);
            let any = case.chances();
            let mut missing = any.clone();
            missing.retain(|_, chance| *chance > 0.02);
            for turn in 0..1_000 {
                let word = (random.below(1 << 16) << 16 | random.below(1 << 16)) as u32;
                let choice = choose(&table, &service, word, turn);
                let taken = (choice.backend != NONE).then_some(choice.backend as usize);
                let allowed = match case.policy {
                    model::Policy::RoundRobin => {
                        case.chances_from(turn as usize % case.replicas.len()).contains_key(&taken)
                    }
                    _ => any.contains_key(&taken),
                };
                prop_assert!(allowed, "{:?}: {:?}", taken, case);
                let sick = taken.is_some_and(|slot| {
                    case.replicas[slot].fitness(case.caller) == model::Fitness::Sick
                });
                prop_assert_eq!(choice.panic, sick);
                missing.remove(&taken);
            }
            prop_assert!(missing.is_empty(), "never taken: {:?}: {:?}", missing, case);
        }
    }

    #[test]
    fn a_tie_goes_to_the_clearly_faster_most_of_the_time() {
        let mut table = table(vec![FIT, FIT]);
        table.loads[0].connect_us = 50_000;
        let taken = |random: u32| {
            choose(&table, &service(2, balance::LEAST_LOAD), random.wrapping_mul(2_654_435_761), 0)
                .backend
        };
        let fast = (0..8_000).filter(|r| taken(*r) == 1).count();
        assert!((7_000..8_000).contains(&fast), "{fast}");
    }

    #[test]
    fn round_robin_takes_turns() {
        let table = table(vec![FIT; 3]);
        let taken: Vec<u32> = (0..6)
            .map(|turn| choose(&table, &service(3, balance::ROUND_ROBIN), 7, turn).backend)
            .collect();
        assert_eq!(taken, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn draws_are_even() {
        let mut table = table(vec![FIT; 5]);
        table.loads[3].connect_us = 900;
        let mut counts = BTreeMap::new();
        let mut random = 1u32;
        for _ in 0..50_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let choice = choose(&table, &service(5, balance::LEAST_LOAD), random, 0);
            *counts.entry(choice.backend).or_insert(0) += 1;
        }
        assert!(counts.values().all(|n| (9_000..11_000).contains(n)), "{counts:?}");
    }

    #[test]
    fn numbers_in_a_row_draw_evenly() {
        // Cookies come from every CPU in rows of their own.
        for stride in [1, 2, 64, 4096] {
            let table = table(vec![FIT; 7]);
            let mut counts = [[0u32; 7]; 2];
            let mut last = 0;
            for n in 0..70_000u64 {
                let random = mix((1 << 40) + n * stride);
                let taken = choose(&table, &service(7, balance::RANDOM), random, 0).backend;
                counts[0][taken as usize] += 1;
                counts[1][(7 + taken as usize - last) % 7] += 1;
                last = taken as usize;
            }
            assert!(counts.iter().flatten().all(|n| (9_500..10_500).contains(n)), "{counts:?}");
        }
    }

    #[test]
    fn an_empty_service_has_nothing() {
        assert_eq!(choose(&table(vec![]), &service(0, balance::LEAST_LOAD), 9, 9), NOTHING);
    }
}
