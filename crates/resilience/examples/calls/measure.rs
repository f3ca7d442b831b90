//! Time and allocations of a slice.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Worker;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: all is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Calls between looks at the clock.
const BATCH: u64 = 1000;

/// How long a call takes on each of the threads, in nanoseconds, and its allocations.
pub(crate) fn slice(workers: &mut [Worker], length: Duration) -> (f64, f64) {
    if let [worker] = workers {
        worker(BATCH);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let (calls, took) = run(worker, length);
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        return (took.as_nanos() as f64 / calls as f64, allocations as f64 / calls as f64);
    }
    // Allocations are of all that runs between the barriers: of the workers alone.
    let (begin, end) = (Barrier::new(workers.len()), Barrier::new(workers.len()));
    let measured: Vec<(u64, Duration, u64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = workers
            .iter_mut()
            .map(|worker| {
                scope.spawn(|| {
                    worker(BATCH);
                    begin.wait();
                    let before = ALLOCATIONS.load(Ordering::Relaxed);
                    let (calls, took) = run(worker, length);
                    end.wait();
                    (calls, took, ALLOCATIONS.load(Ordering::Relaxed) - before)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let calls: u64 = measured.iter().map(|(calls, ..)| calls).sum();
    let ns: u128 = measured.iter().map(|(_, took, _)| took.as_nanos()).sum();
    let allocations = measured.iter().map(|(.., allocations)| *allocations).max().unwrap_or(0);
    (ns as f64 / calls as f64, allocations as f64 / calls as f64)
}

fn run(worker: &mut Worker, length: Duration) -> (u64, Duration) {
    let (begin, mut calls) = (Instant::now(), 0);
    loop {
        worker(BATCH);
        calls += BATCH;
        let took = begin.elapsed();
        if took >= length {
            return (calls, took);
        }
    }
}
