//! sk_lookup: what comes to an address of this host's slice, from other hosts mostly. It is handed to
//! the instance's own listener, which is bound to another address. Whatever else is bound on the host
//! is not reached: neither other programs at the wildcard, nor an instance's ports that are not
//! declared, nor what it binds to localhost.

use aya_ebpf::{
    bindings::{bpf_sk_lookup, sk_action},
    helpers::generated::{bpf_sk_assign, bpf_sk_release},
};
use sinew_abi::{FleetKey, host, protocol};

use crate::{
    backend,
    count::own,
    fleet,
    maps::{AWAITED_REPLIES, FLEET_PORTS},
    publish,
};

const PASS: u32 = sk_action::SK_PASS;
/// The kernel answers as if nobody listened.
const DROP: u32 = sk_action::SK_DROP;

/// A packet to `local`, an address of the slice.
#[inline(always)]
pub fn take(
    context: *mut bpf_sk_lookup,
    local: [u32; 4],
    remote: &[u32; 4],
    port: u32,
    number: u32,
) -> u32 {
    if !fleet::is_member(remote) {
        own(|c| c.fleet_strangers += 1);
        return DROP;
    }
    let key = FleetKey { addr: local, port: (port as u16).to_be(), protocol: number as u16 };
    if number == u32::from(protocol::UDP) && AWAITED_REPLIES.get_ptr(&key).is_some() {
        return PASS;
    }
    if hand_over(context, &key) {
        own(|c| c.fleet_accepted += 1);
        return PASS;
    }
    // Agents of other hosts ask there for a sign of life, which that it is refused is.
    let asks = number == u32::from(protocol::TCP) && port == u32::from(host::QUIET_PORT);
    if !(asks && fleet::is_first(&local)) {
        own(|c| c.fleet_unheard += 1);
    }
    DROP
}

#[inline(always)]
fn hand_over(context: *mut bpf_sk_lookup, key: &FleetKey) -> bool {
    // SAFETY: entries are replaced as a whole and stay readable until this program returns.
    let Some(port) = (unsafe { FLEET_PORTS.get(key) }) else { return false };
    // The place may be another endpoint's by now.
    if backend::config(port.backend).is_none_or(|backend| backend.generation != port.generation) {
        return false;
    }
    let six = !crate::address::is_mapped(&key.addr);
    let stream = key.protocol == protocol::TCP;
    // SAFETY: the reference taken is released; the kernel keeps a socket that was assigned for as long
    // as the packet needs it.
    unsafe {
        let socket = publish::listener(port.backend, six, stream);
        if socket.is_null() {
            return false;
        }
        let failed = bpf_sk_assign(context.cast(), socket.cast(), 0);
        bpf_sk_release(socket.cast());
        failed == 0
    }
}
