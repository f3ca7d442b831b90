//! The end of a socket: in-flight counts fall, and the kernel's own notes of the connection say
//! how it went. No callback runs while it lives.

use core::intrinsics::cold_path;

use aya_ebpf::{
    bindings::bpf_sock, helpers::generated::bpf_get_prandom_u32, programs::SockContext,
};
use sinew_abi::{
    BackendHot, Edge, Event, PortName, Socket, event, histogram, protocol, socket_flags, verdict,
};

use crate::{
    address::mapped,
    backend, clock,
    count::{self, add64},
    events,
    kernel::{self, TcpFacts},
    maps::{BACKEND_TIMES, CONFIG, PORT_NAMES},
    outside, record,
};

const ALLOW: i32 = 1;
/// States of include/net/tcp_states.h.
const SYN_SENT: u32 = 2;
const CLOSE: u32 = 7;

#[inline(always)]
pub fn release(context: &SockContext) -> i32 {
    let socket = context.sock;
    // SAFETY: a word of the context.
    let state = unsafe { (*socket).state };
    // SAFETY: the context of the running program.
    let cookie = match unsafe { kernel::known_cookie(socket) } {
        // Nobody has asked for this socket's cookie, so it has no record: a server's end. Making
        // one up, and touching the cold place it leads to, would double the cost of every close.
        Some(0) => {
            outside::closed(socket);
            return ALLOW;
        }
        Some(cookie) => cookie,
        None => record::cookie(context),
    };
    let Some(found) = record::find(cookie) else {
        cold_path();
        outside::closed(socket);
        return ALLOW;
    };
    // SAFETY: found in this run.
    unsafe {
        if let Some(was) = record::end(found, cookie) {
            account(socket, state, &was);
        }
    }
    ALLOW
}

/// What other CPUs write is touched last: an addition that all of them see holds up what comes after it,
/// and what comes before it is fetched meanwhile.
///
/// # Safety
/// `socket` is the context of the running program.
#[inline(always)]
unsafe fn account(socket: *mut bpf_sock, state: u32, was: &Socket) {
    // SAFETY: words of the context; plain TCP is asserted before its facts are read.
    let facts = unsafe {
        if (*socket).protocol == u32::from(protocol::TCP) {
            kernel::tcp_facts(socket)
        } else {
            None
        }
    };
    let Some(name) = PORT_NAMES.get(was.index.into()) else {
        cold_path();
        record::uncount(was);
        return;
    };
    let stream = name.protocol == protocol::TCP;
    let verdict = if stream { judge(state, facts.as_ref()) } else { verdict::CLOSED };
    let duration_us = facts.map_or(0, |f| f.last_us.saturating_sub(was.start_ns / 1000));
    let mut edge = count::edge(was.source, name.service);
    if let Some(edge) = edge.as_deref_mut() {
        on_edge(edge, verdict, facts.as_ref());
    }
    if let Some(facts) = &facts {
        times(edge.as_deref_mut(), was.backend, facts.rtt_us, duration_us);
    }
    if let Some(hot) = record::uncount(was) {
        let ejected = on_backend(was.backend, hot, verdict, facts.as_ref(), was.start_ns);
        if let (true, Some(edge)) = (ejected, edge) {
            edge.ejected += 1;
        }
    }
    flow(was, name, verdict, facts.as_ref(), duration_us);
}

/// How the connection went.
#[inline(always)]
fn judge(state: u32, facts: Option<&TcpFacts>) -> u32 {
    let retried = facts.is_some_and(|f| f.retransmits > 0);
    let established = facts.is_some_and(|f| f.rtt_us > 0 || f.sent_bytes > 0);
    match state {
        // Closed by the program before an answer. Loopback and LAN answer before a retransmission.
        SYN_SENT if retried => verdict::TIMED_OUT,
        SYN_SENT => verdict::CANCELLED,
        CLOSE => match facts {
            Some(_) if !established && retried => verdict::TIMED_OUT,
            Some(_) if !established => verdict::REFUSED,
            Some(f) if !f.fin_received => verdict::RESET,
            _ => verdict::CLOSED,
        },
        _ => verdict::CLOSED,
    }
}

