//! The listeners of backends, so that one look tells whether one is there and keeps up.
//!
//! Two maps hold each: one what the kernel's socket can be found by without a call or a reference,
//! the other the socket itself, for who has to hand it on and for kernels that cast no addresses.

use core::{ffi::c_void, intrinsics::cold_path, ptr::read_volatile};

use aya_ebpf::{
    bindings::bpf_sock,
    helpers::generated::{bpf_map_lookup_elem, bpf_sk_release},
};
use sinew_abi::{BackendPlace, DYING, DYING_FOR_NS, KnownListener};

use crate::{
    kernel,
    maps::{BACKEND_HOT, BACKENDS, KNOWN_LISTENERS6, LISTENERS, LISTENERS6},
};

/// As the state of a `bpf_sock`.
pub const LISTEN: u32 = kernel::LISTEN as u32;

/// Where a listener is bound. One on an IPv4-mapped address of an IPv6 socket counts as `V4`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ip {
    V4,
    V6,
}

/// The socket map of listeners on such addresses.
#[inline(always)]
pub fn sockets(ip: Ip) -> *mut c_void {
    match ip {
        Ip::V4 => (&raw const LISTENERS).cast_mut().cast(),
        Ip::V6 => (&raw const LISTENERS6).cast_mut().cast(),
    }
}

/// The socket at `backend` of a socket map, or null; to be released.
///
/// # Safety
/// `sockets` came from [`sockets`]; the caller releases what is not null.
#[inline(always)]
pub unsafe fn find(sockets: *mut c_void, backend: u32) -> *mut bpf_sock {
    // SAFETY: see above; the key is a word on the stack.
    unsafe { bpf_map_lookup_elem(sockets, (&raw const backend).cast()).cast() }
}

/// Answer of [`Listeners::queue`]: no listener is known.
pub const NO_LISTENER: u32 = u32::MAX;
/// Answer of [`Listeners::queue`]: there is one, whose process dies.
pub const DYING_LISTENER: u32 = u32::MAX - 1;

/// Notes where the kernel keeps the listener of a backend.
#[inline(always)]
pub fn remember(backend: u32, ip: Ip, listener: KnownListener) {
    let Some(place) = place(backend, ip) else { return };
    // SAFETY: a map value. Who finds half of it written finds a cookie that is not that socket's.
    unsafe {
        // It may be known, and that its process dies.
        if (&raw const (*place).cookie).read_volatile() & !DYING != listener.cookie {
            place.write_volatile(listener);
        }
    }
}

/// Notes that the process dies that made a listener of a backend.
#[inline(always)]
pub fn dies(backend: u32, cookie: u64, now_ns: u64) {
    let Some(hot) = BACKEND_HOT.get_ptr_mut(backend) else { return };
    for ip in [Ip::V4, Ip::V6] {
        let Some(place) = place(backend, ip) else { return };
        // SAFETY: map values. A new listener that is noted in between bears another cookie and is
        // known again by the next scan.
        unsafe {
            if (&raw const (*place).cookie).read_volatile() & !DYING == cookie {
                (&raw mut (*hot).dying_ns).write_volatile(now_ns);
                (&raw mut (*place).cookie).write_volatile(cookie | DYING);
            }
        }
    }
}

#[inline(always)]
fn place(backend: u32, ip: Ip) -> Option<*mut KnownListener> {
    match ip {
        // SAFETY: a field of a map value, of which only the place is taken.
        Ip::V4 => BACKENDS.get_ptr_mut(backend).map(|of| unsafe { &raw mut (*of).listener4 }),
        Ip::V6 => KNOWN_LISTENERS6.get_ptr_mut(backend),
    }
}

/// The listeners of one backend.
#[derive(Clone, Copy)]
pub struct Listeners {
    backend: u32,
    known4: &'static KnownListener,
}

impl Listeners {
    #[inline(always)]
    pub fn of(backend: u32, place: &'static BackendPlace) -> Self {
        Self { backend, known4: &place.listener4 }
    }

    /// Length of the accept queue, [`NO_LISTENER`] or [`DYING_LISTENER`].
    #[inline(always)]
    pub fn queue(self, ip: Ip, now_ns: u64) -> u32 {
        if kernel::casts() {
            let listener = match ip {
                Ip::V4 => self.known4,
                Ip::V6 => match KNOWN_LISTENERS6.get(self.backend) {
                    Some(known) => known,
                    None => return NO_LISTENER,
                },
            };
            // SAFETY: map values, read once each.
            unsafe {
                let cookie = read_volatile(&raw const listener.cookie);
                let queue = kernel::accept_queue_of(listener, cookie & !DYING);
                if queue == NO_LISTENER || cookie & DYING == 0 {
                    return queue;
                }
                cold_path();
                let Some(hot) = BACKEND_HOT.get_ptr(self.backend) else { return queue };
                let since_ns = now_ns.saturating_sub(read_volatile(&raw const (*hot).dying_ns));
                return if since_ns < DYING_FOR_NS { DYING_LISTENER } else { queue };
            }
        }
        // SAFETY: the map is one of this object's; the reference taken is released on every path.
        unsafe {
            let socket = find(sockets(ip), self.backend);
            if socket.is_null() {
                return NO_LISTENER;
            }
            let listens = read_volatile(&raw const (*socket).state) == LISTEN;
            let queue = if listens { kernel::accept_queue(socket) } else { NO_LISTENER };
            bpf_sk_release(socket.cast());
            queue
        }
    }
}
