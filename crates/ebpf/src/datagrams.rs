//! Puts the UDP sockets of instances where packets of other hosts are handed to them from: the kernel
//! runs no program that could when they are bound, so user space asks when it hears of it.

use core::ffi::c_void;

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::generated::bpf_map_update_elem};
use sinew_abi::{ListenKey, NONE, protocol};

use crate::{
    address::{AF_INET, is_mapped, mapped},
    kernel,
    listeners::{self, Ip},
    maps::LISTEN_KEYS,
};

/// Context of an `iter/udp` program (`struct bpf_iter__udp`): pointers sit in 8-byte places.
#[repr(C)]
pub struct IterUdp {
    meta: *mut c_void,
    socket: *mut c_void,
    uid: u32,
}

const NEXT: i32 = 0;

#[inline(always)]
pub fn scan(context: *mut IterUdp) -> i32 {
    // SAFETY: a word of the context; the verifier knows it as a BTF pointer or null.
    let socket = unsafe { (*context).socket };
    if socket.is_null() {
        return NEXT;
    }
    // SAFETY: as above, to a `udp_sock`.
    let Some(bound) = (unsafe { kernel::unconnected(socket.cast()) }) else { return NEXT };
    let addr = if u32::from(bound.family) == AF_INET { mapped(bound.addr4) } else { bound.addr6 };
    let key = ListenKey {
        addr,
        port: bound.port.to_be(),
        reserved: 0,
        protocol: u32::from(protocol::UDP),
    };
    // SAFETY: entries are replaced as a whole and stay readable until this program returns.
    let Some(value) = (unsafe { LISTEN_KEYS.get(&key) }) else { return NEXT };
    let index = value.backend;
    // SAFETY: as above.
    let owner = unsafe { kernel::maker(socket.cast()) };
    // Anybody may bind an address that nobody uses at the moment.
    if index == NONE || !owner.is_some_and(|owner| owner.id == value.instance) {
        return NEXT;
    }
    let ip = if is_mapped(&addr) { Ip::V4 } else { Ip::V6 };
    // The one that is there stays: it leaves by itself when it is closed.
    let flags = u64::from(BPF_NOEXIST);
    // SAFETY: the map is this object's; the verifier knows `socket` as a socket.
    unsafe {
        bpf_map_update_elem(listeners::sockets(ip), (&raw const index).cast(), socket, flags)
    };
    NEXT
}
