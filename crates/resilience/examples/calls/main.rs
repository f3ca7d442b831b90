//! What one call of each rule costs, beside crates that do the same: for `cargo xtask bench
//! resilience`. Prints `<case> <threads> <nanoseconds> <allocations>` for each slice, a call each.
//!
//! In a round every case has its slice on one thread and its slice on two that share the same rule,
//! so that a slow moment of the machine falls on all alike. Allocations are counted by the
//! allocator itself.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

mod measure;
mod ours;
mod peers;

use std::time::Duration;

/// A rule in use: a worker for each thread, which makes so many calls.
type Worker = Box<dyn FnMut(u64) + Send>;

struct Case {
    name: &'static str,
    workers: Vec<Worker>,
}

impl Case {
    /// `worker` is made for each thread, over what they share.
    fn new<W: FnMut(u64) + Send + 'static>(name: &'static str, worker: impl Fn() -> W) -> Self {
        Self { name, workers: (0..2).map(|_| Box::new(worker()) as Worker).collect() }
    }

    /// For what threads cannot share.
    fn alone<W: FnMut(u64) + Send + 'static>(name: &'static str, worker: W) -> Self {
        Self { name, workers: vec![Box::new(worker)] }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|number| number.parse().unwrap());
    let (rounds, slice_ms) = (arguments.next().unwrap_or(3), arguments.next().unwrap_or(5));
    let mut cases = ours::cases();
    cases.extend(peers::cases());
    for _ in 0..rounds {
        // Forth and back, so that nobody always follows the same one.
        cases.reverse();
        for case in &mut cases {
            for threads in 1..=case.workers.len() {
                let workers = &mut case.workers[..threads];
                let (ns, allocations) = measure::slice(workers, Duration::from_millis(slice_ms));
                println!("{} {threads} {ns} {allocations}", case.name);
            }
        }
    }
}
