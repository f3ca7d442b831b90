//! Datagrams of sockets that are not connected: each may go to another service, so the peer is
//! remembered per socket and address, and the sender of an answer is shown by the name that was
//! asked for.

use aya_ebpf::{EbpfContext, programs::SockAddrContext};
use sinew_abi::{
    DatagramPeer, Instance, PeerKey, Service,
    address::{self, Kind},
    verdict,
};

use crate::{
    address::{DNS, LOCALHOST4, ONE6, Target, errno, is_mapped, mapped, refuse},
    backend::{self, Datagrams, Kernel, Reach},
    bind::same,
    clock,
    connect::{self, ALLOW},
    count::{self, add64},
    fleet, identity, lookup,
    maps::{BACKEND_HOT, BACKENDS, CONFIG, DATAGRAM_PEERS},
    names, record, resolver,
};

/// A socket that was silent for so long chooses again.
const IDLE_NS: u64 = 30_000_000_000;

#[inline(always)]
pub fn sendmsg4(context: &SockAddrContext, target: &Target) -> i32 {
    let (addr, port) = (target.addr4(), target.port());
    let instance = identity::current();
    let source = target.source4();
    if forged4(instance, source) || fleet::forged(instance, &mapped(source), false) {
        return refuse(errno::EACCES);
    }
    if port == DNS && resolver::take4(context, target, addr) {
        return ALLOW;
    }
    match address::kind4(addr) {
        Kind::Service => call4(context, target, instance, addr, port),
        Kind::Instance => {
            own_source4(target, instance);
            ALLOW
        }
        Kind::Loopback => match instance {
            Some(i) if address::loopback4(i.addr4) == addr => ALLOW,
            _ => refuse(errno::ECONNREFUSED),
        },
        Kind::Other if connect::is_localhost4(addr) => {
            if let Some(own) = connect::own_localhost4(context, target, port) {
                names::show(context, mapped(own), port, mapped(LOCALHOST4), port);
                target.set_addr4(own);
            }
            ALLOW
        }
        Kind::Other => {
            fleet::datagram_source4(target, addr);
            ALLOW
        }
    }
}

/// A datagram to a service by its IPv4 address.
#[inline(always)]
pub fn call4(
    context: &SockAddrContext,
    target: &Target,
    instance: Option<&Instance>,
    addr: u32,
    port: u32,
) -> i32 {
    let Some(service) = connect::service4(target, addr, port) else {
        return connect::refused(target, mapped(addr), verdict::NO_SUCH_PORT, 0);
    };
    let Some(peer) = peer(context, service, mapped(addr), port, false) else {
        return connect::refused(target, mapped(addr), verdict::NO_BACKEND, service.service);
    };
    // Also of one known before: the name may have made room for others meanwhile.
    names::show(context, peer.addr, peer.port, mapped(addr), port);
    target.set_addr4(peer.addr[3]);
    target.set_port(peer.port);
    if address::kind4(peer.addr[3]) == Kind::Instance {
        own_source4(target, instance);
    } else {
        fleet::datagram_source4(target, peer.addr[3]);
    }
    ALLOW
}

#[inline(always)]
pub fn sendmsg6(context: &SockAddrContext, target: &Target) -> i32 {
    let (addr, port) = (target.addr6(), target.port());
    let instance = identity::current();
    let Some(config) = CONFIG.get(0) else { return ALLOW };
    let source = target.source6();
    if forged6(instance, &source, &config.prefix6) || fleet::forged(instance, &source, true) {
        return refuse(errno::EACCES);
    }
    if port == DNS && resolver::take6(context, target, &addr) {
        return ALLOW;
    }
    // IPv4-mapped destinations of an IPv6 socket come through the IPv4 hook.
    let subnet = address::subnet6(&addr, &config.prefix6);
    if subnet != Some(address::SERVICES6) {
        return beside6(context, target, instance, addr, subnet);
    }
    call6(context, target, instance, addr, port)
}

/// A datagram to a service by its IPv6 address.
#[inline(always)]
pub fn call6(
    context: &SockAddrContext,
    target: &Target,
    instance: Option<&Instance>,
    addr: [u32; 4],
    port: u32,
) -> i32 {
    // One place that refuses: the stack is short.
    let service = connect::service6(target, addr, port);
    let Some(peer) = service.and_then(|service| peer(context, service, addr, port, true)) else {
        let (verdict, called) = match service {
            Some(service) => (verdict::NO_BACKEND, service.service),
            None => (verdict::NO_SUCH_PORT, 0),
        };
        return connect::refused(target, addr, verdict, called);
    };
    // Also of one known before: the name may have made room for others meanwhile.
    names::show(context, peer.addr, peer.port, addr, port);
    target.set_addr6(&peer.addr);
    target.set_port(peer.port);
    if let Some(instance) = instance {
        if connect::is_instance6(&peer.addr) {
            own_source6(target, instance);
        } else {
            fleet::datagram_source6(target, &peer.addr);
        }
    }
    ALLOW
}

