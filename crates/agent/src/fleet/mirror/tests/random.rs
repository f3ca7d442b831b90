//! Any order of messages, right ones and wrong ones, against what is true and a naive count.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const KEYS: u32 = 24;

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u32, EndpointStatus),
    Remove(u32, Removal),
    /// Control sends what is right.
    Send {
        behind: usize,
        whole: bool,
    },
    /// Control sends a set that lacks what the bits leave out.
    SendPartial(u32),
    SendEmpty,
    Deliver(usize),
    Duplicate(usize),
    Lose(usize),
    /// All that is under way is lost, and a replica that is so far behind sends its state.
    Reconnect(usize),
    Restart,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use EndpointStatus::*;
    let status =
        prop_oneof![4 => Just(Up), 2 => Just(Unhealthy), 1 => Just(Starting), 1 => Just(Draining)];
    let removal = prop_oneof![
        1 => Just(Removal::Reported),
        3 => Just(Removal::NodeDead),
        1 => Just(Removal::Withdrawn)
    ];
    let step = prop_oneof![
        8 => (0..KEYS, status).prop_map(|(n, status)| Step::Put(n, status)),
        4 => (0..KEYS, removal).prop_map(|(n, removal)| Step::Remove(n, removal)),
        8 => (0..4_usize, any::<bool>()).prop_map(|(behind, whole)| Step::Send { behind, whole }),
        1 => any::<u32>().prop_map(Step::SendPartial),
        1 => Just(Step::SendEmpty),
        12 => (0..4_usize).prop_map(Step::Deliver),
        2 => (0..4_usize).prop_map(Step::Duplicate),
        2 => (0..4_usize).prop_map(Step::Lose),
        1 => (0..10_usize).prop_map(Step::Reconnect),
        1 => Just(Step::Restart),
        6 => (0..12_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..200)
}

#[derive(Clone, Debug)]
enum Message {
    Snapshot(Snapshot),
    Delta(Delta),
}

/// What the store held at each of its revisions.
struct Truth(Vec<Snapshot>);

impl Truth {
    fn new() -> Self {
        Self(vec![snapshot(1, 0..KEYS)])
    }

    fn last(&self) -> &Snapshot {
        self.0.last().unwrap()
    }

    fn at(&self, generation: u64) -> Option<&Snapshot> {
        self.0.get(usize::try_from(generation).unwrap().checked_sub(1)?)
    }

    fn change(&mut self, change: impl FnOnce(&mut Snapshot)) {
        let mut next = self.last().clone();
        next.generation.0 += 1;
        change(&mut next);
        self.0.push(next);
    }

    fn behind(&self, by: usize) -> &Snapshot {
        &self.0[self.0.len().saturating_sub(1 + by)]
    }

    fn delta(&self, from: &Snapshot, to: &Snapshot) -> Delta {
        let put = to.endpoints.iter().filter(|(k, e)| from.endpoints.get(k) != Some(e));
        let removed = to.tombstones.iter().filter(|(_, t)| t.generation > from.generation);
        Delta {
            service: orders(),
            from: from.generation,
            to: to.generation,
            record: None,
            put: put.map(|(k, e)| (k.clone(), e.clone())).collect(),
            removed: removed.map(|(k, t)| (k.clone(), t.clone())).collect(),
        }
    }
}

struct World {
    truth: Truth,
    host: Host,
    under_way: VecDeque<Message>,
    /// What was sent last, as control remembers it.
    sent: u64,
    /// Removals on control's word alone: when, and of how many.
    removals: Vec<(Instant, usize)>,
    /// Sets were sent that lack what is there.
    lied: bool,
}

