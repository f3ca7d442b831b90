//! sk_lookup: who gets a packet for which the host knows no connection. One to a published port is
//! handed to the listener of a replica, so that nothing is in the path: the connection is between
//! the caller and the replica, and bears the address that the caller asked for.
//!
//! The program knows addresses and ports and nothing else of the packet. A stray segment of a
//! connection that is gone looks like a SYN to it, and is answered by a listener with a reset.

use aya_ebpf::{
    bindings::{bpf_sk_lookup, bpf_sock, sk_action},
    helpers::generated::{bpf_sk_assign, bpf_sk_release},
};
use sinew_abi::{
    OUTSIDE, PublishedKey, Service,
    address::{self, Kind},
    backend_flags, protocol,
};
use sinew_ebpf::{
    choice::{Candidates, FIT, GONE, Load, SICK},
    outlier,
};

use crate::{
    address::{AF_INET6, mapped, words},
    arrive,
    backend::{self, Caller},
    clock,
    count::{self, add64},
    fleet, kernel,
    listeners::{self, Ip, LISTEN},
    maps::{BACKEND_HOT, CONFIG, PUBLISHED, PUBLISHED_PORTS, SERVICES4},
    outside,
};

const PASS: u32 = sk_action::SK_PASS;
/// The kernel answers as if nobody listened: a SYN is refused at once.
const DROP: u32 = sk_action::SK_DROP;
/// A listener that closes between choice and hand-over is not met twice in a row.
const TRIES: u32 = 2;

#[inline(always)]
pub fn lookup(context: *mut bpf_sk_lookup) -> u32 {
    // SAFETY: words of the context, read one by one.
    let (port, family, number) = unsafe {
        let port = (&raw const (*context).local_port).read_volatile();
        let family = (&raw const (*context).family).read_volatile();
        (port, family, (&raw const (*context).protocol).read_volatile())
    };
    let published = may_be_published(port) && number == u32::from(protocol::TCP);
    if !published && !fleet::exists() {
        return PASS;
    }
    let six = family == AF_INET6;
    // Read before the branch: the compiler would else choose between two places of the context,
    // which the verifier does not let a program compute.
    // SAFETY: as above.
    let (local4, remote4, local6, remote6) = unsafe {
        let local4 = (&raw const (*context).local_ip4).read_volatile();
        let remote4 = (&raw const (*context).remote_ip4).read_volatile();
        let local6 = words((&raw const (*context).local_ip6).cast());
        (local4, remote4, local6, words((&raw const (*context).remote_ip6).cast()))
    };
    let (local, remote) = if six { (local6, remote6) } else { (mapped(local4), mapped(remote4)) };
    if fleet::is_own(&local, six) {
        return arrive::take(context, local, &remote, port, number);
    }
    if !published {
        return PASS;
    }
    match find(&local, port, six) {
        Found::Nothing => PASS,
        Found::Gone => DROP,
        Found::Service(service) => {
            let verdict = hand_over(context, service, remote, six);
            if verdict == DROP {
                outside::refused(service, local, port);
            }
            verdict
        }
    }
}

#[inline(always)]
pub fn may_be_published(port: u32) -> bool {
    PUBLISHED_PORTS.get(port >> 6).is_some_and(|bits| bits >> (port & 63) & 1 != 0)
}