/// IPv6 destinations that are no service.
#[inline(always)]
fn beside6(
    context: &SockAddrContext,
    target: &Target,
    instance: Option<&Instance>,
    addr: [u32; 4],
    subnet: Option<u16>,
) -> i32 {
    let Some(instance) = instance else { return ALLOW };
    match subnet {
        Some(address::LOOPBACKS6) if !same(&address::loopback6(&instance.addr6), &addr) => {
            return refuse(errno::ECONNREFUSED);
        }
        Some(address::INSTANCES6) => own_source6(target, instance),
        None if connect::is_localhost6(&addr) => {
            let (port, alias) = (target.port(), address::loopback6(&instance.addr6));
            let own = if lookup::serves6(context.as_ptr(), &alias, port as u16, false) {
                alias
            } else if lookup::serves6(context.as_ptr(), &instance.addr6, port as u16, false) {
                instance.addr6
            } else {
                return ALLOW;
            };
            names::show(context, own, port, [0, 0, 0, ONE6], port);
            target.set_addr6(&own);
        }
        None => fleet::datagram_source6(target, &addr),
        _ => {}
    }
    ALLOW
}

#[inline(always)]
fn own_source6(target: &Target, instance: &Instance) {
    let source = target.source6();
    if source[0] | source[1] | source[2] | source[3] == 0 {
        target.set_source6(&instance.addr6);
    }
}

/// A control message can name any source: only the caller's own of the plan is let through.
#[inline(always)]
fn forged4(instance: Option<&Instance>, source: u32) -> bool {
    if matches!(address::kind4(source), Kind::Other) {
        return false;
    }
    !instance.is_some_and(|i| i.addr4 == source || address::loopback4(i.addr4) == source)
}

#[inline(always)]
fn forged6(instance: Option<&Instance>, source: &[u32; 4], prefix: &[u32; 2]) -> bool {
    if address::subnet6(source, prefix).is_none() {
        return false;
    }
    !instance.is_some_and(|i| same(&i.addr6, source) || same(&address::loopback6(&i.addr6), source))
}

#[inline(always)]
fn own_source4(target: &Target, instance: Option<&Instance>) {
    if let Some(instance) = instance {
        if target.source4() == 0 {
            target.set_source4(instance.addr4);
        }
    }
}

#[inline(always)]
fn key(cookie: u64, addr: [u32; 4], port: u32) -> PeerKey {
    PeerKey { cookie, addr, port, reserved: 0 }
}

/// The backend this socket talks to under this service address, for as long as it is fit.
#[inline(always)]
fn peer(
    context: &SockAddrContext,
    service: &Service,
    asked: [u32; 4],
    port: u32,
    six: bool,
) -> Option<DatagramPeer> {
    let now_ns = clock::now_ns();
    // The kernel takes no IPv4-mapped destination from the IPv6 hook.
    let reach = if six { Reach::V6 } else { Reach::V4 };
    let kernel = Kernel { now_ns, stream: false, reach, context: context.as_ptr() };
    let candidates = Datagrams(kernel);
    let key = key(record::cookie(context), asked, port);
    if let Some(known) = DATAGRAM_PEERS.get_ptr_mut(&key) {
        // SAFETY: map value; entries of a socket are written by that socket only.
        let mut value = unsafe { *known };
        if now_ns.wrapping_sub(value.used_ns) < IDLE_NS
            && backend::still_fit(&candidates, service, value.backend, value.generation)
        {
            value.used_ns = now_ns;
            // SAFETY: as above.
            unsafe { (*known).used_ns = now_ns };
            return Some(value);
        }
    }
    let instance = identity::current();
    let source = || connect::affinity_source(instance);
    let taken = backend::take(&candidates, service, backend::random, source);
    let (place, hot) = (BACKENDS.get(taken)?, BACKEND_HOT.get_ptr_mut(taken)?);
    let config = &place.backend;
    let addr = if kernel.by_ipv6(taken, place) { config.addr6 } else { mapped(config.addr4) };
    let value = DatagramPeer {
        addr,
        port: u32::from(config.port),
        backend: taken,
        generation: config.generation,
        reserved: 0,
        used_ns: now_ns,
    };
    // SAFETY: map value.
    unsafe { add64(&raw mut (*hot).connections, 1) };
    if let Some(edge) = count::edge(instance.map_or(0, |i| i.service), service.service) {
        // No record is kept of an unconnected socket: its first datagram counts as all of it.
        edge.closed += 1;
    }
    let _ = DATAGRAM_PEERS.insert(&key, &value, 0);
    Some(value)
}

#[inline(always)]
pub fn recvmsg4(context: &SockAddrContext, target: &Target) -> i32 {
    let from = target.addr4();
    if from & 0xff == 127 || fleet::exists() {
        names::show_peer4(context, target);
    }
    ALLOW
}

#[inline(always)]
pub fn recvmsg6(context: &SockAddrContext, target: &Target) -> i32 {
    let from = target.addr6();
    let Some(config) = CONFIG.get(0) else { return ALLOW };
    let ours = address::subnet6(&from, &config.prefix6).is_some();
    if is_mapped(&from) || ours || fleet::exists() {
        names::show_peer6(context, target);
    }
    ALLOW
}
