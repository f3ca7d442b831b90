//! Every interleaving of callers around the end of a bucket.

use loom::sync::Arc;
use loom::thread;

use super::*;

fn window(buckets: u32) -> Arc<Window> {
    let span = Span::Time { bucket: Duration::from_nanos(10), buckets };
    Arc::new(Window::new(span).unwrap())
}

#[test]
fn no_call_is_lost_when_a_bucket_ends() {
    loom::model(|| {
        let window = window(2);
        let threads = [1, 11].map(|at| {
            let window = window.clone();
            thread::spawn(move || window.record(Time::from_ns(at), true, false).calls)
        });
        for thread in threads {
            assert!((1..=2).contains(&thread.join().unwrap()));
        }
        let counts = window.counts(Time::from_ns(12));
        assert_eq!((counts.calls, counts.failures), (2, 2));
    });
}

#[test]
fn a_clearing_keeps_what_comes_after_and_nothing_of_what_was_before() {
    loom::model(|| {
        let window = window(1);
        window.record(Time::from_ns(1), true, false);
        let other = {
            let window = window.clone();
            thread::spawn(move || window.record(Time::from_ns(11), false, false))
        };
        window.clear();
        other.join().unwrap();
        let counts = window.counts(Time::from_ns(12));
        assert!(counts.calls <= 1 && counts.failures == 0, "{counts:?}");
    });
}

#[test]
fn of_two_threads_one_adds_what_only_one_may() {
    loom::model(|| {
        let window = window(2);
        let add = |window: &Window| {
            window.add_failure_if(Time::from_ns(1), |counts| counts.failures == 0)
        };
        let other = {
            let window = window.clone();
            thread::spawn(move || add(&window))
        };
        let mine = add(&window);
        assert!(mine != other.join().unwrap());
    });
}
