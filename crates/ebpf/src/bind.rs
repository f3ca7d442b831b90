//! bind(): programs keep binding wildcards and loopback; the socket gets the instance's own
//! address, so that copies of one program share a port of the host.

use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    helpers::generated::bpf_sk_storage_get,
};
use sinew_abi::{
    Asked, Event, Instance,
    address::{self, Kind},
    event, instance_flags, protocol, verdict,
};

use crate::{
    address::{AF_INET, AF_INET6, LOCALHOST4, ONE6, Target, errno, is_mapped, mapped, refuse},
    count::own,
    events, fleet, identity,
    maps::{BOUND, CONFIG},
};

const ALLOW: i32 = 1;

/// Whether others may reach this port of the instance although the program binds it to loopback.
#[inline(always)]
fn declared(instance: &Instance, port: u32, stream: bool) -> bool {
    let mut i = 0;
    // The array's length is the bound.
    while i < instance.ports.len() {
        let udp = instance.udp_ports >> i & 1 != 0;
        if u32::from(instance.ports[i]) == port && udp != stream && port != 0 {
            return true;
        }
        i += 1;
    }
    false
}

#[inline(always)]
fn remember(target: &Target, asked: Asked) {
    // SAFETY: the context's own socket; the helper copies the value.
    unsafe {
        let found: *mut Asked = bpf_sk_storage_get(
            (&raw const BOUND).cast_mut().cast(),
            target.socket().cast(),
            (&raw const asked).cast_mut().cast(),
            BPF_SK_STORAGE_GET_F_CREATE.into(),
        )
        .cast();
        if !found.is_null() {
            *found = asked;
        }
    }
}

#[inline(always)]
fn deny(addr: [u32; 4], target: &Target, instance: u64) -> i32 {
    own(|c| c.binds_denied += 1);
    events::send(&Event {
        kind: event::FLOW,
        verdict: verdict::BIND_DENIED,
        instance,
        backend: sinew_abi::NONE,
        addr,
        port: target.port() as u16,
        protocol: target.protocol(),
        ..Event::ZERO
    });
    refuse(errno::EACCES)
}

/// Where an IPv4 bind goes: `None` leaves it alone.
enum Place {
    Leave,
    Deny,
    At(u32),
}

#[inline(always)]
fn place4(instance: &Instance, addr: u32, port: u32, stream: bool) -> Place {
    if addr == 0 {
        // Port 0 is a client's: the kernel chooses address and port when it connects.
        return if port == 0 { Place::Leave } else { Place::At(instance.addr4) };
    }
    if addr == LOCALHOST4 {
        return match port {
            0 => Place::Leave,
            _ if declared(instance, port, stream) => Place::At(instance.addr4),
            _ => Place::At(address::loopback4(instance.addr4)),
        };
    }
    if fleet::is_own(&mapped(addr), false) {
        return match port {
            _ if addr != instance.fleet4 => Place::Deny,
            0 => Place::Leave,
            _ => Place::At(instance.addr4),
        };
    }
    let own = addr == instance.addr4 || addr == address::loopback4(instance.addr4);
    if address::kind4(addr) == Kind::Other || own { Place::Leave } else { Place::Deny }
}

/// An undeclared UDP port bound to the wildcard stays the host's: such a socket talks outwards
/// (a time or name service), where an address of the plan could not be answered.
#[inline(always)]
fn outward(instance: &Instance, target: &Target, port: u32) -> bool {
    !target.stream() && !declared(instance, port, false)
}

#[inline(always)]
pub fn bind4(target: &Target) -> i32 {
    let Some(instance) = identity::current() else { return ALLOW };
    if instance.flags & instance_flags::OWN_ADDRESS == 0 {
        return ALLOW;
    }
    let (addr, port) = (target.addr4(), target.port());
    if addr == 0 && outward(instance, target, port) {
        return ALLOW;
    }
    match place4(instance, addr, port, target.stream()) {
        Place::Leave => ALLOW,
        Place::Deny => deny(mapped(addr), target, instance.id),
        Place::At(place) => {
            remember(target, Asked { addr: mapped(addr), port, family: AF_INET });
            target.set_addr4(place);
            ALLOW
        }
    }
}

#[inline(always)]
pub fn bind6(target: &Target) -> i32 {
    let Some(instance) = identity::current() else { return ALLOW };
    if instance.flags & instance_flags::OWN_ADDRESS == 0 {
        return ALLOW;
    }
    let (addr, port) = (target.addr6(), target.port());
    let asked = Asked { addr, port, family: AF_INET6 };
    if is_mapped(&addr) {
        return match place4(instance, addr[3], port, target.stream()) {
            Place::Leave => ALLOW,
            Place::Deny => deny(addr, target, instance.id),
            Place::At(place) => {
                remember(target, asked);
                target.set_addr6(&mapped(place));
                ALLOW
            }
        };
    }
    let head = addr[0] | addr[1] | addr[2];
    if head == 0 && addr[3] == 0 {
        if port == 0 || outward(instance, target, port) {
            return ALLOW;
        }
        remember(target, asked);
        // A dual-stack socket serves both families at the mapped address; an IPv6-only one
        // cannot be bound there.
        if target.ipv6_only() {
            target.set_addr6(&instance.addr6);
        } else {
            target.set_addr6(&mapped(instance.addr4));
        }
        return ALLOW;
    }
    if head == 0 && addr[3] == ONE6 {
        if port == 0 {
            return ALLOW;
        }
        remember(target, asked);
        let place = if declared(instance, port, target.stream()) {
            instance.addr6
        } else {
            address::loopback6(&instance.addr6)
        };
        target.set_addr6(&place);
        return ALLOW;
    }
    if fleet::is_own(&addr, true) {
        if !same(&addr, &instance.fleet6) {
            return deny(addr, target, instance.id);
        }
        if port != 0 {
            remember(target, asked);
            target.set_addr6(&instance.addr6);
        }
        return ALLOW;
    }
    let Some(config) = CONFIG.get(0) else { return ALLOW };
    let ours = address::subnet6(&addr, &config.prefix6).is_some();
    let own = same(&addr, &instance.addr6) || same(&addr, &address::loopback6(&instance.addr6));
    if ours && !own { deny(addr, target, instance.id) } else { ALLOW }
}

/// Array equality would call memcmp, which the target does not have.
#[inline(always)]
pub fn same(a: &[u32; 4], b: &[u32; 4]) -> bool {
    a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3]
}

/// What a listener that asked for something else was bound to is hidden from it.
#[inline(always)]
pub fn asked(target: &Target) -> Option<&'static Asked> {
    // SAFETY: the context's own socket; no value is created.
    unsafe {
        let found: *const Asked = bpf_sk_storage_get(
            (&raw const BOUND).cast_mut().cast(),
            target.socket().cast(),
            core::ptr::null_mut(),
            0,
        )
        .cast();
        found.as_ref()
    }
}

/// After a successful bind of a declared port: tells user space that listen() may follow, or, for
/// UDP, that the port is served.
#[inline(always)]
pub fn bound(socket: *mut bpf_sock, addr: [u32; 4], of: u16) -> i32 {
    let Some(instance) = identity::current() else { return ALLOW };
    // SAFETY: a word of the context; host byte order here.
    let port = unsafe { (&raw const (*socket).src_port).read_volatile() } as u16;
    if declared(instance, u32::from(port.to_be()), of != protocol::UDP) {
        events::send(&Event {
            kind: event::BIND,
            instance: instance.id,
            source: instance.service,
            addr,
            port: port.to_be(),
            protocol: of,
            ..Event::ZERO
        });
    }
    ALLOW
}
