//! connect(): a service address becomes a backend's; after that nothing is in the path.

use core::intrinsics::cold_path;

use aya_ebpf::{
    EbpfContext,
    bindings::{bpf_sock_addr, sockaddr},
    helpers::generated::bpf_bind,
    programs::SockAddrContext,
};
use sinew_abi::{
    BackendHot, Event, Instance, NONE, Service, ServiceKey4, ServiceKey6, Socket,
    address::{self, Kind},
    event, near, socket_flags, verdict,
};

use crate::{
    address::{AF_INET, AF_INET6, DNS, LOCALHOST4, ONE6, Target, errno, is_mapped, mapped, refuse},
    backend::{self, Kernel, Reach},
    bind::same,
    clock,
    count::{self, add64, own},
    events, fleet,
    identity::{self, Caller},
    lookup,
    maps::{BACKEND_HOT, BACKENDS, CONFIG, NEAR_SERVICES, PORT_NAMES, SERVICES4, SERVICES6},
    names, record, resolver,
};
use sinew_ebpf::choice::mix;

pub const ALLOW: i32 = 1;

#[inline(always)]
pub fn connect4(context: &SockAddrContext, target: &Target) -> i32 {
    let (addr, port) = (target.addr4(), target.port());
    if port == DNS && resolver::take4(context, target, addr) {
        return ALLOW;
    }
    match address::kind4(addr) {
        Kind::Service => call4(context, target, addr, port),
        Kind::Instance => {
            if let Some(instance) = identity::current() {
                source4(target, instance);
            }
            ALLOW
        }
        Kind::Loopback => private(identity::current(), |i| address::loopback4(i.addr4) == addr),
        Kind::Other if is_localhost4(addr) => {
            if let Some(own) = own_localhost4(context, target, port) {
                names::show(context, mapped(own), port, mapped(LOCALHOST4), port);
                target.set_addr4(own);
            }
            ALLOW
        }
        Kind::Other => {
            fleet::source4(target, addr);
            ALLOW
        }
    }
}

/// A call to a service by its IPv4 address.
#[inline(always)]
pub fn call4(context: &SockAddrContext, target: &Target, addr: u32, port: u32) -> i32 {
    let key = ServiceKey4 { addr, port: port as u16, protocol: target.protocol() };
    let service = copy4(&key).or_else(|| {
        cold_path();
        by_key4(&key).copied()
    });
    match service {
        Some(service) => {
            let caller = identity::caller();
            to_service(context, target, caller, &service, mapped(addr), Family::V4)
        }
        None => {
            cold_path();
            no_such_port(target, mapped(addr))
        }
    }
}

/// The copy that lies where the key leads, when it is this key's and whole.
#[inline(always)]
fn copy4(key: &ServiceKey4) -> Option<Service> {
    let place = NEAR_SERVICES.get_ptr(near::service4(key))?;
    // SAFETY: a map value that user space may be writing: what was read is whole if the turn was
    // even before and is the same after. Loads are not reordered on x86-64.
    unsafe {
        let turn = || (&raw const (*place).turn).read_volatile();
        let before = turn();
        if before & 1 != 0 || (&raw const (*place).key).read_volatile() != *key {
            return None;
        }
        let service = (&raw const (*place).service).read_volatile();
        (turn() == before).then_some(service)
    }
}

/// The kernel takes a connect() to the wildcard for one to its own localhost.
#[inline(always)]
pub fn is_localhost4(addr: u32) -> bool {
    addr == LOCALHOST4 || addr == 0
}

/// As [`is_localhost4`].
#[inline(always)]
pub fn is_localhost6(addr: &[u32; 4]) -> bool {
    addr[0] | addr[1] | addr[2] == 0 && (addr[3] == ONE6 || addr[3] == 0)
}

#[inline(always)]
pub fn connect6(context: &SockAddrContext, target: &Target) -> i32 {
    let (addr, port) = (target.addr6(), target.port());
    if port == DNS && resolver::take6(context, target, &addr) {
        return ALLOW;
    }
    let mapped = is_mapped(&addr);
    if mapped {
        if address::kind4(addr[3]) != Kind::Service {
            return beside_mapped(context, target, addr, port);
        }
    } else {
        let subnet = CONFIG.get(0).and_then(|config| address::subnet6(&addr, &config.prefix6));
        if subnet != Some(address::SERVICES6) {
            return beside6(context, target, addr, port, subnet);
        }
    }
    call6(context, target, addr, port, mapped)
}

