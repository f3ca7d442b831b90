use loom::sync::Arc;
use loom::thread;

use super::*;

#[test]
fn of_two_threads_one_takes_the_last() {
    loom::model(|| {
        let rate = Rate { count: 1, period: Duration::from_secs(1), burst: 1 };
        let gcra = Arc::new(Gcra::new(rate).unwrap());
        let other = {
            let gcra = gcra.clone();
            thread::spawn(move || gcra.take(Time::from_ns(5), 1).is_ok())
        };
        let mine = gcra.take(Time::from_ns(5), 1).is_ok();
        assert!(mine != other.join().unwrap());
    });
}
