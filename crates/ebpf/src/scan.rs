//! Puts listeners that exist already into the listener maps: what `listen` does for new ones, run
//! over all listeners of the namespace when user space asks (a restart, an adopted program).

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_map_update_elem};
use sinew_abi::{KnownListener, ListenKey, NONE, protocol};

use crate::{
    address::{AF_INET, is_mapped, mapped},
    kernel,
    listeners::{self, Ip},
    maps::LISTEN_KEYS,
};

/// Context of an `iter/tcp` program (`struct bpf_iter__tcp`): pointers sit in 8-byte places.
#[repr(C)]
pub struct IterTcp {
    meta: *mut c_void,
    sk_common: *mut c_void,
    uid: u32,
}

const CLOSE: u8 = 7;

/// What the program returns to go on with the next socket, or to have the reader told EAGAIN.
const NEXT: i32 = 0;
const ENOUGH: i32 = 1;

#[inline(always)]
pub fn scan(context: *mut IterTcp) -> i32 {
    // SAFETY: a word of the context; the verifier knows it as a BTF pointer or null.
    let socket = unsafe { (*context).sk_common };
    if socket.is_null() {
        return NEXT;
    }
    // SAFETY: as above.
    let Some(bound) = (unsafe { kernel::listener(socket.cast()) }) else {
        // Listeners come first, some of which close meanwhile; connections may be many.
        // SAFETY: as above.
        return if unsafe { kernel::state(socket.cast()) } == CLOSE { NEXT } else { ENOUGH };
    };
    let addr = if u32::from(bound.family) == AF_INET { mapped(bound.addr4) } else { bound.addr6 };
    let key = ListenKey {
        addr,
        port: bound.port.to_be(),
        reserved: 0,
        protocol: u32::from(protocol::TCP),
    };
    // SAFETY: entries are replaced as a whole and stay readable until this program returns.
    let Some(value) = (unsafe { LISTEN_KEYS.get(&key) }) else { return NEXT };
    let index = value.backend;
    // SAFETY: the verifier knows `socket` as a socket.
    let owner = unsafe { kernel::owner(socket) };
    // Anybody may bind an address that nobody uses at the moment.
    if index == NONE || !owner.is_some_and(|owner| owner.id == value.instance) {
        return NEXT;
    }
    // SAFETY: the maps are this object's; the verifier knows `socket` as a socket.
    unsafe {
        let ip = if is_mapped(&addr) { Ip::V4 } else { Ip::V6 };
        bpf_map_update_elem(listeners::sockets(ip), (&raw const index).cast(), socket, 0);
        let cookie = bpf_get_socket_cookie(socket);
        listeners::remember(index, ip, KnownListener { socket: socket as u64, cookie });
    }
    NEXT
}
