//! Instances of many hosts: which addresses are theirs, and what this host's own are called there.
//!
//! A host that is alone has masks of zeros, and pays a load and a comparison.

use aya_ebpf::{bindings::bpf_sock_addr, btf_maps::lpm_trie::Key};
use sinew_abi::{
    Fleet, FleetKey, HostAddress, Instance,
    address::{loopback4, loopback6},
    host, protocol,
};

use crate::{
    address::{Target, is_mapped, mapped},
    bind::same,
    connect, identity,
    maps::{AWAITED_REPLIES, FLEET, HOSTS},
};

#[inline(always)]
fn fleet() -> Option<&'static Fleet> {
    FLEET.get(0)
}

/// Whether this host is one of several.
#[inline(always)]
pub fn exists() -> bool {
    fleet().is_some_and(|fleet| fleet.mask4 | fleet.mask6[0] != 0)
}

#[inline(always)]
fn in4(addr: u32, first: u32, mask: u32) -> bool {
    mask != 0 && addr & mask == first
}

#[inline(always)]
fn in6(addr: &[u32; 4], first: &[u32; 4], mask: &[u32; 4]) -> bool {
    mask[0] != 0
        && addr[0] & mask[0] == first[0]
        && addr[1] & mask[1] == first[1]
        && addr[2] & mask[2] == first[2]
        && addr[3] & mask[3] == first[3]
}

/// Whether an address is one of an instance of this host, or would be.
#[inline(always)]
pub fn is_own(addr: &[u32; 4], six: bool) -> bool {
    fleet().is_some_and(|fleet| {
        if six {
            in6(addr, &fleet.slice6, &fleet.slice_mask6)
        } else {
            in4(addr[3], fleet.slice4, fleet.slice_mask4)
        }
    })
}

/// Whether an address is the first of this host's slice, which no instance gets.
#[inline(always)]
pub fn is_first(addr: &[u32; 4]) -> bool {
    fleet().is_some_and(|fleet| {
        if is_mapped(addr) { addr[3] == fleet.slice4 } else { same(addr, &fleet.slice6) }
    })
}

/// Whether an address is one of an instance, on whichever host.
#[inline(always)]
pub fn has(addr: &[u32; 4]) -> bool {
    let may = if is_mapped(addr) { may_have4(addr[3]) } else { may_have6(addr) };
    may && is_listed(addr)
}

/// Whose an address is.
#[inline(always)]
pub fn owner(addr: &[u32; 4]) -> Option<HostAddress> {
    // 128: all of it.
    HOSTS.get(&Key::new(128, *addr)).copied()
}

#[inline(always)]
fn is_listed(addr: &[u32; 4]) -> bool {
    owner(addr).is_some_and(|owner| owner.kind != host::ADDRESS)
}

/// Whether instances may be reached from there: another host, or this one.
#[inline(always)]
pub fn is_member(addr: &[u32; 4]) -> bool {
    owner(addr).is_some_and(|owner| owner.kind != host::NETWORK)
}

/// Whether an address may be one of an instance: what the networks have in common may be more than
/// they are.
#[inline(always)]
fn may_have4(addr: u32) -> bool {
    fleet().is_some_and(|fleet| in4(addr, fleet.network4, fleet.mask4))
}

/// The same of IPv6.
#[inline(always)]
fn may_have6(addr: &[u32; 4]) -> bool {
    fleet().is_some_and(|fleet| in6(addr, &fleet.network6, &fleet.mask6))
}

/// A call to an instance of another host bears the caller's address among those of all hosts.
#[inline(always)]
pub fn source4(target: &Target, addr: u32) {
    if may_have4(addr) {
        call_source4(target.raw());
    }
}

/// The same of an IPv6 socket, also when it calls by an IPv4-mapped address.
#[inline(always)]
pub fn source6(target: &Target, addr: &[u32; 4]) {
    if is_mapped(addr) && may_have4(addr[3]) || may_have6(addr) {
        call_source6(target.raw());
    }
}