/// A call to a service by its IPv6 address, or from an IPv6 socket by its IPv4 one.
#[inline(always)]
pub fn call6(
    context: &SockAddrContext,
    target: &Target,
    addr: [u32; 4],
    port: u32,
    mapped: bool,
) -> i32 {
    // One place that takes a backend: the verifier pays for each.
    let (service, family) = if mapped {
        (service4(target, addr[3], port), Family::Mapped)
    } else {
        (service6(target, addr, port), Family::V6)
    };
    match service {
        Some(service) => to_service(context, target, identity::current(), service, addr, family),
        None => no_such_port(target, addr),
    }
}

/// IPv6 destinations that are no service.
#[inline(always)]
fn beside6(
    context: &SockAddrContext,
    target: &Target,
    addr: [u32; 4],
    port: u32,
    subnet: Option<u16>,
) -> i32 {
    if is_localhost6(&addr) {
        own_localhost6(context, target, port);
        return ALLOW;
    }
    match subnet {
        Some(address::INSTANCES6) => {
            if let Some(instance) = identity::current() {
                source6(target, instance);
            }
            ALLOW
        }
        Some(address::LOOPBACKS6) => {
            private(identity::current(), |i| same(&address::loopback6(&i.addr6), &addr))
        }
        _ => {
            fleet::source6(target, &addr);
            ALLOW
        }
    }
}

/// IPv4-mapped destinations that are no service.
#[inline(always)]
fn beside_mapped(context: &SockAddrContext, target: &Target, addr: [u32; 4], port: u32) -> i32 {
    match address::kind4(addr[3]) {
        Kind::Instance => {
            if let Some(instance) = identity::current() {
                source_mapped(target, instance);
            }
            ALLOW
        }
        Kind::Loopback => private(identity::current(), |i| address::loopback4(i.addr4) == addr[3]),
        _ => {
            if is_localhost4(addr[3]) {
                if let Some(own) = own_localhost4(context, target, port) {
                    names::show(context, mapped(own), port, mapped(LOCALHOST4), port);
                    target.set_addr6(&mapped(own));
                }
            } else {
                fleet::source6(target, &addr);
            }
            ALLOW
        }
    }
}

#[inline(always)]
pub fn service4(target: &Target, addr: u32, port: u32) -> Option<&'static Service> {
    by_key4(&ServiceKey4 { addr, port: port as u16, protocol: target.protocol() })
}

#[inline(always)]
fn by_key4(key: &ServiceKey4) -> Option<&'static Service> {
    // SAFETY: entries are replaced as a whole and stay readable until this program returns.
    unsafe { SERVICES4.get(key) }
}

#[inline(always)]
pub fn service6(target: &Target, addr: [u32; 4], port: u32) -> Option<&'static Service> {
    let key = ServiceKey6 { addr, port: port as u16, protocol: target.protocol() };
    // SAFETY: as above.
    unsafe { SERVICES6.get(&key) }
}

/// A private loopback belongs to its instance alone.
#[inline(always)]
fn private(instance: Option<&Instance>, own: impl FnOnce(&Instance) -> bool) -> i32 {
    if instance.is_some_and(own) { ALLOW } else { refuse(errno::ECONNREFUSED) }
}

/// Refused at once: a service address must never reach the host's own wildcard listeners.
#[inline(always)]
fn no_such_port(target: &Target, addr: [u32; 4]) -> i32 {
    // The C library ranks addresses by connecting UDP sockets to them. No call is meant by that;
    // what is says so with its first datagram.
    if !target.stream() {
        return refuse(errno::ECONNREFUSED);
    }
    refused(target, addr, verdict::NO_SUCH_PORT, 0)
}

