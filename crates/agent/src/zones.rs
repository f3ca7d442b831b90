//! How the calls of a host spread over zones: its own first, a share to others when its own falls
//! short, all of the rest in reserve for the kernel.
//!
//! The share follows the load of priorities with an overprovisioning factor of Envoy
//! (<https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority>):
//! a zone that has lost little is expected to carry the load of what it lost.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher as _},
    time::Duration,
};

use sinew_model::{NodeName, Protocol, fleet::EndpointKey};

/// What a zone carries of what it has lost: 1.4 times the healthy share of its capacity.
const OVERPROVISIONED_PERCENT: u64 = 140;
/// Shares are counted in these.
const WHOLE: u64 = 1000;
/// How much of the calls comes back to a zone that recovered in a second.
const RETURN_PER_SECOND: u64 = WHOLE / 10;
/// Slots of one backend at most.
const MAX_SLOTS: u64 = 16;

/// How near the slots come to the share that leaves a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grain {
    /// As near as can be.
    Fine,
    /// With one slot a backend, where slots are short: few of other zones take part.
    Coarse,
}

impl Grain {
    const fn slots(self) -> u64 {
        match self {
            Self::Fine => MAX_SLOTS,
            Self::Coarse => 1,
        }
    }
}

/// An endpoint as the spread sees it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// Which.
    pub(crate) key: EndpointKey,
    /// Whether it is in the zone of this host.
    pub(crate) near: bool,
    /// Relative capacity.
    pub(crate) weight: u32,
    /// Whether it serves: up, not ejected, not hung.
    pub(crate) well: bool,
    /// Whether it counts as capacity of its zone: what comes or goes does not.
    pub(crate) counts: bool,
    /// What its zone gets of its share of calls; 0: it is evacuated.
    pub(crate) percent: u8,
}

impl Candidate {
    fn evacuated(&self) -> bool {
        self.percent == 0
    }
}

/// What becomes of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Slots in the draw; 0: in reserve.
    pub(crate) slots: u8,
    /// Weight by which its load is compared.
    pub(crate) weight: u32,
}

/// What leaves the zone of this host, remembered: it goes at once and returns by steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spill {
    /// In thousandths.
    share: u64,
    /// When that was.
    at: Duration,
}

/// Of the ports of a service.
pub(crate) type Spills = BTreeMap<(u16, Protocol), Spill>;

impl Spill {
    /// Whether calls leave the zone although it could carry them: it shall be looked at again soon.
    pub(crate) fn returns(&self, candidates: &[Candidate]) -> bool {
        self.share > needed(candidates)
    }

    /// The share of the calls that others get, in percent.
    #[cfg(test)]
    pub(crate) fn percent(&self) -> u64 {
        (self.share * 100).div_ceil(WHOLE)
    }

    /// Places for all of them, in their order. `now` is monotonic, from any beginning.
    pub(crate) fn spread(
        &mut self,
        host: &NodeName,
        candidates: &[Candidate],
        grain: Grain,
        now: Duration,
    ) -> Vec<Place> {
        let needed = needed(candidates);
        let steps = now.saturating_sub(self.at).as_millis() as u64;
        let back = self.share.saturating_sub(steps.saturating_mul(RETURN_PER_SECOND) / 1000);
        let share = needed.max(back);
        if share != self.share || self.share == needed {
            *self = Self { share, at: now };
        }
        let keeps = |c: &&Candidate| c.near && !c.evacuated();
        // Those that are not well are drawn as well, so that they can prove themselves; callers who
        // draw one walk on, to all others alike.
        let near = candidates.iter().filter(keeps).filter(|c| c.well).count() as u64;
        let takes: Vec<usize> = far(host, candidates, near, share, grain);
        let (of_near, of_far) = slots(near, takes.len() as u64, share, grain);
        let mut places: Vec<Place> = candidates
            .iter()
            .map(|c| Place { slots: if keeps(&c) { of_near } else { 0 }, weight: c.weight })
            .collect();
        for index in takes {
            // A zone that comes back gets its calls by steps.
            let Candidate { weight, percent, .. } = candidates[index];
            let weight = (u64::from(weight) * u64::from(percent) / 100).max(1);
            // Else the lighter load of the few calls that they get would draw more of them.
            let weight =
                if of_near == 0 { weight } else { weight * u64::from(of_far) / u64::from(of_near) };
            places[index] = Place { slots: of_far, weight: (weight as u32).max(1) };
        }
        if places.iter().all(|place| place.slots == 0) {
            // Whatever is evacuated: there is nothing else.
            places.iter_mut().for_each(|place| place.slots = 1);
        }
        places
    }
}

