use std::sync::Arc;

use proptest::prelude::*;

use super::*;

/// The same by keeping every call.
struct Model {
    span: Span,
    calls: Vec<(u64, bool, bool)>,
    cleared: usize,
}

impl Model {
    fn counts(&self, now: u64) -> Counts {
        let held: Vec<_> = match self.span {
            Span::Time { bucket, buckets } => {
                let first = (now / ns(bucket)).saturating_sub(u64::from(buckets) - 1);
                let live = &self.calls[self.cleared..];
                live.iter().filter(|(at, ..)| at / ns(bucket) >= first).collect()
            }
            Span::Calls { bucket, buckets } => {
                // A bucket ends when the next call is about to be counted.
                let total = self.calls.len() as u64;
                let current = total.saturating_sub(1) / u64::from(bucket);
                let first = (current + 1).saturating_sub(u64::from(buckets)) * u64::from(bucket);
                self.calls.iter().skip((first as usize).max(self.cleared)).collect()
            }
        };
        Counts {
            calls: held.len() as u32,
            failures: held.iter().filter(|(_, failed, _)| *failed).count() as u32,
            slow: held.iter().filter(|(.., slow)| *slow).count() as u32,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Call { after_ns: u64, failed: bool, slow: bool },
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let after = prop_oneof![8 => 0..30_u64, 1 => 0..500_u64];
    let call = (after, any::<bool>(), any::<bool>())
        .prop_map(|(after_ns, failed, slow)| Step::Call { after_ns, failed, slow });
    prop::collection::vec(prop_oneof![40 => call, 1 => Just(Step::Clear)], 0..300)
}

fn span() -> impl Strategy<Value = Span> {
    prop_oneof![
        (1..40_u64, 1..8_u32).prop_map(|(bucket, buckets)| Span::Time {
            bucket: Duration::from_nanos(bucket),
            buckets
        }),
        (1..9_u32, 1..8_u32).prop_map(|(bucket, buckets)| Span::Calls { bucket, buckets }),
    ]
}

proptest! {
    #[test]
    fn holds_what_a_list_of_all_calls_holds(span in span(), steps in steps(), start in 0..1000_u64) {
        let window = Window::new(span).unwrap();
        let mut model = Model { span, calls: Vec::new(), cleared: 0 };
        let mut now = start;
        for step in steps {
            match step {
                Step::Call { after_ns, failed, slow } => {
                    now += after_ns;
                    model.calls.push((now, failed, slow));
                    let told = window.record(Time::from_ns(now), failed, slow);
                    prop_assert_eq!(told, model.counts(now));
                }
                Step::Clear => {
                    window.clear();
                    model.cleared = model.calls.len();
                }
            }
        }
    }

    #[test]
    fn a_look_at_the_end_of_each_bucket_sees_the_full_buckets_before_it(
        calls in prop::collection::vec((0..60_u64, any::<bool>()), 1..200),
        buckets in 1..6_u32,
        wanted in 1..6_u32,
    ) {
        const BUCKET: u64 = 20;
        let span = Span::Time { bucket: Duration::from_nanos(BUCKET), buckets };
        let window = Window::new(span).unwrap();
        let (mut now, mut past) = (0, Vec::<(u64, bool)>::new());
        for (after, failed) in calls {
            let from = now / BUCKET;
            now += after;
            let naive = (from + 1..=now / BUCKET).find(|boundary| {
                let first = boundary.saturating_sub(u64::from(buckets));
                let held = past.iter().filter(|(at, _)| at / BUCKET >= first);
                held.filter(|(_, failed)| *failed).count() as u32 >= wanted
            });
            let found = window.advance(Time::from_ns(now), |counts| counts.failures >= wanted);
            prop_assert_eq!(found, naive.map(|boundary| Time::from_ns(boundary * BUCKET)));
            window.add(failed, false);
            past.push((now, failed));
        }
    }
}

#[test]
fn counts_of_more_calls_than_a_word_holds() {
    let span = Span::Time { bucket: Duration::from_nanos(10), buckets: 2 };
    let window = Window::new(span).unwrap();
    for bucket in 0..9_u64 {
        window.counts(Time::from_ns(bucket * 10));
        // 2^30 calls at once, a quarter of them failed.
        window.sums.calls.fetch_add((CALL << 30) + (1 << 28), Ordering::Relaxed);
    }
    let counts = window.counts(Time::from_ns(89));
    assert_eq!((counts.calls, counts.failures), (1 << 31, 1 << 29));
}

#[test]
fn no_call_is_lost_between_threads() {
    let span = Span::Time { bucket: Duration::from_nanos(1000), buckets: 100_000 / 1000 };
    let window = Arc::new(Window::new(span).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                (0..50_000).for_each(|at| {
                    window.record(Time::from_ns(at), at % 4 == 0, at % 5 == 0);
                });
            });
        }
    });
    let counts = window.counts(Time::from_ns(50_000));
    assert_eq!(counts, Counts { calls: 100_000, failures: 25_000, slow: 20_000 });
}

#[test]
fn out_of_range_is_refused() {
    let none = Span::Time { bucket: Duration::ZERO, buckets: 10 };
    assert_eq!(Window::new(none).unwrap_err().field, "bucket");
    let many = Span::Calls { bucket: 10, buckets: 4000 };
    assert_eq!(Window::new(many).unwrap_err().to_string(), "buckets is 4000: give 1 to 3600");
}
