//! A short wait for a place, and who gets it first.

use std::collections::VecDeque;
use std::time::Duration;

use crate::invalid::{Invalid, check};
use crate::time::Time;

/// Settings of a [`Queue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// How many may wait, 1 to 100000.
    pub capacity: u32,
    /// How long one may wait.
    pub wait: Duration,
    /// How long one may wait under overload: a burst passes sooner than this.
    pub overload_wait: Duration,
}

/// 128 for up to 100 ms, or 5 ms under overload: what Facebook uses.
impl Default for QueueSettings {
    fn default() -> Self {
        let (wait, overload_wait) = (Duration::from_millis(100), Duration::from_millis(5));
        Self { capacity: 128, wait, overload_wait }
    }
}

/// Calls that wait for a place. One that has waited too long is not begun any more: its caller has
/// gone, or is about to.
///
/// While a queue empties now and then, the first that came is the first that goes. One that was not
/// empty for as long as [`QueueSettings::wait`] is under overload: then the last that came goes
/// first, since it is the one whose caller still waits, and who comes may only wait for a moment
/// (controlled delay and adaptive LIFO: Maurer, "Fail at Scale", ACM Queue 2015).
///
/// It has one owner; put it under a lock to share it.
#[derive(Debug)]
pub struct Queue<T> {
    settings: QueueSettings,
    waiting: VecDeque<Waiting<T>>,
    /// When it was last seen empty.
    empty_at: Time,
}

#[derive(Debug)]
struct Waiting<T> {
    call: T,
    until: Time,
}