impl World {
    fn new() -> Self {
        let truth = Truth::new();
        let host = Host::knowing(truth.last().clone());
        Self { truth, host, under_way: VecDeque::new(), sent: 1, removals: Vec::new(), lied: false }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put(n, status) => self.truth.change(|next| {
                next.endpoints.insert(key(n), endpoint(n, status));
                next.tombstones.remove(&key(n));
            }),
            Step::Remove(n, removal) => {
                if self.truth.last().endpoints.contains_key(&key(n)) {
                    self.truth.change(|next| {
                        next.endpoints.remove(&key(n));
                        next.tombstones.extend(buried(next.generation.0, removal, [n]));
                    });
                }
            }
            Step::Send { behind, whole } => self.send(behind, whole),
            Step::SendPartial(bits) => self.lie(|n| bits >> n & 1 == 1),
            Step::SendEmpty => self.lie(|_| false),
            Step::Deliver(at) => {
                let message = self.under_way.remove(at).or_else(|| self.under_way.pop_front());
                message.into_iter().for_each(|message| self.deliver(message));
            }
            Step::Duplicate(at) => {
                let copy = self.under_way.get(at).cloned();
                self.under_way.extend(copy);
            }
            Step::Lose(at) => drop(self.under_way.remove(at)),
            Step::Reconnect(behind) => {
                self.under_way.clear();
                self.sent = self.host.generation();
                let behind = self.truth.behind(behind).clone();
                self.under_way.push_back(Message::Snapshot(behind));
            }
            Step::Restart => self.restart(),
            Step::Wait(seconds) => self.host.now += Duration::from_secs(seconds),
        }
    }

    fn send(&mut self, behind: usize, whole: bool) {
        let to = self.truth.behind(behind).clone();
        let from = self.truth.at(self.sent).filter(|from| from.generation < to.generation);
        let message = match from {
            Some(from) if !whole => Message::Delta(self.truth.delta(from, &to)),
            _ => Message::Snapshot(to.clone()),
        };
        self.sent = to.generation.0;
        self.under_way.push_back(message);
    }

    fn lie(&mut self, keep: impl Fn(u32) -> bool) {
        self.lied = true;
        let mut lie = self.truth.last().clone();
        for n in (0..KEYS).filter(|n| !keep(*n)) {
            lie.endpoints.remove(&key(n));
            lie.tombstones.remove(&key(n));
        }
        self.sent = lie.generation.0;
        self.under_way.push_back(Message::Snapshot(lie));
    }

    fn restart(&mut self) {
        let saved = serde_json::to_vec(&self.host.mirror).unwrap();
        let (before, doubted) = (self.host.held(), self.host.doubted());
        let limits = self.host.mirror.limits.clone();
        let saved = serde_json::from_slice(&saved).unwrap();
        self.host.mirror = Mirror::restore(saved, limits, self.host.now);
        assert_eq!((self.host.held(), self.host.doubted()), (before, doubted));
    }

    fn deliver(&mut self, message: Message) {
        let (held, generation) = (self.host.held(), self.host.generation());
        let chosen = self.host.chosen_keys();
        self.host.mirror.take_changed();
        let answer = match message {
            Message::Snapshot(snapshot) => self.host.mirror.snapshot(self.host.now, snapshot),
            Message::Delta(delta) => self.host.mirror.delta(self.host.now, delta),
        };
        assert!(self.host.generation() >= generation, "a generation went back");
        if matches!(answer, Answer::Nack { .. }) {
            assert_eq!((self.host.held(), self.host.generation()), (held, generation));
            return;
        }
        let changed = self.host.mirror.take_changed().contains(&orders());
        let same = (&held, &chosen) == (&self.host.held(), &self.host.chosen_keys());
        assert!(changed || same, "a change that the data path does not hear of");
        self.check_removals(&held);
        self.check_truth();
    }

    /// The share is held, and nothing is removed of which no message that lied said so.
    fn check_removals(&mut self, before: &BTreeMap<EndpointKey, Endpoint>) {
        let held = self.host.held();
        let now = self.host.now;
        let truth = self.truth.at(self.host.generation()).unwrap();
        let mut doubtful = 0;
        for key in before.keys().filter(|key| !held.contains_key(key)) {
            assert!(self.lied || !truth.endpoints.contains_key(key), "{key} was lost");
            let fact = truth.tombstones.get(key).is_some_and(|t| t.removal != Removal::NodeDead);
            doubtful += usize::from(!fact);
        }
        let recent: usize =
            self.removals.iter().filter(|(at, _)| *at + INTERVAL > now).map(|(_, n)| n).sum();
        let all = held.len() + doubtful + recent;
        let allowed = (all / 10).max(1);
        assert!(doubtful == 0 || recent + doubtful <= allowed, "{recent}+{doubtful} of {all}");
        self.removals.push((now, doubtful));
    }

    /// What is held without doubt is what was true at that generation; in particular nothing is
    /// there again that was gone.
    fn check_truth(&self) {
        let truth = self.truth.at(self.host.generation()).unwrap();
        let doubted: Vec<_> = self.host.mirror.doubts().map(|(_, key, _)| key.clone()).collect();
        for (key, endpoint) in self.host.held() {
            if !doubted.contains(&key) {
                assert_eq!(truth.endpoints.get(&key), Some(&endpoint), "{key}");
            }
        }
        if !self.lied {
            let held = self.host.held();
            assert!(truth.endpoints.keys().all(|key| held.contains_key(key)), "some were lost");
        }
        self.check_choice();
    }

    fn check_choice(&self) {
        let Some(remote) = self.host.mirror.remote(&orders()) else { return };
        let dead: Vec<_> = self
            .host
            .mirror
            .doubts()
            .filter(|(_, _, doubt)| *doubt == Doubt::NodeDead)
            .map(|(_, key, _)| key.clone())
            .collect();
        let all: Vec<_> = remote.backends().collect();
        let serving = |b: &&Backend<'_>| {
            matches!(b.endpoint.status, EndpointStatus::Up | EndpointStatus::Unhealthy)
        };
        let is_out = |b: &&Backend<'_>| {
            b.endpoint.status == EndpointStatus::Unhealthy || dead.contains(b.key)
        };
        let of = all.iter().filter(serving).count();
        let out = all.iter().filter(serving).filter(is_out).count();
        assert_eq!(remote.panic, out * 2 > of, "{out} of {of}");
        for backend in &all {
            let well = backend.endpoint.status == EndpointStatus::Up;
            assert_eq!(backend.in_choice, well || remote.panic && serving(&backend));
        }
    }

    /// Messages flow again; a snapshot comes whenever one is asked for.
    fn calm_down(&mut self) {
        self.under_way.clear();
        self.deliver(Message::Snapshot(self.truth.last().clone()));
        // One at least goes an interval, and the first may have to wait for one.
        for _ in 0..=KEYS + 1 {
            let Some(at) = self.host.mirror.next_ask() else { break };
            self.host.now = at;
            assert_eq!(self.host.mirror.asks(at), [orders()]);
            self.deliver(Message::Snapshot(self.truth.last().clone()));
        }
        let truth = self.truth.last();
        if truth.endpoints.is_empty() {
            let missing =
                self.host.mirror.doubts().filter(|(_, _, doubt)| *doubt == Doubt::Missing);
            assert_eq!(missing.count(), self.host.count(), "an empty set confirms nothing");
        } else {
            assert_eq!(self.host.held(), truth.endpoints);
            assert_eq!(self.host.doubted(), 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn r2_r3_nothing_is_lost_nothing_comes_back_and_the_truth_wins(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.calm_down();
    }
}