/// The share of the calls that the zone cannot carry, in thousandths.
fn needed(candidates: &[Candidate]) -> u64 {
    let capacity = |of: &dyn Fn(&Candidate) -> bool| -> u64 {
        candidates.iter().filter(|c| of(c)).map(|c| u64::from(c.weight)).sum()
    };
    let all = capacity(&|c| c.near && c.counts);
    let well = capacity(&|c| c.near && c.counts && c.well && !c.evacuated());
    let share = candidates.iter().filter(|c| c.near).map(|c| u64::from(c.percent)).min();
    let helpers = capacity(&|c| !c.near && c.well && !c.evacuated());
    if helpers == 0 {
        return if well == 0 && all == 0 { WHOLE } else { 0 };
    }
    if all == 0 {
        return WHOLE;
    }
    let carries = (WHOLE * well * OVERPROVISIONED_PERCENT / 100 / all).min(WHOLE);
    WHOLE - carries * share.unwrap_or(100).min(100) / 100
}

/// Those of other zones that share what leaves this one. When the share is small against their
/// number, each host takes some of its own choice: all of them together still serve evenly.
fn far(
    host: &NodeName,
    candidates: &[Candidate],
    near: u64,
    share: u64,
    grain: Grain,
) -> Vec<usize> {
    if share == 0 {
        return Vec::new();
    }
    let helps = |c: &Candidate| !c.near && c.well && !c.evacuated();
    let mut far: Vec<usize> =
        (0..candidates.len()).filter(|index| helps(&candidates[*index])).collect();
    if share < WHOLE {
        let most = (grain.slots() * near * share).div_ceil(WHOLE - share).max(1) as usize;
        if far.len() > most {
            // Rendezvous hashing (D. Thaler, C. Ravishankar, 1998): few move when one comes or goes.
            far.sort_by_cached_key(|index| {
                let mut hasher = DefaultHasher::new();
                (host, &candidates[*index].key).hash(&mut hasher);
                hasher.finish()
            });
            far.truncate(most);
        }
    }
    far
}