/// A global function, as `backend::examine` is: it has a stack of its own. Who has no such address, as
/// an adopted program, keeps the host's.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn call_source4(context: *mut bpf_sock_addr) -> u32 {
    // SAFETY: the context of the running program, a hook of connect().
    let target = unsafe { &Target::new(context) };
    if is_listed(&mapped(target.addr4())) {
        if let Some(instance) = identity::current().filter(|instance| instance.fleet4 != 0) {
            connect::bind4(target, instance.fleet4);
        }
    }
    0
}

/// As [`call_source4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn call_source6(context: *mut bpf_sock_addr) -> u32 {
    // SAFETY: as above.
    let target = unsafe { &Target::new(context) };
    let addr = target.addr6();
    if !is_listed(&addr) {
        return 0;
    }
    let Some(instance) = identity::current() else { return 0 };
    let source = if is_mapped(&addr) { mapped(instance.fleet4) } else { instance.fleet6 };
    if source[3] != 0 {
        connect::bind6(target, source);
    }
    0
}

/// A datagram to an instance of another host bears the sender's address among those of all hosts,
/// unless it says another itself.
#[inline(always)]
pub fn datagram_source4(target: &Target, addr: u32) {
    if may_have4(addr) {
        send_source4(target.raw());
    }
}

/// The same of IPv6.
#[inline(always)]
pub fn datagram_source6(target: &Target, addr: &[u32; 4]) {
    if may_have6(addr) {
        send_source6(target.raw());
    }
}

/// A global function, as [`call_source4`] is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_source4(context: *mut bpf_sock_addr) -> u32 {
    // SAFETY: the context of the running program, a hook of sendmsg().
    let target = unsafe { &Target::new(context) };
    if !is_listed(&mapped(target.addr4())) {
        return 0;
    }
    let instance = identity::current().filter(|instance| instance.fleet4 != 0);
    let Some(instance) = instance else { return 0 };
    let source = target.source4();
    if source == 0 {
        await_reply(target, mapped(instance.fleet4));
    } else if source != instance.addr4 && source != loopback4(instance.addr4) {
        return 0;
    }
    target.set_source4(instance.fleet4);
    0
}

/// As [`send_source4`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn send_source6(context: *mut bpf_sock_addr) -> u32 {
    // SAFETY: as above.
    let target = unsafe { &Target::new(context) };
    if !is_listed(&target.addr6()) {
        return 0;
    }
    let instance = identity::current().filter(|instance| instance.fleet6[0] != 0);
    let Some(instance) = instance else { return 0 };
    let source = target.source6();
    if source[0] | source[1] | source[2] | source[3] == 0 {
        await_reply(target, instance.fleet6);
    } else if !same(&source, &instance.addr6) && !same(&source, &loopback6(&instance.addr6)) {
        return 0;
    }
    target.set_source6(&instance.fleet6);
    0
}

/// A socket that is bound to no address of the plan gets its answers as any of the host: they are let
/// in by its port.
#[inline(always)]
fn await_reply(target: &Target, addr: [u32; 4]) {
    // SAFETY: a word of the context's socket, in host byte order.
    let port = unsafe { (&raw const (*target.socket()).src_port).read_volatile() } as u16;
    let key = FleetKey { addr, port: port.to_be(), protocol: protocol::UDP };
    if AWAITED_REPLIES.get_ptr(&key).is_none() {
        // Without room the answer is not let in, as when it had been lost.
        let _ = AWAITED_REPLIES.insert(&key, &0, 0);
    }
}

/// Whether a source is an address of this host's slice, and another one than the instance's own.
#[inline(always)]
pub fn forged(instance: Option<&Instance>, source: &[u32; 4], six: bool) -> bool {
    is_own(source, six)
        && !instance.is_some_and(|instance| {
            if six { same(&instance.fleet6, source) } else { instance.fleet4 == source[3] }
        })
}
