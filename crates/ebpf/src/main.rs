//! Sinew's kernel programs: one entry a hook, each a line that hands the context to its subject.
//!
//! Nothing here runs per packet of a connection. The paths that every connection takes are
//! `connect4`/`connect6` and `sock_release`, and `published` while a port is or there are other hosts;
//! everything else runs when a program binds, listens or asks for a name.
//!
//! What is seldom run on those paths is marked by `cold_path()` or lies in a function of its own: a
//! program that runs once in tens of microseconds finds its instructions far from the processor, so
//! those that always run lie together.
#![no_std]
#![no_main]
#![feature(core_intrinsics, asm_experimental_arch)]
#![allow(internal_features, reason = "the bpf target has no stable atomics")]

mod address;
mod arrive;
mod backend;
mod bind;
mod calls;
mod clock;
mod connect;
mod count;
mod datagram;
mod datagrams;
mod deaths;
mod events;
mod fleet;
mod identity;
mod kernel;
mod listen;
mod listeners;
mod lookup;
mod maps;
mod names;
mod open;
mod outside;
mod publish;
mod reach;
mod reclaim;
mod record;
mod release;
mod resolver;
mod scan;
mod suspect;

use address::{Target, mapped, words};
use aya_ebpf::{
    EbpfContext as _,
    macros::{cgroup_sock, cgroup_sock_addr, raw_tracepoint, sk_lookup, sock_ops},
    programs::{
        RawTracePointContext, SkLookupContext, SockAddrContext, SockContext, SockOpsContext,
    },
};

macro_rules! target {
    ($context:ident) => {
        // SAFETY: the context of the running program.
        &unsafe { Target::new($context.sock_addr) }
    };
}

#[cgroup_sock_addr(bind4)]
pub fn bind4(context: SockAddrContext) -> i32 {
    bind::bind4(target!(context))
}

#[cgroup_sock_addr(bind6)]
pub fn bind6(context: SockAddrContext) -> i32 {
    bind::bind6(target!(context))
}

#[cgroup_sock(post_bind4)]
pub fn post_bind4(context: SockContext) -> i32 {
    // SAFETY: words of the context.
    let (addr, protocol) = unsafe { ((*context.sock).src_ip4, (*context.sock).protocol) };
    bind::bound(context.sock, mapped(addr), protocol as u16)
}

#[cgroup_sock(post_bind6)]
pub fn post_bind6(context: SockContext) -> i32 {
    // SAFETY: words of the context.
    let (addr, protocol) =
        unsafe { (words((&raw const (*context.sock).src_ip6).cast()), (*context.sock).protocol) };
    bind::bound(context.sock, addr, protocol as u16)
}

#[cgroup_sock_addr(connect4)]
pub fn connect4(context: SockAddrContext) -> i32 {
    connect::connect4(&context, target!(context))
}

#[cgroup_sock_addr(connect6)]
#[inline(always)]
pub fn connect6(context: SockAddrContext) -> i32 {
    connect::connect6(&context, target!(context))
}

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(context: SockAddrContext) -> i32 {
    names::peer4(&context, target!(context))
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(context: SockAddrContext) -> i32 {
    names::peer6(&context, target!(context))
}

#[cgroup_sock_addr(getsockname4)]
pub fn getsockname4(context: SockAddrContext) -> i32 {
    names::own4(target!(context))
}

#[cgroup_sock_addr(getsockname6)]
pub fn getsockname6(context: SockAddrContext) -> i32 {
    names::own6(target!(context))
}

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(context: SockAddrContext) -> i32 {
    datagram::sendmsg4(&context, target!(context))
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(context: SockAddrContext) -> i32 {
    datagram::sendmsg6(&context, target!(context))
}

#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(context: SockAddrContext) -> i32 {
    datagram::recvmsg4(&context, target!(context))
}

#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(context: SockAddrContext) -> i32 {
    datagram::recvmsg6(&context, target!(context))
}

#[cgroup_sock_addr(connect4)]
pub fn reach_connect4(context: SockAddrContext) -> i32 {
    reach::connect4(&context, target!(context))
}

#[cgroup_sock_addr(connect6)]
pub fn reach_connect6(context: SockAddrContext) -> i32 {
    reach::connect6(&context, target!(context))
}

#[cgroup_sock_addr(sendmsg4)]
pub fn reach_sendmsg4(context: SockAddrContext) -> i32 {
    reach::sendmsg4(&context, target!(context))
}

#[cgroup_sock_addr(sendmsg6)]
pub fn reach_sendmsg6(context: SockAddrContext) -> i32 {
    reach::sendmsg6(&context, target!(context))
}

#[cgroup_sock(sock_release)]
pub fn sock_release(context: SockContext) -> i32 {
    release::release(&context)
}

#[sock_ops]
pub fn sock_ops(context: SockOpsContext) -> u32 {
    listen::callback(context.ops)
}

#[sk_lookup]
pub fn published(context: SkLookupContext) -> u32 {
    publish::lookup(context.lookup)
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn process_exits(_: RawTracePointContext) {
    deaths::exits();
}

#[raw_tracepoint(tracepoint = "signal_generate")]
pub fn process_killed(context: RawTracePointContext) {
    // SAFETY: the context of the running program.
    unsafe { deaths::signalled(context.as_ptr().cast()) }
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
pub extern "C" fn listeners(context: *mut scan::IterTcp) -> i32 {
    scan::scan(context)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/udp")]
pub extern "C" fn datagram_sockets(context: *mut datagrams::IterUdp) -> i32 {
    datagrams::scan(context)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
pub extern "C" fn open_sockets(context: *mut open::IterTaskFile) -> i32 {
    open::tell(context)
}

/// Attached to nothing: user space runs it, with a cookie and which of its two calls it is.
#[unsafe(no_mangle)]
#[unsafe(link_section = "raw_tp/give_back")]
pub extern "C" fn give_back(arguments: *const [u64; 2]) -> u32 {
    // SAFETY: the context is the two words that user space hands over.
    let [cookie, call] = unsafe { [(*arguments)[0], (*arguments)[1]] };
    reclaim::give_back(cookie, call)
}

/// What an attached program costs by itself; loaded by benchmarks only.
#[cgroup_sock_addr(connect4)]
pub fn empty(_: SockAddrContext) -> i32 {
    1
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // The verifier refuses a program in which this can be reached.
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
