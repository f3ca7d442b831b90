//! Who listens, asked of the network namespace. Slower than the listener maps, always true.

use core::{ffi::c_void, mem};

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_tuple},
    helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release},
};
use sinew_abi::{
    Backend, Instance,
    address::{self, Kind},
    backend_flags, instance_flags,
};

use crate::{
    address::LOCALHOST4,
    bind::same,
    kernel,
    listeners::LISTEN,
    maps::{ADOPTED_LISTENERS, CONFIG, PORT_NAMES},
};

/// The network namespace of the program's own context.
const CURRENT_NETNS: u64 = u64::MAX;
const TUPLE4: u32 = 12;
const TUPLE6: u32 = 36;

#[inline(always)]
fn find4(context: *mut c_void, addr: u32, port: u16, stream: bool) -> *mut bpf_sock {
    // SAFETY: a union of integers; the helpers read the first 12 bytes.
    unsafe {
        let mut tuple: bpf_sock_tuple = mem::zeroed();
        tuple.__bindgen_anon_1.ipv4.saddr = LOCALHOST4;
        tuple.__bindgen_anon_1.ipv4.daddr = addr;
        tuple.__bindgen_anon_1.ipv4.dport = port;
        if stream {
            bpf_sk_lookup_tcp(context, &raw mut tuple, TUPLE4, CURRENT_NETNS, 0)
        } else {
            bpf_sk_lookup_udp(context, &raw mut tuple, TUPLE4, CURRENT_NETNS, 0)
        }
    }
}

#[inline(always)]
fn find6(context: *mut c_void, addr: &[u32; 4], port: u16, stream: bool) -> *mut bpf_sock {
    // SAFETY: a union of integers; the helpers read the first 36 bytes.
    unsafe {
        let mut tuple: bpf_sock_tuple = mem::zeroed();
        tuple.__bindgen_anon_1.ipv6.saddr = *addr;
        tuple.__bindgen_anon_1.ipv6.daddr = *addr;
        tuple.__bindgen_anon_1.ipv6.dport = port;
        if stream {
            bpf_sk_lookup_tcp(context, &raw mut tuple, TUPLE6, CURRENT_NETNS, 0)
        } else {
            bpf_sk_lookup_udp(context, &raw mut tuple, TUPLE6, CURRENT_NETNS, 0)
        }
    }
}

/// Accept queue of a listener at an address that anybody may bind while nobody uses it: only one
/// counts that whoever `owns` the address made, or that an adopted program of `service` had before.
///
/// # Safety
/// `socket` was returned by a look-up.
#[inline(always)]
unsafe fn queue_of(
    socket: *mut bpf_sock,
    of_plan: bool,
    service: impl Fn() -> u32,
    owns: impl FnOnce(&Instance) -> bool,
) -> u32 {
    // SAFETY: see above.
    unsafe {
        let own = match kernel::owner(socket.cast()) {
            Some(instance) if of_plan => owns(instance),
            Some(instance) if instance.flags & instance_flags::OWN_ADDRESS == 0 => {
                instance.service == service()
            }
            _ => !of_plan && brought(socket, &service),
        };
        if own { kernel::accept_queue(socket) } else { u32::MAX }
    }
}

/// Whether an adopted program of the service had this listener before.
///
/// # Safety
/// `socket` was returned by a look-up.
#[inline(always)]
unsafe fn brought(socket: *mut bpf_sock, service: impl Fn() -> u32) -> bool {
    // SAFETY: see above; entries stay readable until this program returns.
    let known = unsafe { ADOPTED_LISTENERS.get(&kernel::cookie(socket.cast())) };
    known.is_some_and(|known| *known == service())
}

