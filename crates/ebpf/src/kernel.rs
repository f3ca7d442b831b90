//! What the kernel's own structures tell. See `sinew_abi::facts` for how their offsets get here.

use core::{ffi::c_void, ptr::read_volatile};

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr},
    helpers::{self, generated as gen_helpers},
};
use sinew_abi::{Instance, KnownListener, facts};

use crate::maps::INSTANCES;

/// `TCP_LISTEN` of include/net/tcp_states.h.
pub const LISTEN: u8 = 10;

/// A fact about the running kernel.
#[inline(always)]
fn fact<const FACT: u32>() -> u64 {
    let value: u64;
    // SAFETY: a move of a constant, which the loader replaces by the fact.
    unsafe {
        core::arch::asm!(
            "{value} = {mark}",
            value = out(reg) value,
            mark = const facts::MARK + FACT,
            options(nomem, nostack),
        );
    }
    value
}

/// A field of a kernel structure, at the offset that `FACT` tells.
///
/// # Safety
/// `base` is a BTF pointer of the verifier to the structure that the offset belongs to; the
/// verifier refuses the program otherwise, and the kernel handles a fault of the load.
#[inline(always)]
unsafe fn field<T: Copy, const FACT: u32>(base: *const u8) -> T {
    // SAFETY: see above.
    unsafe { read_volatile(base.add(fact::<FACT>() as usize).cast()) }
}

/// Length of a tick.
#[inline(always)]
pub fn tick_ns() -> u64 {
    fact::<{ facts::TICK_NS }>()
}

/// Id of the current process's cgroup: what the helper for it answers, for less than half.
#[inline(always)]
pub fn current_cgroup() -> u64 {
    // SAFETY: the current task as a BTF pointer, and from there structures that the kernel's types
    // name and that RCU keeps while a program runs.
    unsafe {
        let task: *const u8 = gen_helpers::bpf_get_current_task_btf().cast();
        let set = field::<_, { facts::TASK_CGROUPS }>(task);
        let cgroup = field::<_, { facts::DEFAULT_CGROUP }>(set);
        field::<_, { facts::NODE_ID }>(field::<_, { facts::CGROUP_NODE }>(cgroup))
    }
}

/// Id of the current process, as the whole host numbers it.
#[inline(always)]
pub fn current_process() -> u32 {
    // SAFETY: the current task as a BTF pointer.
    unsafe {
        let task: *const u8 = gen_helpers::bpf_get_current_task_btf().cast();
        field::<_, { facts::TASK_TGID }>(task)
    }
}

/// Id of the process of a task.
///
/// # Safety
/// `task` is the address of a `task_struct`.
#[inline(always)]
pub unsafe fn process_of(task: u64) -> u32 {
    let place = task + fact::<{ facts::TASK_TGID }>();
    // SAFETY: the helper answers an error where nothing can be read; no process has number 0.
    unsafe { helpers::bpf_probe_read_kernel(place as *const u32) }.unwrap_or(0)
}

/// Length of a TCP listener's accept queue.
///
/// # Safety
/// `socket` is a socket pointer of the verifier to a TCP listener.
#[inline(always)]
pub unsafe fn accept_queue(socket: *mut bpf_sock) -> u32 {
    // SAFETY: as above; a BTF pointer to `tcp_sock`, which begins with `sock`.
    unsafe {
        if casts() {
            return field::<_, { facts::ACK_BACKLOG }>(as_tcp(socket.cast_const().cast()));
        }
        let tcp = tcp_sock(socket.cast());
        if tcp.is_null() { u32::MAX } else { field::<_, { facts::ACK_BACKLOG }>(tcp) }
    }
}

