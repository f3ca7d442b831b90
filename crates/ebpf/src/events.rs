//! Events to user space. Losing one is counted, never waited for.

use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_ringbuf_output};
use sinew_abi::{Event, event};

use crate::{count::own, maps::EVENTS};

/// Sends an event, stamped with the time when it bears none.
#[inline(always)]
pub fn send(event: &Event) {
    let mut event = *event;
    if event.at_ns == 0 {
        // SAFETY: no arguments.
        event.at_ns = unsafe { bpf_ktime_get_ns() };
    }
    // SAFETY: the ring copies the bytes of a type without padding.
    let failed = unsafe {
        bpf_ringbuf_output(
            (&raw const EVENTS).cast_mut().cast(),
            (&raw mut event).cast(),
            size_of::<Event>() as u64,
            0,
        )
    };
    if failed != 0 {
        own(|c| if event.kind == event::FLOW { c.flows_lost += 1 } else { c.notices_lost += 1 });
    }
}