/// A wildcard listener of the host is found too: only one bound to that very address counts, unless
/// the backend is known to listen everywhere (`wildcard`). Outside of the network's addresses it
/// counts only for an adopted endpoint of `service`.
///
/// # Safety
/// `socket` was returned by a look-up; it is released here.
#[inline(always)]
unsafe fn judge4(
    socket: *mut bpf_sock,
    addr: u32,
    stream: bool,
    wildcard: bool,
    service: impl Fn() -> u32,
) -> u32 {
    // SAFETY: see above.
    unsafe {
        if socket.is_null() {
            return u32::MAX;
        }
        let mut queue = u32::MAX;
        let bound = (&raw const (*socket).src_ip4).read_volatile();
        if (bound == addr || (wildcard && bound == 0)) && (!stream || (*socket).state == LISTEN) {
            let of_plan = address::kind4(addr) != Kind::Other;
            let owns = |i: &Instance| i.addr4 == addr || address::loopback4(i.addr4) == addr;
            queue = if stream { queue_of(socket, of_plan, service, owns) } else { 0 };
        }
        bpf_sk_release(socket.cast());
        queue
    }
}

/// # Safety
/// As [`judge4`].
#[inline(always)]
unsafe fn judge6(
    socket: *mut bpf_sock,
    addr: &[u32; 4],
    stream: bool,
    wildcard: bool,
    service: impl Fn() -> u32,
) -> u32 {
    // SAFETY: see above.
    unsafe {
        if socket.is_null() {
            return u32::MAX;
        }
        let bound = [
            (&raw const (*socket).src_ip6[0]).read_volatile(),
            (&raw const (*socket).src_ip6[1]).read_volatile(),
            (&raw const (*socket).src_ip6[2]).read_volatile(),
            (&raw const (*socket).src_ip6[3]).read_volatile(),
        ];
        let mut queue = u32::MAX;
        let everywhere = wildcard && bound[0] | bound[1] | bound[2] | bound[3] == 0;
        if (same(&bound, addr) || everywhere) && (!stream || (*socket).state == LISTEN) {
            let of_plan = CONFIG.get(0).and_then(|c| address::subnet6(addr, &c.prefix6)).is_some();
            let owns =
                |i: &Instance| same(&i.addr6, addr) || same(&address::loopback6(&i.addr6), addr);
            queue = if stream { queue_of(socket, of_plan, service, owns) } else { 0 };
        }
        bpf_sk_release(socket.cast());
        queue
    }
}

#[inline(always)]
fn service_of(config: &Backend) -> u32 {
    PORT_NAMES.get(config.index).map_or(0, |name| name.service)
}

/// Accept queue of the TCP listener of a backend, or `u32::MAX`.
#[inline(always)]
pub fn queue4(context: *mut c_void, config: &Backend) -> u32 {
    // SAFETY: the socket goes straight from the look-up to its judge.
    unsafe {
        let wildcard = config.flags & backend_flags::WILDCARD4 != 0;
        let found = find4(context, config.addr4, config.port, true);
        judge4(found, config.addr4, true, wildcard, || service_of(config))
    }
}

/// The same over IPv6.
#[inline(always)]
pub fn queue6(context: *mut c_void, config: &Backend) -> u32 {
    // SAFETY: as above.
    unsafe {
        let wildcard = config.flags & backend_flags::WILDCARD6 != 0;
        let found = find6(context, &config.addr6, config.port, true);
        judge6(found, &config.addr6, true, wildcard, || service_of(config))
    }
}

/// Whether a socket is bound to that very address and port.
#[inline(always)]
pub fn serves4(context: *mut c_void, addr: u32, port: u16, stream: bool) -> bool {
    // SAFETY: as above.
    unsafe { judge4(find4(context, addr, port, stream), addr, stream, false, || 0) != u32::MAX }
}

/// The same over IPv6.
#[inline(always)]
pub fn serves6(context: *mut c_void, addr: &[u32; 4], port: u16, stream: bool) -> bool {
    // SAFETY: as above.
    unsafe { judge6(find6(context, addr, port, stream), addr, stream, false, || 0) != u32::MAX }
}