/// Length of the accept queue of a listener that was seen before, on a kernel that [`casts`];
/// `u32::MAX` when it is not there any more, or none with that cookie.
#[inline(always)]
pub fn accept_queue_of(known: &KnownListener, cookie: u64) -> u32 {
    // SAFETY: a map value, whose word is read once; then an address seen as a `tcp_sock`.
    // The verifier lets a program read through it only, and the kernel turns a fault into zeros.
    // Whatever lies there is told from that listener by its cookie, which no other socket ever
    // has, and its state, which is the first to change when it closes.
    unsafe {
        if cookie == 0 {
            return u32::MAX;
        }
        let tcp = as_tcp(read_volatile(&raw const known.socket) as *const u8);
        let same = field::<u64, { facts::COOKIE }>(tcp) == cookie;
        if same && field::<u8, { facts::STATE }>(tcp) == LISTEN {
            return field::<_, { facts::ACK_BACKLOG }>(tcp);
        }
    }
    u32::MAX
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
        if tcp.is_null() { 0 } else { field::<_, { facts::COOKIE }>(tcp) }
    }
}

/// Cookie of the `struct sock` of a `struct socket`; 0: nobody has asked for it yet, or there is
/// none.
///
/// # Safety
/// `socket` is a BTF pointer of the verifier to a `socket`.
#[inline(always)]
pub unsafe fn cookie_of(socket: *const u8) -> u64 {
    // SAFETY: see above; reading through a null pointer gives zeros.
    unsafe { field::<_, { facts::COOKIE }>(field::<*const u8, { facts::SOCKET_SOCK }>(socket)) }
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
    // SAFETY: a BTF pointer to `tcp_sock`.
    unsafe { maker(tcp) }
}

/// The same of the socket that is being closed; `None` on a kernel without context casts.
///
/// # Safety
/// `context` is the context pointer of a cgroup socket program and its socket is TCP.
#[inline(always)]
pub unsafe fn owner_of_closed(context: *mut bpf_sock) -> Option<&'static Instance> {
    if !casts() {
        return None;
    }
    // SAFETY: see above.
    unsafe { maker(as_tcp(kernel_context(context.cast()))) }
}