#[inline(always)]
pub fn refused(target: &Target, addr: [u32; 4], verdict: u32, destination: u32) -> i32 {
    let (id, source) = identity::current().map_or((0, 0), |i| (i.id, i.service));
    if let Some(edge) = count::edge(source, destination) {
        edge.no_backend += 1;
    }
    events::send(&Event {
        kind: event::FLOW,
        verdict,
        instance: id,
        source,
        destination,
        backend: NONE,
        addr,
        port: target.port() as u16,
        protocol: target.protocol(),
        ..Event::ZERO
    });
    refuse(errno::ECONNREFUSED)
}

/// How the caller's socket names addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    Mapped,
    V6,
}

#[inline(always)]
fn to_service(
    context: &SockAddrContext,
    target: &Target,
    instance: Option<impl Caller>,
    service: &Service,
    asked: [u32; 4],
    family: Family,
) -> i32 {
    let now_ns = clock::now_ns();
    let stream = target.stream();
    let fresh = target.is_fresh();
    let cookie = record::cookie(context);
    let random = if fresh {
        // A new cookie is a number that no other socket has: as good as a random one, without a
        // call. And there is nothing to look for.
        record::expect(cookie);
        mix(cookie)
    } else {
        cold_path();
        if let Some(old) = record::find(cookie) {
            // SAFETY: found in this run. Its place is free for the new record, wherever that goes.
            if let Some(old) = unsafe { record::end(old, cookie) } {
                let hot = record::uncount(&old);
                settle(&old, hot, stream, now_ns);
            }
        }
        backend::random()
    };
    let reach = match family {
        Family::V6 if target.ipv6_only() => Reach::V6,
        Family::V6 => Reach::Both,
        _ => Reach::V4,
    };
    let kernel = Kernel { now_ns, stream, reach, context: context.as_ptr() };
    let taken = backend::take(&kernel, service, || random, || affinity_source(instance));
    let (Some(place), Some(hot)) = (BACKENDS.get(taken), BACKEND_HOT.get_ptr_mut(taken)) else {
        cold_path();
        return refused(target, asked, verdict::NO_BACKEND, service.service);
    };
    let config = &place.backend;
    let source = instance.map_or(0, Caller::service);
    // The hook sees the first subflow of an MPTCP connection and nobody sees its release: it is
    // given a backend and not counted in flight.
    let stored = !target.is_mptcp()
        && record::store(&Socket {
            cookie,
            start_ns: now_ns,
            backend: taken,
            generation: config.generation,
            source,
            index: service.index as u16,
            flags: socket_flags::COUNTED | if family == Family::V6 { socket_flags::V6 } else { 0 },
        });
    // SAFETY: map value.
    unsafe {
        if stored {
            // With the generation one word: see `record::end`.
            add64((&raw mut (*hot).active).cast(), 1);
        }
        add64(&raw mut (*hot).connections, 1);
    }
    target.set_port(u32::from(config.port));
    let by6 = family == Family::V6 && kernel.by_ipv6(taken, place);
    match family {
        Family::V4 => target.set_addr4(config.addr4),
        _ if by6 => target.set_addr6(&config.addr6),
        _ => target.set_addr6(&mapped(config.addr4)),
    }
    if let Some(instance) = instance {
        let inside4 = address::kind4(config.addr4) == Kind::Instance;
        match family {
            Family::V4 if inside4 => source4(target, instance),
            Family::V4 => fleet::source4(target, config.addr4),
            _ if by6 => {
                if is_instance6(&config.addr6) {
                    source6(target, instance);
                } else {
                    fleet::source6(target, &config.addr6);
                }
            }
            _ if inside4 => source_mapped(target, instance),
            _ => fleet::source6(target, &mapped(config.addr4)),
        }
    }
    ALLOW
}

/// What the caller is known by where callers keep their backends.
#[inline(always)]
pub fn affinity_source(instance: Option<impl Caller>) -> [u32; 4] {
    instance.map_or([0; 4], |i| mapped(i.addr4()))
}