/// Slots of one near and of one far backend that come nearest to the share.
fn slots(near: u64, far: u64, share: u64, grain: Grain) -> (u8, u8) {
    if far == 0 || share == 0 {
        return (1, 0);
    }
    if near == 0 || share == WHOLE {
        return (0, 1);
    }
    let wrong = |(of_near, of_far): &(u64, u64)| {
        let (leaves, all) = (far * of_far, far * of_far + near * of_near);
        // Both sides in the same unit: |leaves / all - share / WHOLE|, by a million.
        (leaves * 1_000_000 / all).abs_diff(share * 1_000_000 / WHOLE)
    };
    let all = 1..=grain.slots();
    let pairs = all.clone().flat_map(|a| all.clone().map(move |b| (a, b)));
    let (of_near, of_far) = pairs.min_by_key(wrong).unwrap_or((1, 1));
    (of_near as u8, of_far as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(instance: u32, near: bool, well: bool) -> Candidate {
        let node = NodeName::new(if near { "here" } else { "there" }).unwrap();
        let key = EndpointKey { node, instance };
        Candidate { key, near, weight: 256, well, counts: true, percent: 100 }
    }

    fn set(near: &[bool], far: &[bool]) -> Vec<Candidate> {
        let near = near.iter().enumerate().map(|(n, well)| candidate(n as u32, true, *well));
        let far = far.iter().enumerate().map(|(n, well)| candidate(n as u32, false, *well));
        near.chain(far).collect()
    }

    fn host() -> NodeName {
        NodeName::new("host").unwrap()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    /// The share of the slots of those that are well that lie in other zones, in percent.
    fn leaves(candidates: &[Candidate], places: &[Place]) -> u64 {
        let sum = |near: bool| -> u64 {
            let of = candidates.iter().zip(places).filter(|(c, _)| c.well && c.near == near);
            of.map(|(_, place)| u64::from(place.slots)).sum()
        };
        sum(false) * 100 / (sum(false) + sum(true)).max(1)
    }

    fn spread(candidates: &[Candidate]) -> Vec<Place> {
        Spill::default().spread(&host(), candidates, Grain::Fine, at(0))
    }

    #[test]
    fn the_own_zone_comes_first_and_the_rest_waits() {
        let all = set(&[true, true], &[true, true]);
        let slots: Vec<u8> = spread(&all).iter().map(|place| place.slots).collect();
        assert_eq!(slots, [1, 1, 0, 0]);
        // Up to 2 of 7 may fail: the others carry it.
        let some = set(&[true, true, true, true, true, false, false], &[true]);
        assert_eq!(leaves(&some, &spread(&some)), 0);
    }

    #[test]
    fn a_share_leaves_when_the_zone_falls_short() {
        // Half of it is well: 1.4 halves of the load stay.
        let half = set(&[true, false], &[true, true]);
        assert_eq!(leaves(&half, &spread(&half)), 30);
        let places = spread(&half);
        assert!(places[2].weight < 256 && places[0].weight == 256, "{places:?}");
        let none = set(&[false, false], &[true, true]);
        let slots: Vec<u8> = spread(&none).iter().map(|place| place.slots).collect();
        assert_eq!(slots, [0, 0, 1, 1], "in reserve, for the kernel may know better");
        let elsewhere = set(&[], &[true, false]);
        let slots: Vec<u8> = spread(&elsewhere).iter().map(|place| place.slots).collect();
        assert_eq!(slots, [1, 0]);
    }

    #[test]
    fn what_left_returns_by_steps() {
        let (ill, well) = (set(&[false, false], &[true]), set(&[true, true], &[true]));
        let mut spill = Spill::default();
        spill.spread(&host(), &ill, Grain::Fine, at(0));
        assert_eq!(spill.percent(), 100);
        let mut seen = Vec::new();
        for second in 0..=11 {
            spill.spread(&host(), &well, Grain::Fine, at(second));
            seen.push(spill.percent());
        }
        assert_eq!(seen, [100, 90, 80, 70, 60, 50, 40, 30, 20, 10, 0, 0]);
        assert!(!spill.returns(&well));
        // Looking often neither speeds it up nor holds it up.
        spill.spread(&host(), &ill, Grain::Fine, at(20));
        for tick in 0..100 {
            spill.spread(&host(), &well, Grain::Fine, at(20) + Duration::from_millis(tick * 10));
        }
        assert!((90..=91).contains(&spill.percent()), "{}", spill.percent());
        assert!(spill.returns(&well));
        // A new need is met at once.
        spill.spread(&host(), &ill, Grain::Fine, at(21));
        assert_eq!(spill.percent(), 100);
    }

    #[test]
    fn an_evacuated_zone_gets_nothing_unless_there_is_nothing_else() {
        let mut own = set(&[true, true], &[true]);
        own.iter_mut().filter(|c| c.near).for_each(|c| c.percent = 0);
        let slots: Vec<u8> = spread(&own).iter().map(|place| place.slots).collect();
        assert_eq!(slots, [0, 0, 1]);
        own.iter_mut().for_each(|c| c.percent = 0);
        let slots: Vec<u8> = spread(&own).iter().map(|place| place.slots).collect();
        assert_eq!(slots, [1, 1, 1]);
        let mut other = set(&[false, false], &[true, true]);
        other[2].percent = 0;
        let slots: Vec<u8> = spread(&other).iter().map(|place| place.slots).collect();
        assert_eq!(slots, [0, 0, 0, 1]);
    }

    #[test]
    fn few_calls_go_to_few_of_many() {
        let near = [vec![true; 70], vec![false; 30]].concat();
        let many = set(&near, &[true; 2000]);
        let places = spread(&many);
        let taken = places[100..].iter().filter(|place| place.slots > 0).count();
        assert!(taken > 0 && taken < 100, "{taken}");
        let other =
            Spill::default().spread(&NodeName::new("other").unwrap(), &many, Grain::Fine, at(0));
        assert_ne!(places, other, "another host takes others");
    }

    #[test]
    fn where_slots_are_short_each_backend_takes_one_and_the_share_is_near_still() {
        let near = [vec![true; 7], vec![false; 3]].concat();
        let all = set(&near, &[true; 40]);
        let places = Spill::default().spread(&host(), &all, Grain::Coarse, at(0));
        assert!(places.iter().all(|place| place.slots <= 1), "{places:?}");
        let fine = leaves(&all, &spread(&all));
        let coarse = leaves(&all, &places);
        assert!(coarse > 0 && coarse.abs_diff(fine) <= 12, "{coarse} % for {fine} %");
    }

    proptest! {
        #[test]
        fn the_slots_come_near_the_share(
            near in prop::collection::vec(any::<bool>(), 1..60),
            far in prop::collection::vec(any::<bool>(), 1..60),
        ) {
            let all = set(&near, &far);
            let places = spread(&all);
            prop_assert_eq!(places.len(), all.len());
            prop_assert!(places.iter().any(|place| place.slots > 0));
            // No more leaves to few than all their slots can take beside one of each near one.
            let well = |near: bool| all.iter().filter(|c| c.near == near && c.well).count() as u64;
            let (near, far) = (well(true), MAX_SLOTS * well(false));
            let most = if far > 0 { far * 100 / (far + near) } else { 100 };
            let needed = (needed(&all) * 100 / WHOLE).min(most);
            let leaves = leaves(&all, &places);
            prop_assert!(leaves.abs_diff(needed) <= 3, "{leaves} % for {needed} %");
            // Nobody of another zone who is not well is drawn while others are.
            for (candidate, place) in all.iter().zip(&places) {
                let helps = candidate.near || candidate.well || needed == 100 || leaves == 0;
                prop_assert!(place.slots == 0 || helps);
            }
        }

        /// As the kernel chooses: two distinct slots, the lighter for its weight. Calls that last
        /// are held, the oldest ends when there are enough.
        #[test]
        fn the_calls_come_near_the_share(
            well in 1usize..6, ill in 0usize..6, far in 1usize..8, seed: u64,
        ) {
            let all = set(&[vec![true; well], vec![false; ill]].concat(), &vec![true; far]);
            let places = spread(&all);
            // Those that are not well are walked past.
            let takes = |n: &usize| !all[*n].near || all[*n].well;
            let slots: Vec<usize> = (0..all.len())
                .filter(takes)
                .flat_map(|n| std::iter::repeat_n(n, places[n].slots.into()))
                .collect();
            let (mut active, mut held) = (vec![0u64; all.len()], std::collections::VecDeque::new());
            let (mut state, mut left) = (seed | 1, 0u64);
            let mut random = |below: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 11) as usize % below
            };
            const CALLS: u64 = 20_000;
            for _ in 0..CALLS {
                let first = random(slots.len());
                let pick = if slots.len() > 1 {
                    let second = (first + 1 + random(slots.len() - 1)) % slots.len();
                    let (a, b) = (slots[first], slots[second]);
                    let load = |n: usize, by: usize| (active[n] + 1) * u64::from(places[by].weight);
                    if load(b, a) < load(a, b) { b } else { a }
                } else {
                    slots[first]
                };
                active[pick] += 1;
                held.push_back(pick);
                left += u64::from(!all[pick].near);
                if held.len() > 400 {
                    active[held.pop_front().unwrap()] -= 1;
                }
            }
            let needed = needed(&all) * 100 / WHOLE;
            let percent = left * 100 / CALLS;
            prop_assert!(percent.abs_diff(needed) <= 12, "{percent} % for {needed} %: {places:?}");
        }
    }
}