/// The instance that made a socket.
///
/// # Safety
/// `tcp` is a BTF pointer of the verifier to a `tcp_sock`, or to another one that begins with a `sock`.
#[inline(always)]
pub unsafe fn maker(tcp: *const u8) -> Option<&'static Instance> {
    // SAFETY: see above, and from there structures that the kernel's types name; reading through
    // one that is null gives zeros.
    let mut cgroup: *const u8 = unsafe { field::<_, { facts::SK_CGROUP }>(tcp) };
    let mut level = 0;
    while level < LEVELS {
        // SAFETY: as above.
        let id: u64 =
            unsafe { field::<_, { facts::NODE_ID }>(field::<_, { facts::CGROUP_NODE }>(cgroup)) };
        if id == 0 {
            return None;
        }
        // SAFETY: entries are replaced as a whole and stay readable until this program returns.
        if let Some(instance) = unsafe { INSTANCES.get(&id) } {
            return Some(instance);
        }
        // SAFETY: as above.
        cgroup = unsafe {
            field::<_, { facts::STATE_CGROUP }>(field::<_, { facts::CGROUP_PARENT }>(cgroup))
        };
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
    let byte: u8 = unsafe { field::<_, { facts::IPV6ONLY }>(sock) };
    u64::from(byte) & fact::<{ facts::IPV6ONLY_MASK }>() != 0
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

/// What the kernel itself hands to a program of this context: of a cgroup socket program the
/// `struct sock`, of one on addresses the `struct bpf_sock_addr_kern`.
///
/// `bpf_cast_to_kern_ctx` is a kernel function that the verifier turns into nothing. The loader
/// finds the call by its immediate and writes the function's BTF id there.
///
/// # Safety
/// `context` is the context of the running program, on a kernel that has the function
/// ([`casts`]).
#[inline(always)]
unsafe fn kernel_context(context: *mut c_void) -> *const u8 {
    let inner: *const u8;
    // SAFETY: the call takes r1, returns r0 and clobbers r1 to r5.
    unsafe {
        core::arch::asm!(
            ".quad 0x5e1f000100002085",
            inlateout("r1") context => _,
            lateout("r0") inner,
            lateout("r2") _,
            lateout("r3") _,
            lateout("r4") _,
            lateout("r5") _,
        );
    }
    inner
}

/// Whether this kernel casts contexts and addresses.
#[inline(always)]
pub fn casts() -> bool {
    fact::<{ facts::TCP_SOCK_ID }>() != 0
}

/// A socket seen as a `struct tcp_sock` by `bpf_rdonly_cast`, another function that turns into
/// nothing. The verifier takes a mere address as well.
///
/// # Safety
/// On a kernel that [`casts`]. What is read tells something only while a TCP socket is there.
#[inline(always)]
unsafe fn as_tcp(socket: *const u8) -> *const u8 {
    let tcp: *const u8;
    // SAFETY: the call takes r1 and r2, a constant, returns r0 and clobbers r1 to r5.
    unsafe {
        core::arch::asm!(
            ".quad 0x5e1f000200002085",
            inlateout("r1") socket => _,
            inlateout("r2") fact::<{ facts::TCP_SOCK_ID }>() => _,
            lateout("r0") tcp,
            lateout("r3") _,
            lateout("r4") _,
            lateout("r5") _,
        );
    }
    tcp
}

/// The cookie of a socket, 0 when nobody has asked for it yet; `None` on a kernel that does not tell
/// without making one up.
///
/// # Safety
/// `context` is the context pointer of a cgroup socket program.
#[inline(always)]
pub unsafe fn known_cookie(context: *mut bpf_sock) -> Option<u64> {
    if !casts() {
        return None;
    }
    // SAFETY: the cookie is a word of the common part of any socket.
    Some(unsafe { field::<_, { facts::COOKIE }>(kernel_context(context.cast())) })
}

/// The socket that a program on connect() runs for.
///
/// # Safety
/// `context` is the context pointer of such a program, on a kernel that [`casts`].
#[inline(always)]
unsafe fn called_socket(context: *mut bpf_sock_addr) -> *const u8 {
    // SAFETY: the kernel's context holds it.
    unsafe { field::<_, { facts::CALLED_SOCKET }>(kernel_context(context.cast())) }
}

/// Whether nobody has asked for the cookie of the calling socket yet: no program knows anything of
/// it. False as well on a kernel that does not tell.
///
/// # Safety
/// `context` is the context pointer of a program on connect().
#[inline(always)]
pub unsafe fn is_fresh(context: *mut bpf_sock_addr) -> bool {
    // SAFETY: see above.
    casts() && unsafe { field::<u64, { facts::COOKIE }>(called_socket(context)) } == 0
}

/// Whether the calling TCP socket is a subflow of an MPTCP one.
///
/// # Safety
/// `context` is the context pointer of a program on connect(), and its socket one of a stream.
#[inline(always)]
pub unsafe fn is_mptcp(context: *mut bpf_sock_addr) -> bool {
    // SAFETY: see above; the helper takes any socket pointer.
    unsafe {
        if !casts() {
            let socket = (*context).__bindgen_anon_1.sk;
            return !gen_helpers::bpf_skc_to_mptcp_sock(socket.cast()).is_null();
        }
        fact::<{ facts::IS_MPTCP }>() != facts::UNKNOWN
            && field::<u8, { facts::IS_MPTCP }>(as_tcp(called_socket(context))) != 0
    }
}

/// Reads them, or `None` on a kernel without context casts.
///
/// # Safety
/// `context` is the context pointer of a cgroup socket program and its socket is plain TCP.
#[inline(always)]
pub unsafe fn tcp_facts(context: *mut bpf_sock) -> Option<TcpFacts> {
    if !casts() {
        return None;
    }
    // SAFETY: see above; then a BTF pointer to `tcp_sock`, per the cast.
    unsafe {
        let tcp = as_tcp(kernel_context(context.cast()));
        let flags: u64 = field::<_, { facts::SK_FLAGS }>(tcp);
        Some(TcpFacts {
            sent_bytes: field::<_, { facts::BYTES_ACKED }>(tcp),
            received_bytes: field::<_, { facts::BYTES_RECEIVED }>(tcp),
            rtt_us: if field::<u32, { facts::SRTT }>(tcp) == 0 {
                0
            } else {
                field::<_, { facts::RTT_MIN }>(tcp)
            },
            last_us: field::<_, { facts::MSTAMP }>(tcp),
            retransmits: field::<_, { facts::RETRANS }>(tcp),
            fin_received: flags & SOCK_DONE != 0,
        })
    }
}

/// Bytes that the socket being closed has sent, each once, acknowledged or not; `None` on a kernel
/// without context casts.
///
/// # Safety
/// As of [`tcp_facts`].
#[inline(always)]
pub unsafe fn sent_once(context: *mut bpf_sock) -> Option<u64> {
    if !casts() {
        return None;
    }
    // SAFETY: see there.
    unsafe {
        let tcp = as_tcp(kernel_context(context.cast()));
        let sent: u64 = field::<_, { facts::BYTES_SENT }>(tcp);
        Some(sent.saturating_sub(field::<_, { facts::BYTES_RETRANS }>(tcp)))
    }
}

/// Where the socket that is being closed is bound; `None` on a kernel without context casts.
///
/// # Safety
/// As of [`tcp_facts`].
#[inline(always)]
pub unsafe fn closed_at(context: *mut bpf_sock) -> Option<Bound> {
    if !casts() {
        return None;
    }
    // SAFETY: see there; a `tcp_sock` begins with an `inet_sock`, and that with `sock_common`.
    unsafe {
        let tcp = as_tcp(kernel_context(context.cast()));
        let port = u16::from_be(field::<_, { facts::SOURCE_PORT }>(tcp));
        Some(Bound { port, ..bound(tcp) })
    }
}

/// What a socket is bound to.
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
    unsafe { field::<_, { facts::STATE }>(socket) }
}

