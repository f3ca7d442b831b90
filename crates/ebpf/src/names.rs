//! getpeername() and getsockname(): programs see the addresses that they asked for.

use aya_ebpf::programs::SockAddrContext;

use crate::{address::Target, bind, connect::ALLOW, record};

#[inline(always)]
pub fn peer4(context: &SockAddrContext, target: &Target) -> i32 {
    if let Some(record) = record::find(record::cookie(context)) {
        // SAFETY: found in this run.
        unsafe {
            target.set_addr4((*record).addr[3]);
            target.set_port((*record).port_protocol & 0xffff);
        }
    }
    ALLOW
}

#[inline(always)]
pub fn peer6(context: &SockAddrContext, target: &Target) -> i32 {
    if let Some(record) = record::find(record::cookie(context)) {
        // SAFETY: found in this run.
        unsafe {
            target.set_addr6(&(*record).addr);
            target.set_port((*record).port_protocol & 0xffff);
        }
    }
    ALLOW
}

#[inline(always)]
pub fn own4(target: &Target) -> i32 {
    if let Some(asked) = bind::asked(target) {
        target.set_addr4(asked.addr[3]);
    }
    ALLOW
}

#[inline(always)]
pub fn own6(target: &Target) -> i32 {
    if let Some(asked) = bind::asked(target) {
        target.set_addr6(&asked.addr);
    }
    ALLOW
}
