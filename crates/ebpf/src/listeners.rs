//! The listeners of backends, so that one look tells whether one is there and keeps up.
//!
//! Two maps hold each: one what the kernel's socket can be found by without a call or a reference,
//! the other the socket itself, for who has to hand it on and for kernels that cast no addresses.

use core::{ffi::c_void, ptr::read_volatile};

use aya_ebpf::{
    bindings::bpf_sock,
    helpers::generated::{bpf_map_lookup_elem, bpf_sk_release},
};
use sinew_abi::{DYING, DYING_FOR_NS, KnownListener, KnownListeners};

use crate::{
    kernel,
    maps::{BACKEND_HOT, KNOWN_LISTENERS, LISTENERS, LISTENERS6},
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
    let Some(known) = KNOWN_LISTENERS.get_ptr_mut(backend) else { return };
    let place = one_of(known, ip);
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
    let Some(known) = KNOWN_LISTENERS.get_ptr_mut(backend) else { return };
    let Some(hot) = BACKEND_HOT.get_ptr_mut(backend) else { return };
    for ip in [Ip::V4, Ip::V6] {
        let place = one_of(known, ip);
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
fn one_of(known: *mut KnownListeners, ip: Ip) -> *mut KnownListener {
    // SAFETY: fields of a map value, of which only the places are taken.
    unsafe {
        match ip {
            Ip::V4 => &raw mut (*known).v4,
            Ip::V6 => &raw mut (*known).v6,
        }
    }
}

/// The listeners of one backend.
#[derive(Clone, Copy)]
pub struct Listeners {
    backend: u32,
    known: Option<&'static KnownListeners>,
}

impl Listeners {
    /// One look for both families: each look-up takes room on the stack.
    #[inline(always)]
    pub fn of(backend: u32) -> Self {
        Self { backend, known: if kernel::casts() { KNOWN_LISTENERS.get(backend) } else { None } }
    }

    /// Length of the accept queue, [`NO_LISTENER`] or [`DYING_LISTENER`].
    #[inline(always)]
    pub fn queue(self, ip: Ip, now_ns: u64) -> u32 {
        if kernel::casts() {
            return self.known.map_or(NO_LISTENER, |known| {
                let listener = match ip {
                    Ip::V4 => &known.v4,
                    Ip::V6 => &known.v6,
                };
                // SAFETY: map values, read once each.
                unsafe {
                    let cookie = read_volatile(&raw const listener.cookie);
                    let queue = kernel::accept_queue_of(listener, cookie & !DYING);
                    if queue == NO_LISTENER || cookie & DYING == 0 {
                        return queue;
                    }
                    let Some(hot) = BACKEND_HOT.get_ptr(self.backend) else { return queue };
                    let since_ns = now_ns.saturating_sub(read_volatile(&raw const (*hot).dying_ns));
                    if since_ns < DYING_FOR_NS { DYING_LISTENER } else { queue }
                }
            });
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
