//! Addresses of contexts and records.

use aya_ebpf::bindings::bpf_sock_addr;
use sinew_abi::protocol;

/// 127.0.0.1 as read from memory.
pub const LOCALHOST4: u32 = u32::from_ne_bytes([127, 0, 0, 1]);
/// The third word of an IPv4-mapped address.
pub const MAPPED: u32 = 0xffff_0000;
/// ::1, last word.
pub const ONE6: u32 = u32::from_ne_bytes([0, 0, 0, 1]);
/// Port 53 in network byte order.
pub const DNS: u32 = 53u16.to_be() as u32;
pub const AF_INET: u32 = 2;
pub const AF_INET6: u32 = 10;
const SOCK_STREAM: u32 = 1;

/// An IPv4 address as records hold it.
#[inline(always)]
pub const fn mapped(addr4: u32) -> [u32; 4] {
    [0, 0, MAPPED, addr4]
}

#[inline(always)]
pub const fn is_mapped(addr: &[u32; 4]) -> bool {
    addr[0] == 0 && addr[1] == 0 && addr[2] == MAPPED
}

/// The four words of an IPv6 address of a context. The kernel lets contexts be read and written one
/// word at a time only, and the compiler merges adjacent accesses unless they are volatile.
///
/// # Safety
/// `at` is the first of four words of the context of the running program.
#[inline(always)]
pub unsafe fn words(at: *const u32) -> [u32; 4] {
    // SAFETY: as promised.
    unsafe {
        [
            at.read_volatile(),
            at.add(1).read_volatile(),
            at.add(2).read_volatile(),
            at.add(3).read_volatile(),
        ]
    }
}

/// Writes the four words of an IPv6 address of a context.
///
/// # Safety
/// `at` is the first of four writable words of the context of the running program.
#[inline(always)]
unsafe fn set_words(at: *mut u32, addr: &[u32; 4]) {
    // SAFETY: as promised.
    unsafe {
        at.write_volatile(addr[0]);
        at.add(1).write_volatile(addr[1]);
        at.add(2).write_volatile(addr[2]);
        at.add(3).write_volatile(addr[3]);
    }
}

/// What a hook of `bpf_sock_addr` works on.
pub struct Target {
    raw: *mut bpf_sock_addr,
}

impl Target {
    /// # Safety
    /// `raw` is the context of the running program.
    #[inline(always)]
    pub const unsafe fn new(raw: *mut bpf_sock_addr) -> Self {
        Self { raw }
    }

    #[inline(always)]
    pub fn raw(&self) -> *mut bpf_sock_addr {
        self.raw
    }

    #[inline(always)]
    pub fn addr4(&self) -> u32 {
        // SAFETY: a word of the context.
        unsafe { (&raw const (*self.raw).user_ip4).read_volatile() }
    }

    #[inline(always)]
    pub fn set_addr4(&self, addr: u32) {
        // SAFETY: a writable word of the context.
        unsafe { (&raw mut (*self.raw).user_ip4).write_volatile(addr) }
    }

    #[inline(always)]
    pub fn addr6(&self) -> [u32; 4] {
        // SAFETY: words of the context.
        unsafe { words((&raw const (*self.raw).user_ip6).cast()) }
    }

    #[inline(always)]
    pub fn set_addr6(&self, addr: &[u32; 4]) {
        // SAFETY: writable words of the context.
        unsafe { set_words((&raw mut (*self.raw).user_ip6).cast(), addr) }
    }

    /// Network byte order.
    #[inline(always)]
    pub fn port(&self) -> u32 {
        // SAFETY: a word of the context.
        unsafe { (&raw const (*self.raw).user_port).read_volatile() }
    }

    #[inline(always)]
    pub fn set_port(&self, port: u32) {
        // SAFETY: a writable word of the context.
        unsafe { (&raw mut (*self.raw).user_port).write_volatile(port) }
    }

    #[inline(always)]
    pub fn stream(&self) -> bool {
        // SAFETY: a word of the context.
        unsafe { (&raw const (*self.raw).type_).read_volatile() == SOCK_STREAM }
    }

    #[inline(always)]
    pub fn protocol(&self) -> u16 {
        if self.stream() { protocol::TCP } else { protocol::UDP }
    }

    #[inline(always)]
    pub fn socket(&self) -> *mut aya_ebpf::bindings::bpf_sock {
        // SAFETY: a pointer of the context.
        unsafe { (*self.raw).__bindgen_anon_1.sk }
    }

    #[inline(always)]
    pub fn ipv6_only(&self) -> bool {
        // SAFETY: the context's own socket.
        unsafe { crate::kernel::ipv6_only(self.socket(), self.stream()) }
    }

    /// Whether no program knows anything of the socket that calls connect().
    #[inline(always)]
    pub fn is_fresh(&self) -> bool {
        // SAFETY: the context of the running program, a hook of connect().
        unsafe { crate::kernel::is_fresh(self.raw) }
    }

    /// Whether the socket that calls connect() is a subflow of an MPTCP one.
    #[inline(always)]
    pub fn is_mptcp(&self) -> bool {
        // SAFETY: as above; a socket of another kind is not looked at.
        self.stream() && unsafe { crate::kernel::is_mptcp(self.raw) }
    }

    /// Source address of a datagram.
    #[inline(always)]
    pub fn source4(&self) -> u32 {
        // SAFETY: a word of the context of a sendmsg hook.
        unsafe { (&raw const (*self.raw).msg_src_ip4).read_volatile() }
    }

    #[inline(always)]
    pub fn set_source4(&self, addr: u32) {
        // SAFETY: a writable word of the context of a sendmsg hook.
        unsafe { (&raw mut (*self.raw).msg_src_ip4).write_volatile(addr) }
    }

    #[inline(always)]
    pub fn source6(&self) -> [u32; 4] {
        // SAFETY: words of the context of a sendmsg hook.
        unsafe { words((&raw const (*self.raw).msg_src_ip6).cast()) }
    }

    #[inline(always)]
    pub fn set_source6(&self, addr: &[u32; 4]) {
        // SAFETY: writable words of the context of a sendmsg hook.
        unsafe { set_words((&raw mut (*self.raw).msg_src_ip6).cast(), addr) }
    }
}

/// Error numbers that programs answer with.
pub mod errno {
    pub const EACCES: i32 = 13;
    pub const ECONNREFUSED: i32 = 111;
}

/// Lets the call fail with `errno` instead of EPERM.
#[inline(always)]
pub fn refuse(errno: i32) -> i32 {
    // SAFETY: no pointers.
    unsafe { aya_ebpf::helpers::generated::bpf_set_retval(-errno) };
    0
}