/// Where `socket` listens; `None` when it does not.
///
/// # Safety
/// `socket` is a BTF pointer of the verifier to a `sock_common`.
#[inline(always)]
pub unsafe fn listener(socket: *const u8) -> Option<Bound> {
    // SAFETY: see above.
    unsafe {
        if field::<u8, { facts::STATE }>(socket) != LISTEN {
            return None;
        }
        Some(bound(socket))
    }
}

/// State of a UDP socket that has no peer (`TCP_CLOSE`).
const UNCONNECTED: u8 = 7;

/// Where a UDP socket is bound; `None` when it is connected, or bound nowhere.
///
/// # Safety
/// `socket` is a BTF pointer of the verifier to a `udp_sock`.
#[inline(always)]
pub unsafe fn unconnected(socket: *const u8) -> Option<Bound> {
    // SAFETY: see above; it begins with `sock_common`.
    unsafe {
        let bound = bound(socket);
        (field::<u8, { facts::STATE }>(socket) == UNCONNECTED && bound.port != 0).then_some(bound)
    }
}

/// # Safety
/// `socket` is a BTF pointer of the verifier to a `sock_common`.
#[inline(always)]
unsafe fn bound(socket: *const u8) -> Bound {
    // SAFETY: see above.
    unsafe {
        let six = fact::<{ facts::RCV_SADDR6 }>() as usize;
        let word = |i: usize| read_volatile(socket.add(six + i * 4).cast::<u32>());
        Bound {
            family: field::<_, { facts::FAMILY }>(socket),
            addr4: field::<_, { facts::RCV_SADDR }>(socket),
            addr6: [word(0), word(1), word(2), word(3)],
            port: field::<_, { facts::NUM }>(socket),
        }
    }
}
