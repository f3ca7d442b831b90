//! Time and allocations of a slice.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::Worker;

struct Counting;

thread_local! {
    /// Of this thread: what others allocate meanwhile is not the worker's.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn allocations() -> u64 {
    ALLOCATIONS.get()
}

// SAFETY: all is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
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
    let begin = Barrier::new(workers.len());
    let measured: Vec<Measured> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            workers.iter_mut().map(|worker| scope.spawn(|| run(worker, &begin, length))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let calls: u64 = measured.iter().map(|one| one.calls).sum();
    let ns: u128 = measured.iter().map(|one| one.took.as_nanos()).sum();
    let allocations: u64 = measured.iter().map(|one| one.allocations).sum();
    (ns as f64 / calls as f64, allocations as f64 / calls as f64)
}

struct Measured {
    calls: u64,
    took: Duration,
    allocations: u64,
}

fn run(worker: &mut Worker, begin: &Barrier, length: Duration) -> Measured {
    // What is allocated once for a thread is not of a call.
    worker(BATCH);
    begin.wait();
    let (allocated, begin, mut calls) = (allocations(), Instant::now(), 0);
    loop {
        worker(BATCH);
        calls += BATCH;
        let took = begin.elapsed();
        if took >= length {
            return Measured { calls, took, allocations: allocations() - allocated };
        }
    }
}
