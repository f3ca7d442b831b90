//! What is held against other hosts, as the programs keep it.

use sinew_abi::Suspicion;
use sinew_ebpf::suspicion::{self, Standing};

use crate::{
    count::{own, swap64},
    maps::NODES,
};

#[inline(always)]
fn read(place: *const Suspicion) -> Suspicion {
    // SAFETY: a map value. Processors write it for one another; each field is a hint by itself.
    unsafe { place.read_volatile() }
}

/// Whether a host may be called now. Takes its probe when one is due and the outcome will be seen; what
/// `is_fit` says of the endpoint is asked before that. The number is looked up where it lies: the stack
/// is short.
#[inline(always)]
pub fn may_call(
    node: &u32,
    now_ns: u64,
    outcome_seen: bool,
    is_fit: impl FnOnce() -> bool,
) -> bool {
    let Some(place) = NODES.get_ptr_mut(node) else { return is_fit() };
    // SAFETY: as in `read`.
    let (until_ns, probe_ns) = unsafe {
        (
            (&raw const (*place).until_ns).read_volatile(),
            (&raw const (*place).probe_ns).read_volatile(),
        )
    };
    match suspicion::standing(until_ns, probe_ns, now_ns) {
        Standing::Suspect => {
            own(|c| c.suspects_passed += 1);
            false
        }
        Standing::Trusted => is_fit(),
        Standing::Due if !outcome_seen => is_fit(),
        // SAFETY: a map value; one processor wins.
        Standing::Due => {
            is_fit() && unsafe { swap64(&raw mut (*place).probe_ns, probe_ns, now_ns) }
        }
    }
}

/// A connect() to the host got no answer.
#[inline(always)]
pub fn unanswered(node: u32, now_ns: u64) {
    let Some(place) = NODES.get_ptr_mut(&node) else { return };
    let was = read(place);
    let is = suspicion::unanswered(&was, now_ns);
    if is.suspicions != was.suspicions {
        own(|c| c.suspicions += 1);
    }
    // SAFETY: as in `read`; of two that come at once one may be lost, and each alone is told again.
    unsafe { place.write_volatile(is) };
}

/// It answered one.
#[inline(always)]
pub fn answered(node: u32) {
    let Some(place) = NODES.get_ptr_mut(&node) else { return };
    let was = read(place);
    // Written only when it tells something: the line stays shared while all is well.
    if !suspicion::is_clean(&was) {
        // SAFETY: as above.
        unsafe { place.write_volatile(suspicion::answered(&was)) };
    }
}
