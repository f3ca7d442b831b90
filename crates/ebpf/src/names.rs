//! Programs see the addresses that they asked for: getpeername(), getsockname(), senders of datagrams.

use aya_ebpf::programs::SockAddrContext;
use sinew_abi::{Asked, PeerKey, PortName, socket_flags};

use crate::{
    address::{Target, mapped},
    backend,
    bind::{self, same},
    connect::ALLOW,
    maps::{PEER_NAMES, PORT_NAMES},
    record,
};

/// On this socket the peer `real` will be called `asked`.
#[inline(always)]
pub fn show(
    context: &SockAddrContext,
    real: [u32; 4],
    real_port: u32,
    asked: [u32; 4],
    asked_port: u32,
) {
    let cookie = record::cookie(context);
    let key = PeerKey { cookie, addr: real, port: real_port, reserved: 0 };
    if let Some(known) = PEER_NAMES.get_ptr(&key) {
        // SAFETY: map value; entries of a socket are written by that socket only.
        if unsafe { same(&(*known).addr, &asked) && (*known).port == asked_port } {
            return;
        }
    }
    let _ = PEER_NAMES.insert(&key, &Asked { addr: asked, port: asked_port, family: 0 }, 0);
}

/// The name of the service that this socket reached at `real`, by its record. The address is
/// compared, since the socket may have been connected elsewhere since.
#[inline(always)]
fn service(cookie: u64, real: &[u32; 4], port: u32) -> Option<(&'static PortName, u16)> {
    let record = record::find(cookie)?;
    // SAFETY: found in this run.
    let (backend, index, flags) = unsafe { ((*record).backend, (*record).index, (*record).flags) };
    let config = backend::config(backend)?;
    let reached = same(&mapped(config.addr4), real) || same(&config.addr6, real);
    if !reached || u32::from(config.port) != port {
        return None;
    }
    Some((PORT_NAMES.get(index.into())?, flags))
}

/// What the peer at `real` is called, when it is not by its own address.
#[inline(always)]
fn name(context: &SockAddrContext, real: [u32; 4], port: u32) -> Option<([u32; 4], u32)> {
    let cookie = record::cookie(context);
    if let Some((name, flags)) = service(cookie, &real, port) {
        let six = flags & socket_flags::V6 != 0;
        return Some((if six { name.addr6 } else { mapped(name.addr4) }, name.port.into()));
    }
    let known = PEER_NAMES.get_ptr(&PeerKey { cookie, addr: real, port, reserved: 0 })?;
    // SAFETY: as in `show`.
    Some(unsafe { ((*known).addr, (*known).port) })
}

#[inline(always)]
pub fn show_peer4(context: &SockAddrContext, target: &Target) {
    if let Some((addr, port)) = name(context, mapped(target.addr4()), target.port()) {
        target.set_addr4(addr[3]);
        target.set_port(port);
    }
}

#[inline(always)]
pub fn show_peer6(context: &SockAddrContext, target: &Target) {
    if let Some((addr, port)) = name(context, target.addr6(), target.port()) {
        target.set_addr6(&addr);
        target.set_port(port);
    }
}

#[inline(always)]
pub fn peer4(context: &SockAddrContext, target: &Target) -> i32 {
    show_peer4(context, target);
    ALLOW
}

#[inline(always)]
pub fn peer6(context: &SockAddrContext, target: &Target) -> i32 {
    show_peer6(context, target);
    ALLOW
}

/// What the socket asked for and got: a bind() that the kernel refused in the end left no port.
#[inline(always)]
fn bound(target: &Target) -> Option<&'static Asked> {
    bind::asked(target).filter(|asked| asked.port == target.port())
}

#[inline(always)]
pub fn own4(target: &Target) -> i32 {
    if let Some(asked) = bound(target) {
        target.set_addr4(asked.addr[3]);
    }
    ALLOW
}

#[inline(always)]
pub fn own6(target: &Target) -> i32 {
    if let Some(asked) = bound(target) {
        target.set_addr6(&asked.addr);
    }
    ALLOW
}
