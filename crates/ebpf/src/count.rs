//! Atomic and per-CPU counting. The target has no atomic types, so the intrinsics are used.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_xadd, cold_path};

use sinew_abi::{Counters, Edge, EdgeKey};

use crate::maps::{COUNTERS, EDGE_ZERO, EDGES};

/// Adds to a word that every CPU writes.
///
/// # Safety
/// `word` points into a map value.
#[inline(always)]
pub unsafe fn add32(word: *mut u32, by: u32) {
    // SAFETY: see above.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(word, by) };
}

/// Adds to a word that every CPU writes.
///
/// # Safety
/// `word` points into a map value.
#[inline(always)]
pub unsafe fn add64(word: *mut u64, by: u64) {
    // SAFETY: see above.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(word, by) };
}

/// Adds one and answers what was there. The ordering matters to the code generator: a relaxed
/// addition becomes the instruction that gives nothing back, whether or not the result is used.
///
/// # Safety
/// `word` points into a map value.
#[inline(always)]
pub unsafe fn next32(word: *mut u32) -> u32 {
    // SAFETY: see above.
    unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::AcqRel }>(word, 1) }
}

/// See [`next32`].
///
/// # Safety
/// `word` points into a map value.
#[inline(always)]
pub unsafe fn next64(word: *mut u64) -> u64 {
    // SAFETY: see above.
    unsafe { fetch_add64(word, 1) }
}

/// Adds and answers what was there; see [`next32`].
///
/// # Safety
/// `word` points into a map value.
#[inline(always)]
pub unsafe fn fetch_add64(word: *mut u64, by: u64) -> u64 {
    // SAFETY: see above.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::AcqRel }>(word, by) }
}

/// Replaces `old` by `new`; false when somebody was faster.
///
/// # Safety
/// `word` points into a map value.
#[inline(always)]
pub unsafe fn swap64(word: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: see above.
    let (_, done) = unsafe {
        atomic_cxchg::<u64, { AtomicOrdering::Relaxed }, { AtomicOrdering::Relaxed }>(
            word, old, new,
        )
    };
    done
}

/// This CPU's counters about the programs themselves.
#[inline(always)]
pub fn own(count: impl FnOnce(&mut Counters)) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: this CPU's own copy; programs of one CPU nest only through sleeping, and these
        // do not sleep.
        count(unsafe { &mut *counters });
    }
}

/// This CPU's copy of an edge's counters; made when it is not there.
#[inline(always)]
pub fn edge(source: u32, destination: u32) -> Option<&'static mut Edge> {
    let key = EdgeKey { source, destination };
    let mut found = EDGES.get_ptr_mut(&key);
    if found.is_none() {
        cold_path();
        if let Some(zero) = EDGE_ZERO.get(0) {
            // A loser of the race finds what the winner made.
            let _ = EDGES.insert(&key, zero, aya_ebpf::bindings::BPF_NOEXIST.into());
        }
        found = EDGES.get_ptr_mut(&key);
        if found.is_none() {
            own(|c| c.edges_lost += 1);
        }
    }
    // SAFETY: this CPU's own copy, see `own`.
    found.map(|edge| unsafe { &mut *edge })
}