/// Counts how long a connection took, of its edge and of its backend. One time after the other: the
/// verifier follows each bucket that it may fall into, and would follow all pairs of them.
#[inline(always)]
fn times(mut edge: Option<&mut Edge>, backend: u32, connect_us: u32, duration_us: u64) {
    // The masks keep the indices inside, which the verifier wants to see.
    const LAST: usize = histogram::BUCKETS - 1;
    const LAST_COARSE: usize = histogram::COARSE - 1;
    let longest = u64::from(u32::MAX);
    let duration_us = if duration_us > longest { u32::MAX } else { duration_us as u32 };
    let of_backend = BACKEND_TIMES.get_ptr_mut(backend);
    // SAFETY: map values.
    unsafe {
        // A connection that was not answered has no connect time.
        if connect_us > 0 {
            let bucket = histogram::bucket(connect_us);
            if let Some(edge) = edge.as_deref_mut() {
                edge.connect_us[bucket & LAST] += 1;
            }
            if let Some(times) = of_backend {
                (*times).us[histogram::coarse(bucket) & LAST_COARSE][0] += 1;
            }
        }
        let bucket = histogram::bucket(duration_us);
        if let Some(edge) = edge {
            edge.duration_us[bucket & LAST] += 1;
        }
        if let Some(times) = of_backend {
            (*times).us[histogram::coarse(bucket) & LAST_COARSE][1] += 1;
        }
    }
}

/// Counts on the backend; whether it is ejected now for it.
#[inline(always)]
fn on_backend(
    index: u32,
    hot: *mut BackendHot,
    verdict: u32,
    facts: Option<&TcpFacts>,
    start_ns: u64,
) -> bool {
    // SAFETY: map value.
    unsafe {
        if let Some(facts) = facts {
            // One byte of the acknowledged ones is the SYN.
            add64(&raw mut (*hot).sent_bytes, facts.sent_bytes.saturating_sub(1));
            add64(&raw mut (*hot).received_bytes, facts.received_bytes);
            if facts.rtt_us > 0 {
                let old = (*hot).connect_ewma_us;
                (*hot).connect_ewma_us =
                    if old == 0 { facts.rtt_us } else { old - old / 8 + facts.rtt_us / 8 };
            }
        }
        if verdict == verdict::CLOSED {
            backend::succeeded(hot, start_ns);
            return false;
        }
        cold_path();
        let counter = match verdict {
            verdict::REFUSED => &raw mut (*hot).refused,
            verdict::RESET => &raw mut (*hot).reset,
            verdict::TIMED_OUT => &raw mut (*hot).timed_out,
            _ => return false,
        };
        add64(counter, 1);
        // A reset after an answer is the server's way to say goodbye, no failure.
        if verdict == verdict::RESET && facts.is_some_and(|f| f.received_bytes > 0) {
            return false;
        }
        if verdict == verdict::REFUSED && !backend::refusal_counts(index) {
            return false;
        }
        backend::failed(index, clock::now_ns())
    }
}

#[inline(always)]
fn on_edge(edge: &mut Edge, verdict: u32, facts: Option<&TcpFacts>) {
    if verdict != verdict::CLOSED {
        cold_path();
    }
    match verdict {
        verdict::REFUSED => edge.refused += 1,
        verdict::RESET => edge.reset += 1,
        verdict::TIMED_OUT => edge.timed_out += 1,
        verdict::CANCELLED => edge.cancelled += 1,
        _ => {}
    }
    edge.closed += 1;
    if let Some(facts) = facts {
        edge.sent_bytes += facts.sent_bytes.saturating_sub(1);
        edge.received_bytes += facts.received_bytes;
    }
}

/// Reports failures, and one of so many others while somebody watches.
#[inline(always)]
fn flow(was: &Socket, name: &PortName, verdict: u32, facts: Option<&TcpFacts>, duration_us: u64) {
    let sample = CONFIG.get(0).map_or(0, |c| c.flow_sample);
    if sample == 0 {
        return;
    }
    cold_path();
    // SAFETY: no arguments.
    if verdict == verdict::CLOSED && unsafe { bpf_get_prandom_u32() } % sample != 0 {
        return;
    }
    events::send(&Event {
        kind: event::FLOW,
        verdict,
        at_ns: was.start_ns,
        source: was.source,
        destination: name.service,
        backend: was.backend,
        generation: was.generation,
        addr: if was.flags & socket_flags::V6 != 0 { name.addr6 } else { mapped(name.addr4) },
        port: name.port,
        protocol: name.protocol,
        connect_us: facts.map_or(0, |f| f.rtt_us),
        duration_us,
        sent_bytes: facts.map_or(0, |f| f.sent_bytes.saturating_sub(1)),
        received_bytes: facts.map_or(0, |f| f.received_bytes),
        ..Event::ZERO
    });
}