pub enum Found {
    /// Not published.
    Nothing,
    /// Published, but the service port is not there.
    Gone,
    Service(&'static Service),
}

/// That very address first, then what stands for all of its family.
#[inline(always)]
pub fn find(local: &[u32; 4], port: u32, six: bool) -> Found {
    let port = (port as u16).to_be();
    let mut key = PublishedKey { addr: *local, port, protocol: protocol::TCP };
    // SAFETY: entries are replaced as a whole and stay readable until this program returns.
    let mut at = unsafe { PUBLISHED.get(&key) };
    if at.is_none() {
        if of_plan(local, six) {
            return Found::Nothing;
        }
        key.addr = if six { [0; 4] } else { mapped(0) };
        // SAFETY: as above.
        at = unsafe { PUBLISHED.get(&key) };
    }
    let Some(at) = at else { return Found::Nothing };
    // SAFETY: as above.
    unsafe { SERVICES4.get(at) }.map_or(Found::Gone, Found::Service)
}

/// Instances have their addresses for themselves.
#[inline(always)]
fn of_plan(local: &[u32; 4], six: bool) -> bool {
    if fleet::is_own(local, six) {
        return true;
    }
    if six {
        CONFIG.get(0).is_some_and(|c| address::subnet6(local, &c.prefix6).is_some())
    } else {
        address::kind4(local[3]) != Kind::Other
    }
}

#[inline(always)]
fn hand_over(context: *mut bpf_sk_lookup, service: &Service, remote: [u32; 4], six: bool) -> u32 {
    let now_ns = clock::now_ns();
    let stranger = Stranger { now_ns, six: u32::from(six), reserved: 0 };
    for _ in 0..TRIES {
        let taken = backend::take(&stranger, service, backend::random, || remote);
        let Some(hot) = BACKEND_HOT.get_ptr_mut(taken) else { break };
        // SAFETY: the reference taken is released on every path; the kernel keeps a listener that
        // was assigned for as long as the packet needs it.
        unsafe {
            let socket = listener(taken, six, true);
            if socket.is_null() {
                continue;
            }
            let failed = bpf_sk_assign(context.cast(), socket.cast(), 0);
            bpf_sk_release(socket.cast());
            if failed != 0 {
                continue;
            }
            add64(&raw mut (*hot).connections, 1);
        }
        if let Some(edge) = count::edge(OUTSIDE, service.service) {
            edge.closed += 1;
        }
        return PASS;
    }
    if let Some(edge) = count::edge(OUTSIDE, service.service) {
        edge.no_backend += 1;
    }
    DROP
}

/// A caller who is no member. What becomes of its connection is not seen, so it takes no probe of
/// an ejected backend: when the time is over it may be chosen.
#[repr(C)]
#[derive(Clone, Copy)]
struct Stranger {
    now_ns: u64,
    /// Whether it calls by IPv6.
    six: u32,
    reserved: u32,
}

impl Caller for Stranger {
    #[inline(always)]
    fn now_ns(&self) -> u64 {
        self.now_ns
    }
}

impl Candidates for Stranger {
    #[inline(always)]
    fn slot(&self, index: u32) -> u32 {
        backend::slot(index)
    }

    #[inline(always)]
    fn load(&self, backend: u32) -> Load {
        backend::load(backend, |_, _, until| outlier::ejected(until, self.now_ns))
    }

    #[inline(always)]
    fn examine(&self, backend: u32) -> u32 {
        examine_listener(backend, self.now_ns, self.six)
    }
}

/// A global function, as `backend::examine` is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn examine_listener(backend: u32, now_ns: u64, six: u32) -> u32 {
    let (Some(config), Some(hot)) = (backend::config(backend), BACKEND_HOT.get_ptr_mut(backend))
    else {
        return GONE;
    };
    if config.flags & backend_flags::LOCAL == 0 {
        return GONE;
    }
    // SAFETY: the reference taken is released on every path.
    let queue = unsafe {
        let socket = listener(backend, six != 0, true);
        if socket.is_null() {
            return GONE;
        }
        let queue = kernel::accept_queue(socket);
        bpf_sk_release(socket.cast());
        queue
    };
    // SAFETY: a map value, read once.
    let until = unsafe { (&raw const (*hot).ejected_until_ns).read_volatile() };
    if outlier::ejected(until, now_ns) || !backend::keeps_up(hot, queue, now_ns) {
        return SICK;
    }
    FIT
}

/// The listener of a backend that takes packets of this family, or null; to be released. An IPv6
/// packet can go to an IPv6 socket only; one that listens on an IPv4-mapped address will do. Sockets
/// of datagrams do not listen; and at such an address they could not answer.
///
/// # Safety
/// The caller releases what is not null.
#[inline(always)]
pub unsafe fn listener(backend: u32, six: bool, stream: bool) -> *mut bpf_sock {
    // SAFETY: the maps are this object's; what is not handed on is released.
    unsafe {
        if six {
            let socket = listeners::find(listeners::sockets(Ip::V6), backend);
            if !socket.is_null() {
                if !stream || (*socket).state == LISTEN {
                    return socket;
                }
                bpf_sk_release(socket.cast());
            }
        }
        let socket = listeners::find(listeners::sockets(Ip::V4), backend);
        if socket.is_null() {
            return socket;
        }
        let takes = if stream {
            (*socket).state == LISTEN && (!six || (*socket).family == AF_INET6)
        } else {
            !six
        };
        if takes {
            return socket;
        }
        bpf_sk_release(socket.cast());
        core::ptr::null_mut()
    }
}
