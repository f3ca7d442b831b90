//! Connections of callers from outside, told one by one while somebody watches: when the server's
//! end closes, or at once when nobody could take them.
//!
//! No record of them is kept, so that nobody pays for those who do not watch: what is told is what
//! the server's socket knows of itself.

use core::intrinsics::cold_path;

use aya_ebpf::{
    bindings::bpf_sock,
    helpers::generated::{bpf_get_prandom_u32, bpf_ringbuf_query},
};
use sinew_abi::{Event, NONE, OUTSIDE, Service, capacity, event, protocol, verdict};

use crate::{
    address::{AF_INET, AF_INET6, is_mapped, mapped},
    count::own,
    events, kernel,
    listeners::LISTEN,
    maps::{CONFIG, EVENTS},
    publish::{self, Found},
};

/// `TCP_CLOSE` of include/net/tcp_states.h.
const CLOSE: u32 = 7;
/// `BPF_RB_AVAIL_DATA`.
const UNREAD: u64 = 0;

/// A socket without a record of a call closes: the server's end of a connection, mostly.
#[inline(always)]
pub fn closed(socket: *mut bpf_sock) {
    if !watched() {
        return;
    }
    cold_path();
    // SAFETY: words of the context.
    let (stream, state) =
        unsafe { ((*socket).protocol == u32::from(protocol::TCP), (*socket).state) };
    if stream && state != LISTEN {
        tell_closed(socket);
    }
}

/// A global function, as `backend::examine` is: what is seldom run lies beside what always is. The
/// socket is a TCP one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tell_closed(socket: *mut bpf_sock) -> u32 {
    // SAFETY: the context of the running program, a TCP socket.
    unsafe { tell(socket, (*socket).state) };
    0
}

/// # Safety
/// `socket` is the context of the running program, and a TCP socket.
#[inline(always)]
unsafe fn tell(socket: *mut bpf_sock, state: u32) {
    // SAFETY: see above.
    let Some(bound) = (unsafe { kernel::closed_at(socket) }) else { return };
    if !publish::may_be_published(bound.port.into()) {
        return;
    }
    let local = if u32::from(bound.family) == AF_INET { mapped(bound.addr4) } else { bound.addr6 };
    let six = u32::from(bound.family) == AF_INET6 && !is_mapped(&local);
    let Found::Service(service) = publish::find(&local, bound.port.into(), six) else { return };
    // SAFETY: see above.
    let server = unsafe { kernel::owner_of_closed(socket) };
    let Some(server) = server.filter(|server| server.service == service.service) else { return };
    // SAFETY: as above.
    let (Some(facts), Some(sent)) =
        (unsafe { (kernel::tcp_facts(socket), kernel::sent_once(socket)) })
    else {
        return;
    };
    let gave_up = state == CLOSE && !facts.fin_received && sent == 0;
    send(&Event {
        verdict: if gave_up { verdict::CANCELLED } else { verdict::CLOSED },
        instance: server.id,
        addr: local,
        port: bound.port.to_be(),
        connect_us: facts.rtt_us,
        // The caller's view.
        sent_bytes: facts.received_bytes,
        received_bytes: sent,
        ..of(service)
    });
}

/// A caller that nobody could take.
#[inline(always)]
pub fn refused(service: &Service, addr: [u32; 4], port: u32) {
    if watched() {
        let port = (port as u16).to_be();
        send(&Event { verdict: verdict::NO_BACKEND, addr, port, ..of(service) });
    }
}

#[inline(always)]
fn of(service: &Service) -> Event {
    Event {
        kind: event::FLOW,
        source: OUTSIDE,
        destination: service.service,
        backend: NONE,
        protocol: protocol::TCP,
        ..Event::ZERO
    }
}

#[inline(always)]
fn sample() -> u32 {
    CONFIG.get(0).map_or(0, |config| config.flow_sample)
}

#[inline(always)]
fn watched() -> bool {
    sample() != 0
}

/// One of so many, whatever became of it: strangers may make as many as they like. They do not get
/// the half of the ring that is for those who listen.
#[inline(always)]
fn send(event: &Event) {
    let sample = sample();
    // SAFETY: no arguments; the map is this object's ring.
    unsafe {
        if sample == 0 || bpf_get_prandom_u32() % sample != 0 {
            return;
        }
        let unread = bpf_ringbuf_query((&raw const EVENTS).cast_mut().cast(), UNREAD);
        if unread > u64::from(capacity::EVENT_BYTES) / 2 {
            return own(|c| c.flows_lost += 1);
        }
    }
    events::send(event);
}
