//! Connections to instances of other hosts: given up soon when nobody answers, and each missing answer
//! is held against the host at once, not only when the program closes its socket.

use core::ptr::read_volatile;

use aya_ebpf::{
    bindings::{BPF_SOCK_OPS_RTO_CB_FLAG, bpf_sock_ops},
    helpers::generated::{bpf_getsockopt, bpf_setsockopt, bpf_sock_ops_cb_flags_set},
};
use sinew_ebpf::suspicion::{RETRIES, RETRY_NS};

use crate::{
    address::{AF_INET6, mapped, words},
    clock, fleet, kernel, suspect,
};

/// Of `bpf_sock_ops.op`, include/uapi/linux/bpf.h.
pub const TIMEOUT_INIT: u32 = 1;
pub const TCP_CONNECT_CB: u32 = 3;
pub const ACTIVE_ESTABLISHED_CB: u32 = 4;
pub const RTO_CB: u32 = 8;

/// States of include/net/tcp_states.h.
const SYN_SENT: u32 = 2;
const SOL_TCP: i32 = 6;
const TCP_SYNCNT: i32 = 7;

#[inline(always)]
pub fn callback(context: *mut bpf_sock_ops, op: u32) {
    // SAFETY: words of the context, read one by one, and before the branch: see `listen`.
    let (addr, state) = unsafe {
        let addr4 = read_volatile(&raw const (*context).remote_ip4);
        let addr6 = words((&raw const (*context).remote_ip6).cast());
        let six = read_volatile(&raw const (*context).family) == AF_INET6;
        (if six { addr6 } else { mapped(addr4) }, read_volatile(&raw const (*context).state))
    };
    if !fleet::has(&addr) {
        return;
    }
    match op {
        TIMEOUT_INIT => {
            let ticks = RETRY_NS.checked_div(kernel::tick_ns()).unwrap_or(0) as u32;
            // SAFETY: a writable word of the context.
            unsafe { (&raw mut (*context).__bindgen_anon_1.reply).write_volatile(ticks) };
        }
        TCP_CONNECT_CB => begins(context),
        ACTIVE_ESTABLISHED_CB => {
            // What comes later is nobody's business.
            watch(context, false);
            if let Some(host) = fleet::owner(&addr) {
                suspect::answered(host.node);
            }
        }
        _ => {
            if state == SYN_SENT {
                if let Some(host) = fleet::owner(&addr) {
                    suspect::unanswered(host.node, clock::now_ns());
                }
            }
        }
    }
}

/// A program that gives up sooner of its own accord keeps that.
#[inline(always)]
fn begins(context: *mut bpf_sock_ops) {
    let (mut tries, mut fewer) = (0u32, RETRIES);
    watch(context, true);
    // SAFETY: the context of the running program; the options are words on the stack.
    unsafe {
        let asked = bpf_getsockopt(context.cast(), SOL_TCP, TCP_SYNCNT, (&raw mut tries).cast(), 4);
        if asked != 0 || tries > RETRIES {
            let fewer = (&raw mut fewer).cast();
            bpf_setsockopt(context.cast(), SOL_TCP, TCP_SYNCNT, fewer, 4);
        }
    }
}

/// Whether tries that got no answer are told. What others are told of stays.
#[inline(always)]
fn watch(context: *mut bpf_sock_ops, on: bool) {
    // SAFETY: a word of the context, and the context itself.
    unsafe {
        let others =
            read_volatile(&raw const (*context).bpf_sock_ops_cb_flags) & !BPF_SOCK_OPS_RTO_CB_FLAG;
        let own = if on { BPF_SOCK_OPS_RTO_CB_FLAG } else { 0 };
        bpf_sock_ops_cb_flags_set(context, (others | own) as i32);
    }
}