/// A program connects the same socket again: its earlier attempt has failed, or, for UDP, is over.
#[inline(always)]
fn settle(old: &Socket, hot: Option<*mut BackendHot>, stream: bool, now_ns: u64) {
    if !stream {
        return;
    }
    let mut ejected = false;
    if let Some(hot) = hot {
        // SAFETY: map value.
        unsafe { add64(&raw mut (*hot).refused, 1) };
        if backend::refusal_counts(old.backend) {
            ejected = backend::failed(old.backend, now_ns);
        }
    }
    let destination = PORT_NAMES.get(old.index.into()).map_or(0, |name| name.service);
    if let Some(edge) = count::edge(old.source, destination) {
        edge.refused += 1;
        edge.closed += 1;
        edge.ejected += u64::from(ejected);
    }
}

/// 127.0.0.1:`port` as the instance sees it: its private loopback, else its own address when it
/// listens there, else the host's.
#[inline(always)]
pub fn own_localhost4(context: &impl EbpfContext, target: &Target, port: u32) -> Option<u32> {
    let instance = identity::current()?;
    let (stream, port) = (target.stream(), port as u16);
    let alias = address::loopback4(instance.addr4);
    if lookup::serves4(context.as_ptr(), alias, port, stream) {
        return Some(alias);
    }
    lookup::serves4(context.as_ptr(), instance.addr4, port, stream).then_some(instance.addr4)
}

#[inline(always)]
fn own_localhost6(context: &SockAddrContext, target: &Target, port: u32) {
    let Some(instance) = identity::current() else { return };
    let (stream, short) = (target.stream(), port as u16);
    let alias = address::loopback6(&instance.addr6);
    let own = if lookup::serves6(context.as_ptr(), &alias, short, stream) {
        alias
    } else if lookup::serves6(context.as_ptr(), &instance.addr6, short, stream) {
        instance.addr6
    } else if !target.ipv6_only()
        && lookup::serves4(context.as_ptr(), instance.addr4, short, stream)
    {
        // A dual-stack listener was bound at the mapped address.
        mapped(instance.addr4)
    } else {
        return;
    };
    names::show(context, own, port, [0, 0, 0, ONE6], port);
    target.set_addr6(&own);
}

/// Whether an address is an instance's own. An adopted backend has none: it goes on to see its
/// callers come from the host's own addresses, which is what its access rules were written for.
#[inline(always)]
pub fn is_instance6(addr: &[u32; 4]) -> bool {
    CONFIG.get(0).and_then(|config| address::subnet6(addr, &config.prefix6))
        == Some(address::INSTANCES6)
}

/// Calls inside the network bear the caller's own address; calls to the outside keep the host's.
#[inline(always)]
fn source4(target: &Target, instance: impl Caller) {
    bind4(target, instance.addr4());
}

#[inline(always)]
fn source_mapped(target: &Target, instance: impl Caller) {
    bind6(target, mapped(instance.addr4()));
}

#[inline(always)]
fn source6(target: &Target, instance: impl Caller) {
    bind6(target, instance.addr6());
}

/// The kernel chooses the port when it connects.
#[inline(always)]
pub fn bind4(target: &Target, addr: u32) {
    let mut name = [AF_INET, addr, 0, 0];
    set_source(target.raw(), name.as_mut_ptr(), 16);
}

/// As [`bind4`].
#[inline(always)]
pub fn bind6(target: &Target, addr: [u32; 4]) {
    let wide = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    bind_to6(target.raw(), wide(addr[0], addr[1]), wide(addr[2], addr[3]));
}

/// A global function, as `backend::examine` is: it has a stack of its own.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn bind_to6(context: *mut bpf_sock_addr, first: u64, last: u64) -> u32 {
    let [a, b, c, d] = [first as u32, (first >> 32) as u32, last as u32, (last >> 32) as u32];
    let mut name = [AF_INET6, 0, a, b, c, d, 0];
    set_source(context, name.as_mut_ptr(), 28);
    0
}

#[inline(always)]
fn set_source(context: *mut bpf_sock_addr, name: *mut u32, len: i32) {
    // SAFETY: `name` holds a sockaddr of `len` bytes on the stack.
    if unsafe { bpf_bind(context, name.cast::<sockaddr>(), len) } != 0 {
        cold_path();
        // The program bound the socket itself: its choice stands.
        own(|c| c.sources_unset += 1);
    }
}
