//! What the kernel's own structures tell. The compiler emits no field relocations, so user space
//! finds the offsets in the kernel's BTF and writes them here before the load; the verifier then
//! sees constants. `u32::MAX` stays where the kernel lacks the field, and what depends on it is
//! left out.

use core::{ffi::c_void, ptr::read_volatile};

use aya_ebpf::{bindings::bpf_sock, helpers::generated as gen_helpers};
use sinew_abi::Instance;

use crate::maps::INSTANCES;

macro_rules! offsets {
    ($($(#[$meta:meta])* $name:ident)*) => { $(
        $(#[$meta])*
        #[unsafe(no_mangle)]
        static $name: u32 = u32::MAX;
    )* };
}

offsets! {
    /// `sock.sk_ack_backlog`
    OFF_ACK_BACKLOG
    /// Byte that holds `sock_common.skc_ipv6only`
    OFF_IPV6ONLY
    /// Its bit in that byte
    MASK_IPV6ONLY
    /// `sock_common.skc_flags`
    OFF_SK_FLAGS
    /// `tcp_sock.bytes_acked`
    OFF_BYTES_ACKED
    /// `tcp_sock.bytes_received`
    OFF_BYTES_RECEIVED
    /// `tcp_sock.rtt_min.s[0].v`
    OFF_RTT_MIN
    /// `tcp_sock.tcp_mstamp`
    OFF_MSTAMP
    /// `tcp_sock.total_retrans`
    OFF_RETRANS
    /// `tcp_sock.srtt_us`
    OFF_SRTT
    /// `sock_common.skc_cookie`
    OFF_COOKIE
    /// `sock_common.skc_family`
    OFF_FAMILY
    /// `sock_common.skc_state`
    OFF_STATE
    /// `sock_common.skc_rcv_saddr`
    OFF_RCV_SADDR
    /// `sock_common.skc_v6_rcv_saddr`
    OFF_RCV_SADDR6
    /// `sock_common.skc_num`
    OFF_NUM
    /// `sock.sk_cgrp_data.cgroup`
    OFF_SK_CGROUP
    /// `cgroup.kn`
    OFF_CGROUP_NODE
    /// `kernfs_node.id`
    OFF_NODE_ID
    /// `cgroup.self.parent`
    OFF_CGROUP_PARENT
    /// `cgroup_subsys_state.cgroup`
    OFF_STATE_CGROUP
    /// BTF id of `struct tcp_sock`; 0 when the kernel cannot cast contexts (before 6.2)
    ID_TCP_SOCK
}

#[inline(always)]
fn value(of: &'static u32) -> u32 {
    // SAFETY: a static of this object; volatile, since the loader rewrites it and the compiler
    // would otherwise fold the value above.
    unsafe { read_volatile(of) }
}

/// A field of a kernel structure.
///
/// # Safety
/// `base` is a BTF pointer of the verifier to the structure that `offset` belongs to; the verifier
/// refuses the program otherwise, and the kernel handles a fault of the load.
#[inline(always)]
unsafe fn field<T: Copy>(base: *const u8, offset: &'static u32) -> T {
    // SAFETY: see above.
    unsafe { read_volatile(base.add(value(offset) as usize).cast()) }
}

/// Length of a listener's accept queue, or `u32::MAX` when `socket` is no TCP socket.
///
/// # Safety
/// `socket` is a socket pointer of the verifier.
#[inline(always)]
pub unsafe fn accept_queue(socket: *mut bpf_sock) -> u32 {
    // SAFETY: as above; a BTF pointer to `tcp_sock`, which begins with `sock`.
    unsafe {
        let tcp = tcp_sock(socket.cast());
        if tcp.is_null() { u32::MAX } else { field(tcp, &OFF_ACK_BACKLOG) }
    }
}

/// The `struct tcp_sock` of a socket; null when it is no TCP socket.
///
/// # Safety
/// `socket` is a socket pointer of the verifier.
#[inline(always)]
unsafe fn tcp_sock(socket: *mut c_void) -> *const u8 {
    // SAFETY: the helper takes any socket pointer and answers null for other kinds.
    unsafe { gen_helpers::bpf_skc_to_tcp_sock(socket) }.cast()
}

/// Cookie of a TCP socket; 0: nobody has asked for it yet, or it is no TCP socket.
///
/// # Safety
/// `socket` is a socket pointer of the verifier.
#[inline(always)]
pub unsafe fn cookie(socket: *mut c_void) -> u64 {
    // SAFETY: as above; the cookie is a word of the common part of any socket.
    unsafe {
        let tcp = tcp_sock(socket);
        if tcp.is_null() { 0 } else { field(tcp, &OFF_COOKIE) }
    }
}

/// Cgroups from a socket's own upwards that are looked at: a workload may make cgroups of its own.
const LEVELS: u32 = 16;

/// The instance that made a TCP socket, by the socket's cgroup: whoever holds it now.
///
/// # Safety
/// `socket` is a socket pointer of the verifier.
#[inline(always)]
pub unsafe fn owner(socket: *mut c_void) -> Option<&'static Instance> {
    // SAFETY: as above.
    let tcp = unsafe { tcp_sock(socket) };
    if tcp.is_null() {
        return None;
    }
    // SAFETY: a BTF pointer to `tcp_sock`, and from there to structures that the kernel's types
    // name; reading through one that is null gives zeros.
    let mut cgroup: *const u8 = unsafe { field(tcp, &OFF_SK_CGROUP) };
    let mut level = 0;
    while level < LEVELS {
        // SAFETY: as above.
        let id: u64 = unsafe { field(field(cgroup, &OFF_CGROUP_NODE), &OFF_NODE_ID) };
        if id == 0 {
            return None;
        }
        // SAFETY: entries are replaced as a whole and stay readable until this program returns.
        if let Some(instance) = unsafe { INSTANCES.get(&id) } {
            return Some(instance);
        }
        // SAFETY: as above.
        cgroup = unsafe { field(field(cgroup, &OFF_CGROUP_PARENT), &OFF_STATE_CGROUP) };
        level += 1;
    }
    None
}

/// Whether an IPv6 socket refuses IPv4-mapped addresses.
///
/// # Safety
/// `socket` is a socket pointer of the verifier.
#[inline(always)]
pub unsafe fn ipv6_only(socket: *mut bpf_sock, stream: bool) -> bool {
    let raw: *mut c_void = socket.cast();
    // SAFETY: both helpers take any socket pointer and answer null for other kinds.
    let sock: *const u8 = unsafe {
        if stream {
            gen_helpers::bpf_skc_to_tcp6_sock(raw).cast()
        } else {
            gen_helpers::bpf_skc_to_udp6_sock(raw).cast()
        }
    };
    if sock.is_null() {
        return false;
    }
    // SAFETY: a BTF pointer to a socket, which begins with `sock_common`.
    let byte: u8 = unsafe { field(sock, &OFF_IPV6ONLY) };
    u32::from(byte) & value(&MASK_IPV6ONLY) != 0
}

/// What a TCP socket can tell when it is closed.
#[derive(Clone, Copy)]
pub struct TcpFacts {
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// The handshake's round trip at most; 0 before it was answered.
    pub rtt_us: u32,
    /// When it last sent or received, microseconds of the monotonic clock.
    pub last_us: u64,
    pub retransmits: u32,
    /// Whether the peer ended its side in order.
    pub fin_received: bool,
}

/// Bit of `sk_flags` that tcp_fin() sets (`SOCK_DONE` of include/net/sock.h).
const SOCK_DONE: u64 = 1 << 1;

/// The `struct sock` behind the context of a cgroup socket program.
///
/// `bpf_cast_to_kern_ctx` is a kernel function that the verifier turns into nothing. The loader
/// finds the call by its immediate and writes the function's BTF id there.
///
/// # Safety
/// `context` is the context of the running program, on a kernel that has the function
/// (`ID_TCP_SOCK` is not 0).
#[inline(always)]
unsafe fn kernel_socket(context: *mut bpf_sock) -> *const u8 {
    let socket: *const u8;
    // SAFETY: the call takes r1, returns r0 and clobbers r1 to r5.
    unsafe {
        core::arch::asm!(
            ".quad 0x5e1f000100002085",
            inlateout("r1") context => _,
            lateout("r0") socket,
            lateout("r2") _,
            lateout("r3") _,
            lateout("r4") _,
            lateout("r5") _,
        );
    }
    socket
}

/// Whether nobody has asked for the cookie of this socket yet.
///
/// # Safety
/// `context` is the context pointer of a cgroup socket program.
#[inline(always)]
pub unsafe fn without_cookie(context: *mut bpf_sock) -> bool {
    // SAFETY: the kernel has the cast, and the cookie is a word of the common part of any socket.
    value(&ID_TCP_SOCK) != 0 && unsafe { field::<u64>(kernel_socket(context), &OFF_COOKIE) } == 0
}

/// Reads them, or `None` on a kernel without context casts.
///
/// # Safety
/// `context` is the context pointer of a cgroup socket program and its socket is plain TCP.
#[inline(always)]
pub unsafe fn tcp_facts(context: *mut bpf_sock) -> Option<TcpFacts> {
    if value(&ID_TCP_SOCK) == 0 {
        return None;
    }
    let tcp: *const u8;
    // `bpf_rdonly_cast` sees the socket as a `tcp_sock`; see `kernel_socket`.
    // SAFETY: the call takes r1 and r2, a constant, returns r0 and clobbers r1 to r5.
    unsafe {
        core::arch::asm!(
            ".quad 0x5e1f000200002085",
            inlateout("r1") kernel_socket(context) => _,
            inlateout("r2") u64::from(value(&ID_TCP_SOCK)) => _,
            lateout("r0") tcp,
            lateout("r3") _,
            lateout("r4") _,
            lateout("r5") _,
        );
    }
    // SAFETY: a BTF pointer to `tcp_sock`, per the cast above.
    unsafe {
        let flags: u64 = field(tcp, &OFF_SK_FLAGS);
        Some(TcpFacts {
            sent_bytes: field(tcp, &OFF_BYTES_ACKED),
            received_bytes: field(tcp, &OFF_BYTES_RECEIVED),
            rtt_us: if field::<u32>(tcp, &OFF_SRTT) == 0 { 0 } else { field(tcp, &OFF_RTT_MIN) },
            last_us: field(tcp, &OFF_MSTAMP),
            retransmits: field(tcp, &OFF_RETRANS),
            fin_received: flags & SOCK_DONE != 0,
        })
    }
}

/// What a listener is bound to.
#[derive(Clone, Copy)]
pub struct Bound {
    pub family: u16,
    pub addr4: u32,
    pub addr6: [u32; 4],
    /// Host byte order.
    pub port: u16,
}

/// State of a TCP socket.
///
/// # Safety
/// `socket` is a BTF pointer of the verifier to a `sock_common`.
#[inline(always)]
pub unsafe fn state(socket: *const u8) -> u8 {
    // SAFETY: see above.
    unsafe { field(socket, &OFF_STATE) }
}

/// Where `socket` listens; `None` when it is not in state `listen`.
///
/// # Safety
/// `socket` is a BTF pointer of the verifier to a `sock_common`.
#[inline(always)]
pub unsafe fn listener(socket: *const u8, listen: u8) -> Option<Bound> {
    // SAFETY: see above.
    unsafe {
        if field::<u8>(socket, &OFF_STATE) != listen {
            return None;
        }
        let six = value(&OFF_RCV_SADDR6) as usize;
        let word = |i: usize| read_volatile(socket.add(six + i * 4).cast::<u32>());
        Some(Bound {
            family: field(socket, &OFF_FAMILY),
            addr4: field(socket, &OFF_RCV_SADDR),
            addr6: [word(0), word(1), word(2), word(3)],
            port: field(socket, &OFF_NUM),
        })
    }
}
