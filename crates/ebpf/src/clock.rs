//! Monotonic time to a tick. Nothing that is decided by it is finer.
//!
//! The kernel counts ticks off the monotonic clock, so both run alike, and the count is one load,
//! where the clock is a call.

use core::intrinsics::cold_path;

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};

use crate::{kernel, maps::CONFIG};

/// Nanoseconds of the monotonic clock.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: no arguments.
    let ticks_ns = unsafe { bpf_jiffies64() }.wrapping_mul(kernel::tick_ns());
    let Some(config) = CONFIG.get_ptr_mut(0) else { return ticks_ns };
    // SAFETY: map value. Those who come first at once find bases at most a tick apart.
    unsafe {
        let place = &raw mut (*config).clock_base_ns;
        let mut base = place.read_volatile();
        if base == 0 {
            cold_path();
            base = bpf_ktime_get_coarse_ns().wrapping_sub(ticks_ns);
            place.write_volatile(base);
        }
        ticks_ns.wrapping_add(base)
    }
}
