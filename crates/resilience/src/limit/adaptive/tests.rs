//! The windows against lists of all calls, and the algorithms in front of a simulated server.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::draw::Draws;

/// Keeps what it is shown.
#[derive(Clone, Debug, Default)]
struct Spy(Arc<Mutex<Vec<Sample>>>);

impl Algorithm for Spy {
    fn next(&mut self, limit: f64, sample: &Sample) -> f64 {
        self.0.lock().unwrap().push(*sample);
        limit
    }
}

fn bounds() -> Bounds {
    Bounds { initial: 10, window: Duration::from_nanos(100), ..Bounds::default() }
}

proptest! {
    #[test]
    fn a_window_shows_what_a_list_of_its_calls_does(
        steps in prop::collection::vec((0..30_u64, 0..8_u8, any::<prop::sample::Index>()), 0..400),
    ) {
        let spy = Spy::default();
        let limiter = Arc::new(Adaptive::new(spy.clone(), bounds()).unwrap());
        let (mut now, mut begin, mut end) = (0, 0, 100);
        let (mut out, mut latencies, mut dropped, mut most) = (Vec::new(), Vec::new(), 0, 0);
        let mut naive = Vec::new();
        for (after, step, which) in steps {
            now += after;
            if step < 4 || out.is_empty() {
                if let Ok(permit) = Adaptive::acquire(limiter.clone(), Time::from_ns(now)) {
                    out.push((permit, now));
                    most = most.max(out.len());
                }
                continue;
            }
            let (permit, since) = out.swap_remove(which.index(out.len()));
            let ended = match step {
                4 => Ended::Ignored,
                5 => Ended::Dropped,
                _ => Ended::Answered,
            };
            permit.end(Time::from_ns(now), ended);
            match ended {
                Ended::Ignored => continue,
                Ended::Dropped => dropped += 1,
                Ended::Answered => latencies.push(now - since),
            }
            if now >= end && (dropped > 0 || latencies.len() >= 10) {
                let mean = latencies.iter().sum::<u64>().checked_div(latencies.len() as u64);
                naive.push(Sample {
                    least: Duration::from_nanos(latencies.iter().min().copied().unwrap_or(0)),
                    mean: Duration::from_nanos(mean.unwrap_or(0)),
                    answered: latencies.len() as u32,
                    dropped,
                    most_in_flight: most as u32,
                    length: Duration::from_nanos(now - begin),
                });
                // The call that ended the window is still counted as under way.
                (begin, end, dropped, most) = (now, now + 100, 0, out.len() + 1);
                latencies.clear();
            }
        }
        prop_assert_eq!(&*spy.0.lock().unwrap(), &naive);
        prop_assert_eq!(limiter.in_flight() as usize, out.len());
    }
}

/// Calls arrive by chance at a rate, and wait for one of the workers.
struct Server {
    limiter: Arc<Adaptive>,
    workers: BinaryHeap<Reverse<u64>>,
    under_way: BinaryHeap<Reverse<(u64, u64)>>,
    /// The calls under way, and when each began.
    began: HashMap<u64, (Permit<Arc<Adaptive>>, u64)>,
    served_us: u64,
    now_us: u64,
    draws: Draws,
    calls: u64,
}

#[derive(Debug)]
struct Found {
    limit: u32,
    served_per_s: u64,
    p50_us: u64,
}

const WORKERS: usize = 20;

fn us(us: u64) -> Time {
    Time::from_ns(us * 1000)
}

impl Server {
    /// 20 workers of 10 ms: 2000 calls a second, 20 at a time.
    fn new(algorithm: impl Algorithm + 'static, bounds: Bounds) -> Self {
        Self {
            limiter: Arc::new(Adaptive::new(algorithm, bounds).unwrap()),
            workers: (0..WORKERS).map(|_| Reverse(0)).collect(),
            under_way: BinaryHeap::new(),
            began: HashMap::new(),
            served_us: 10_000,
            now_us: 0,
            draws: Draws::new(3),
            calls: 0,
        }
    }

    /// Goes on for so many seconds with so many calls a second.
    fn run(&mut self, seconds: u64, per_s: u64) -> Found {
        let (end, mut latencies) = (self.now_us + seconds * 1_000_000, Vec::new());
        while self.now_us < end {
            self.now_us += 1 + crate::draw::below(self.draws.draw(), 2_000_000 / per_s);
            while let Some(Reverse((done, call))) = self.under_way.peek().copied()
                && done <= self.now_us
            {
                self.under_way.pop();
                let (permit, since) = self.began.remove(&call).unwrap();
                permit.end(us(done), Ended::Answered);
                latencies.push(done - since);
            }
            if let Ok(permit) = Adaptive::acquire(self.limiter.clone(), us(self.now_us)) {
                let Reverse(free) = self.workers.pop().unwrap();
                let done = free.max(self.now_us) + self.served_us;
                self.workers.push(Reverse(done));
                self.calls += 1;
                self.began.insert(self.calls, (permit, self.now_us));
                self.under_way.push(Reverse((done, self.calls)));
            }
        }
        latencies.sort_unstable();
        Found {
            limit: self.limiter.limit(),
            served_per_s: latencies.len() as u64 / seconds,
            p50_us: latencies[latencies.len() / 2],
        }
    }
}