impl<T> Queue<T> {
    /// An empty queue, with room for all that may wait.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn new(settings: QueueSettings) -> Result<Self, Invalid> {
        let QueueSettings { capacity, wait, overload_wait } = settings;
        check((1..=100_000).contains(&capacity), "capacity", &capacity, "1 to 100000")?;
        check(!wait.is_zero(), "wait", &wait, "a time above 0")?;
        check(overload_wait <= wait, "overload_wait", &overload_wait, "at most `wait`")?;
        let waiting = VecDeque::with_capacity(capacity as usize);
        Ok(Self { settings, waiting, empty_at: Time::ORIGIN })
    }

    /// Lets a call wait, no longer than its deadline if it has one. Answers the call that has to be
    /// refused for it when the queue is full: itself, or under overload the one that waits longest.
    pub fn push(&mut self, now: Time, call: T, deadline: Option<Time>) -> Option<T> {
        if self.waiting.is_empty() {
            self.empty_at = now;
        }
        let overload = self.is_overloaded(now);
        let refused = if self.waiting.len() < self.settings.capacity as usize {
            None
        } else if overload {
            self.waiting.pop_front()
        } else {
            return Some(call);
        };
        let wait = if overload { self.settings.overload_wait } else { self.settings.wait };
        let until = deadline.map_or(now + wait, |deadline| deadline.min(now + wait));
        self.waiting.push_back(Waiting { call, until });
        refused.map(|waiting| waiting.call)
    }

    /// The call whose turn it is. Those in its way that have waited too long go to `refused`.
    pub fn pop(&mut self, now: Time, mut refused: impl FnMut(T)) -> Option<T> {
        let overload = self.is_overloaded(now);
        loop {
            let next = if overload { self.waiting.pop_back() } else { self.waiting.pop_front() };
            if self.waiting.is_empty() {
                self.empty_at = now;
            }
            match next {
                Some(waiting) if waiting.until < now => refused(waiting.call),
                next => return next.map(|waiting| waiting.call),
            }
        }
    }

    /// Sends all calls that have waited too long to `refused`.
    pub fn expire(&mut self, now: Time, mut refused: impl FnMut(T)) {
        // In place and in order; a queue is short.
        for _ in 0..self.waiting.len() {
            match self.waiting.pop_front() {
                Some(waiting) if waiting.until < now => refused(waiting.call),
                Some(waiting) => self.waiting.push_back(waiting),
                None => {}
            }
        }
        if self.waiting.is_empty() {
            self.empty_at = now;
        }
    }

    /// Until when the first of them to give up waits.
    pub fn next_expiry(&self) -> Option<Time> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    /// Whether the last that came goes first now.
    pub fn is_overloaded(&self, now: Time) -> bool {
        !self.waiting.is_empty() && now - self.empty_at > self.settings.wait
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: QueueSettings = QueueSettings {
        capacity: 4,
        wait: Duration::from_nanos(100),
        overload_wait: Duration::from_nanos(5),
    };

    fn at(ns: u64) -> Time {
        Time::from_ns(ns)
    }

    fn pop(queue: &mut Queue<u32>, now: u64) -> (Option<u32>, Vec<u32>) {
        let mut refused = Vec::new();
        (queue.pop(at(now), |call| refused.push(call)), refused)
    }

    #[test]
    fn first_come_first_served_while_it_empties() {
        let mut queue = Queue::new(SETTINGS).unwrap();
        for call in 0..4 {
            assert_eq!(queue.push(at(10), call, None), None);
        }
        assert_eq!(queue.push(at(10), 4, None), Some(4), "the last has to go elsewhere");
        assert_eq!(pop(&mut queue, 110), (Some(0), vec![]));
        assert_eq!(pop(&mut queue, 110), (Some(1), vec![]));
        assert_eq!(queue.next_expiry(), Some(at(110)));
    }

    #[test]
    fn last_come_first_served_under_overload() {
        let mut queue = Queue::new(SETTINGS).unwrap();
        queue.push(at(0), 0, None);
        assert!((1..4).all(|call| queue.push(at(90), call, None).is_none()));
        assert!(queue.is_overloaded(at(101)));
        assert_eq!(queue.push(at(101), 4, None), Some(0), "who waits longest has to go");
        assert_eq!(pop(&mut queue, 106), (Some(4), vec![]));
        assert_eq!(pop(&mut queue, 106), (Some(3), vec![]));
    }

    #[test]
    fn under_overload_one_waits_for_a_moment_only() {
        let mut queue = Queue::new(SETTINGS).unwrap();
        queue.push(at(0), 0, Some(at(300)));
        queue.push(at(90), 1, None);
        queue.push(at(101), 2, None);
        assert_eq!(pop(&mut queue, 107), (Some(1), vec![2]));
    }

    #[test]
    fn nobody_waits_beyond_the_deadline() {
        let mut queue = Queue::new(SETTINGS).unwrap();
        queue.push(at(0), 0, Some(at(20)));
        queue.push(at(0), 1, Some(at(500)));
        let mut refused = Vec::new();
        queue.expire(at(21), |call| refused.push(call));
        assert_eq!((refused, queue.len()), (vec![0], 1));
        assert_eq!(pop(&mut queue, 101), (None, vec![1]));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(Option<u64>),
        Pop,
        Expire,
    }

    fn step() -> impl Strategy<Value = (u64, Step)> {
        let step = prop_oneof![
            4 => prop::option::of(0..150_u64).prop_map(Step::Push),
            3 => Just(Step::Pop),
            1 => Just(Step::Expire),
        ];
        (prop_oneof![6 => 0..15_u64, 1 => 0..120_u64], step)
    }

    proptest! {
        #[test]
        fn it_is_what_a_plain_list_is(steps in prop::collection::vec(step(), 0..200)) {
            let mut queue = Queue::new(SETTINGS).unwrap();
            let (mut list, mut empty_at) = (Vec::<(u32, u64)>::new(), 0);
            let mut now = 0;
            for (call, (after, step)) in (0_u32..).zip(steps) {
                now += after;
                if list.is_empty() {
                    empty_at = now;
                }
                let overload = now - empty_at > 100;
                let (mut ours, mut naive) = (Vec::new(), Vec::new());
                match step {
                    Step::Push(left) => {
                        let deadline = left.map(|left| now + left);
                        ours.extend(queue.push(at(now), call, deadline.map(at)));
                        if list.len() == 4 && overload {
                            naive.push(list.remove(0).0);
                        }
                        if list.len() == 4 {
                            naive.push(call);
                        } else {
                            let wait = if overload { 5 } else { 100 };
                            list.push((call, deadline.unwrap_or(u64::MAX).min(now + wait)));
                        }
                    }
                    Step::Pop => {
                        let popped = queue.pop(at(now), |call| ours.push(call));
                        let mut next = None;
                        while next.is_none() && !list.is_empty() {
                            let (call, until) =
                                list.remove(if overload { list.len() - 1 } else { 0 });
                            if until < now { naive.push(call) } else { next = Some(call) }
                        }
                        prop_assert_eq!(popped, next);
                    }
                    Step::Expire => {
                        queue.expire(at(now), |call| ours.push(call));
                        naive.extend(list.iter().filter(|(_, until)| *until < now).map(|(c, _)| *c));
                        list.retain(|(_, until)| *until >= now);
                    }
                }
                if list.is_empty() {
                    empty_at = now;
                }
                prop_assert_eq!(ours, naive);
                prop_assert_eq!(queue.len(), list.len());
            }
        }
    }
}
