//! listen(): the moment a backend can be taken. The callback is attached only while user space
//! waits for it or there are other hosts, since socket callbacks cost every connection of the cgroup.

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::bpf_sock_ops,
    helpers::generated::{bpf_get_socket_cookie, bpf_sock_map_update},
};
use sinew_abi::{Event, KnownListener, ListenKey, NONE, event, protocol};

use crate::{
    address::{AF_INET6, is_mapped, mapped, words},
    calls::{self, ACTIVE_ESTABLISHED_CB, RTO_CB, TCP_CONNECT_CB, TIMEOUT_INIT},
    deaths, events, fleet,
    listeners::{self, Ip},
    maps::LISTEN_KEYS,
};

/// `BPF_SOCK_OPS_TCP_LISTEN_CB` of include/uapi/linux/bpf.h.
const TCP_LISTEN_CB: u32 = 11;

#[inline(always)]
pub fn callback(context: *mut bpf_sock_ops) -> u32 {
    // SAFETY: a word of the context.
    match unsafe { read_volatile(&raw const (*context).op) } {
        TCP_LISTEN_CB => listens(context),
        op @ (TIMEOUT_INIT | TCP_CONNECT_CB | ACTIVE_ESTABLISHED_CB | RTO_CB) => {
            if fleet::exists() {
                calls::callback(context, op);
            }
            1
        }
        _ => 1,
    }
}

#[inline(always)]
fn listens(context: *mut bpf_sock_ops) -> u32 {
    // SAFETY: words of the context, read one by one.
    let (addr, port) = unsafe {
        // Read before the branch: the compiler would else choose between two places of the
        // context, which the verifier does not let a program compute.
        let addr4 = read_volatile(&raw const (*context).local_ip4);
        let addr6 = words((&raw const (*context).local_ip6).cast());
        let six = read_volatile(&raw const (*context).family) == AF_INET6;
        let addr = if six { addr6 } else { mapped(addr4) };
        // Host byte order in this context alone.
        (addr, (read_volatile(&raw const (*context).local_port) as u16).to_be())
    };
    let key = ListenKey { addr, port, reserved: 0, protocol: u32::from(protocol::TCP) };
    // SAFETY: entries are replaced as a whole and stay readable until this program returns.
    let Some(value) = (unsafe { LISTEN_KEYS.get(&key) }) else { return 1 };
    let ip = if is_mapped(&addr) { Ip::V4 } else { Ip::V6 };
    let mut index = value.backend;
    if index != NONE {
        // SAFETY: the map is one of this object's, the key a word on the stack; the context's own
        // socket and its cookie.
        unsafe {
            bpf_sock_map_update(context, listeners::sockets(ip), (&raw mut index).cast(), 0);
            let socket = read_volatile(&raw const (*context).__bindgen_anon_2.sk);
            let cookie = bpf_get_socket_cookie(context.cast());
            let listener = KnownListener { socket: socket as u64, cookie };
            listeners::remember(index, ip, listener);
            deaths::listens(index, cookie);
        }
    }
    events::send(&Event {
        kind: event::LISTEN,
        instance: value.instance,
        backend: value.backend,
        addr,
        port,
        protocol: protocol::TCP,
        ..Event::ZERO
    });
    1
}