fn each(test: impl Fn(&str, Server)) {
    let bounds = Bounds::default();
    test("vegas", Server::new(Vegas::default(), bounds));
    test("gradient", Server::new(Gradient::default(), bounds));
    let too_long = Duration::from_millis(20);
    test("aimd", Server::new(Aimd { too_long, ..Aimd::default() }, bounds));
}

#[test]
fn under_overload_the_limit_stays_near_the_capacity_and_the_server_busy() {
    each(|name, mut server| {
        let early = server.run(20, 4000);
        let late = server.run(120, 4000);
        assert!((20..=60).contains(&late.limit), "{name}: {late:?}");
        assert!(late.limit <= early.limit * 13 / 10, "{name} drifts: {early:?}, {late:?}");
        assert!(late.served_per_s >= 1900, "{name}: {late:?}");
        assert!(late.p50_us <= 30_000, "{name}: {late:?}");
    });
}

#[test]
fn a_limit_that_is_not_used_does_not_grow() {
    each(|name, mut server| {
        let found = server.run(300, 150);
        assert!(found.limit <= Bounds::default().initial, "{name}: {found:?}");
    });
}

#[test]
fn a_server_that_has_become_much_slower_is_still_used() {
    let bounds = Bounds::default();
    for mut server in
        [Server::new(Vegas::default(), bounds), Server::new(Gradient::default(), bounds)]
    {
        server.run(20, 4000);
        // Of 500 calls a second.
        server.served_us = 40_000;
        server.run(30, 4000);
        let found = server.run(30, 4000);
        assert!(found.served_per_s >= 450, "{found:?}");
        assert!((20..=60).contains(&found.limit), "{found:?}");
    }
}

#[test]
fn a_limit_that_is_far_too_high_is_not_for_long() {
    let bounds = Bounds { initial: 1000, ..Bounds::default() };
    for mut server in
        [Server::new(Vegas::default(), bounds), Server::new(Gradient::default(), bounds)]
    {
        // It has to have seen the server without a queue.
        server.run(5, 500);
        server.run(10, 4000);
        let found = server.run(10, 4000);
        assert!(found.limit <= 60, "{found:?}");
    }
}

#[test]
fn dropped_calls_lower_every_limit() {
    let sample = Sample {
        least: Duration::from_millis(1),
        mean: Duration::from_millis(1),
        answered: 10,
        dropped: 1,
        most_in_flight: 50,
        length: Duration::from_millis(100),
    };
    let of: [Box<dyn Algorithm>; 3] =
        [Box::new(Vegas::default()), Box::new(Gradient::default()), Box::new(Aimd::default())];
    for mut algorithm in of {
        assert_eq!(algorithm.next(50.0, &sample), 45.0, "{algorithm:?}");
    }
}

proptest! {
    #[test]
    fn whatever_is_seen_limits_are_numbers_and_grow_only_when_they_are_used(
        windows in prop::collection::vec((0..3_000_000_u64, 1..5_u64, 0..2_u32, 0..300_u32), 1..200),
    ) {
        let of: [Box<dyn Algorithm>; 3] =
            [Box::new(Vegas::default()), Box::new(Gradient::default()), Box::new(Aimd::default())];
        for mut algorithm in of {
            // A measurement gives back what it took.
            let (mut limit, mut highest) = (100.0_f64, 100.0_f64);
            for (least, factor, dropped, most_in_flight) in &windows {
                let sample = Sample {
                    least: Duration::from_nanos(*least),
                    mean: Duration::from_nanos(least * factor),
                    answered: 10,
                    dropped: u32::from(*dropped > 1),
                    most_in_flight: *most_in_flight,
                    length: Duration::from_millis(100),
                };
                let next = algorithm.next(limit, &sample);
                prop_assert!(next.is_finite() && next >= 0.0, "{:?}: {}", algorithm, next);
                prop_assert!(next <= highest || sample.uses(limit), "{:?}: {}", algorithm, next);
                limit = next.clamp(4.0, 1000.0);
                highest = highest.max(limit);
            }
        }
    }
}
