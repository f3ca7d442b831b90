//! Sinew's rules. Those without `_clock` are told a time that goes on by a microsecond a call.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sinew_resilience::balance::{Load, Maglev, Node, p2c};
use sinew_resilience::breaker::{Breaker, Outcome, Settings};
use sinew_resilience::draw::{Draws, mix};
use sinew_resilience::histogram::Recorder;
use sinew_resilience::limit::{
    Adaptive, AdaptivePermit, Aimd, Algorithm, Bounds, Bulkhead, Ended, Gradient, Vegas,
};
use sinew_resilience::rate::{Gcra, Keyed, Rate};
use sinew_resilience::retry::{Budget, BudgetSettings};
use sinew_resilience::tower::{GuardLayer, Verdict};
use sinew_resilience::{Clock, Time};
use tower::{Layer, Service};

use super::{Case, peers};

/// A time that goes on by a microsecond a call, and that threads agree on before each batch.
#[derive(Clone)]
struct Ticks {
    ns: u64,
    all_ns: Arc<AtomicU64>,
}

impl Ticks {
    fn new() -> Self {
        Self { ns: 0, all_ns: Arc::new(AtomicU64::new(1_000_000_000)) }
    }

    /// The times of a batch of so many calls.
    fn batch(&mut self, calls: u64) -> impl Iterator<Item = Time> + use<> {
        self.ns = self.ns.max(self.all_ns.fetch_max(self.ns, Ordering::Relaxed));
        let begin = self.ns;
        self.ns += calls * 1000;
        (0..calls).map(move |call| Time::from_ns(begin + call * 1000))
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = breakers();
    cases.extend(limits());
    cases.extend(rates());
    cases.extend(choices());
    cases
}

fn breaker(settings: Settings) -> Arc<Breaker> {
    Arc::new(Breaker::new(settings).unwrap())
}

fn call(breaker: &Breaker, now: Time) {
    if let Ok(permit) = breaker.admit(now) {
        breaker.record(black_box(permit), now, black_box(Outcome::Success));
    }
}

fn breakers() -> Vec<Case> {
    let closed = |name, settings| {
        let (breaker, ticks) = (breaker(settings), Ticks::new());
        Case::new(name, move || {
            let (breaker, mut ticks) = (breaker.clone(), ticks.clone());
            move |calls| ticks.batch(calls).for_each(|now| call(&breaker, now))
        })
    };
    let clock = Clock::start();
    let real = breaker(Settings::default());
    let open = breaker(Settings { minimum_calls: 1, ..Settings::default() });
    open.record(open.admit(Time::ORIGIN).unwrap(), Time::ORIGIN, Outcome::Failure);
    let also_open = open.clone();
    vec![
        closed("breaker_closed", Settings::default()),
        closed("breaker_hystrix", Settings::hystrix(Duration::from_secs(1))),
        Case::new("breaker_closed_clock", move || {
            let breaker = real.clone();
            move |calls| (0..calls).for_each(|_| call(&breaker, clock.now()))
        }),
        Case::new("breaker_open", move || {
            let breaker = open.clone();
            let now = Time::from_ns(1000);
            move |calls| (0..calls).for_each(|_| assert!(breaker.admit(black_box(now)).is_err()))
        }),
        Case::new("breaker_open_clock", move || {
            // Its sleep ends at 5 s of the time it is told; the clock's own origin is of no account.
            let breaker = also_open.clone();
            move |calls| {
                for _ in 0..calls {
                    let now = clock.now().as_ns() % 4_000_000_000;
                    assert!(breaker.admit(black_box(Time::from_ns(now))).is_err());
                }
            }
        }),
    ]
}

fn adaptive(name: &'static str, algorithm: impl Algorithm + 'static) -> Case {
    let limiter = Arc::new(Adaptive::new(algorithm, Bounds::default()).unwrap());
    let ticks = Ticks::new();
    Case::new(name, move || {
        let (limiter, mut ticks) = (limiter.clone(), ticks.clone());
        move |calls| {
            for now in ticks.batch(calls) {
                let permit: AdaptivePermit<&Adaptive> = Adaptive::acquire(&*limiter, now).unwrap();
                black_box(permit).end(now + Duration::from_millis(1), Ended::Answered);
            }
        }
    })
}

fn limits() -> Vec<Case> {
    let (bulkhead, full) = (Arc::new(Bulkhead::new(100)), Arc::new(Bulkhead::new(0)));
    let layers = [100, 0].map(|limit| {
        GuardLayer::new(Clock::start(), |_: Result<&(), &_>| Verdict::Success)
            .bulkhead(Arc::new(Bulkhead::new(limit)))
    });
    let [layer, full_layer] = layers;
    vec![
        Case::new("bulkhead", move || {
            let bulkhead = bulkhead.clone();
            move |calls| {
                for _ in 0..calls {
                    drop(black_box(Bulkhead::acquire(&*bulkhead).unwrap()));
                }
            }
        }),
        Case::new("bulkhead_full", move || {
            let bulkhead = full.clone();
            move |calls| {
                (0..calls).for_each(|_| assert!(black_box(Bulkhead::acquire(&*bulkhead)).is_err()));
            }
        }),
        Case::new("bulkhead_tower", move || {
            let mut service = layer.layer(peers::Ready);
            move |calls| peers::call(&mut service, calls)
        }),
        Case::new("bulkhead_full_tower", move || {
            let mut service = full_layer.layer(peers::Ready);
            move |calls| (0..calls).for_each(|_| assert!(answered(&mut service).is_err()))
        }),
        adaptive("vegas", Vegas::default()),
        adaptive("gradient", Gradient::default()),
        adaptive("aimd", Aimd::default()),
    ]
}

fn rates() -> Vec<Case> {
    // A thread that stands still falls behind the time that another one tells: by no more than the
    // burst, 43 s.
    let rate = Rate { count: 100_000_000, period: Duration::from_secs(1), burst: u32::MAX };
    let (gcra, clocked) = (Arc::new(Gcra::new(rate).unwrap()), Arc::new(Gcra::new(rate).unwrap()));
    let keyed = Arc::new(Keyed::new(rate, 1 << 16).unwrap());
    let budget = || Arc::new(Budget::new(BudgetSettings::default()).unwrap());
    let (told, read) = (budget(), budget());
    let (clock, ticks) = (Clock::start(), [(); 3].map(|()| Ticks::new()));
    let [gcra_ticks, keyed_ticks, budget_ticks] = ticks;
    vec![
        Case::new("gcra", move || {
            let (gcra, mut ticks) = (gcra.clone(), gcra_ticks.clone());
            move |calls| ticks.batch(calls).for_each(|now| gcra.take(now, 1).unwrap())
        }),
        Case::new("gcra_clock", move || {
            let gcra = clocked.clone();
            move |calls| (0..calls).for_each(|_| gcra.take(clock.now(), 1).unwrap())
        }),
        Case::new("gcra_keyed", move || {
            let (keyed, mut ticks) = (keyed.clone(), keyed_ticks.clone());
            move |calls| {
                for (now, key) in ticks.batch(calls).zip(0..) {
                    keyed.take(mix(key), now, 1).unwrap();
                }
            }
        }),
        // A call, and each tenth is tried again.
        Case::new("retry_budget", move || {
            let (budget, mut ticks) = (told.clone(), budget_ticks.clone());
            move |calls| {
                ticks.batch(calls).zip(0..).for_each(|(now, call)| retry(&budget, now, call));
            }
        }),
        Case::new("retry_budget_clock", move || {
            let budget = read.clone();
            move |calls| (0..calls).for_each(|call| retry(&budget, clock.now(), call))
        }),
    ]
}

fn retry(budget: &Budget, now: Time, call: u64) {
    budget.deposit(now);
    if call.is_multiple_of(10) {
        assert!(budget.take(now));
    }
}

fn choices() -> Vec<Case> {
    let load = || Load::new(Duration::from_secs(10)).unwrap();
    let loads: Arc<Vec<Load>> = Arc::new((0..10).map(|_| load()).collect());
    let nodes: Vec<Node> = (0..100).map(|n| Node { key: mix(n), weight: 1 }).collect();
    let maglev = Arc::new(Maglev::new(&nodes, 65_537).unwrap());
    let recorder = Arc::new(Recorder::default());
    let ticks = Ticks::new();
    vec![
        Case::new("p2c_ewma", move || {
            let (loads, mut ticks, mut draws) = (loads.clone(), ticks.clone(), Draws::new(1));
            move |calls| {
                for now in ticks.batch(calls) {
                    let draw = draws.draw();
                    let chosen = p2c(loads.len(), draw, |i| loads[i].cost(now)).unwrap();
                    loads[chosen].begin();
                    loads[chosen].end(now, Duration::from_micros(900 + draw % 200));
                }
            }
        }),
        Case::new("maglev", move || {
            let (maglev, mut draws) = (maglev.clone(), Draws::new(1));
            move |calls| {
                for _ in 0..calls {
                    black_box(maglev.get(draws.draw()));
                }
            }
        }),
        Case::new("histogram", move || {
            let (recorder, mut draws) = (recorder.clone(), Draws::new(1));
            move |calls| (0..calls).for_each(|_| recorder.record(draws.draw() >> 40))
        }),
    ]
}

/// Polls what is ready at once.
pub(crate) fn answered<S: Service<()>>(service: &mut S) -> Result<S::Response, S::Error> {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
    let mut answer = std::pin::pin!(service.call(()));
    match answer.as_mut().poll(&mut cx) {
        Poll::Ready(answer) => answer,
        Poll::Pending => unreachable!("the service answers at once"),
    }
}
