//! Callers that are no members: programs of the host, below a cgroup that an option names. They
//! call services and names; everything else they do is left alone, their own localhost too.
//!
//! Members and adopted programs below such a cgroup have programs of their own, which run first: for
//! them nothing is done here. These look at the destination before anything else, since every
//! connect() of the host runs them.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_current_cgroup_id, bpf_get_netns_cookie},
    programs::SockAddrContext,
};
use sinew_abi::address::{self, Kind};

use crate::{
    address::{DNS, Target, is_mapped},
    connect::{self, ALLOW},
    datagram, identity,
    maps::{CONFIG, REACH},
    resolver,
};

/// Whether the caller is one of the host. A container has the cgroup but not the network, where the
/// addresses of instances and resolver would be its own; the resolver's own queries must get out.
#[inline(always)]
fn applies(context: &SockAddrContext) -> bool {
    let Some(reach) = REACH.get(0) else { return false };
    // SAFETY: the context of the running program, in process context.
    let (network, cgroup) =
        unsafe { (bpf_get_netns_cookie(context.as_ptr()), bpf_get_current_cgroup_id()) };
    network == reach.network && cgroup != reach.resolver && identity::current().is_none()
}

#[inline(always)]
fn is_service6(addr: &[u32; 4]) -> bool {
    CONFIG.get(0).and_then(|config| address::subnet6(addr, &config.prefix6))
        == Some(address::SERVICES6)
}

#[inline(always)]
pub fn connect4(context: &SockAddrContext, target: &Target) -> i32 {
    let (addr, port) = (target.addr4(), target.port());
    let service = address::kind4(addr) == Kind::Service;
    if !(service || port == DNS) || !applies(context) {
        return ALLOW;
    }
    if service {
        return connect::call4(context, target, addr, port);
    }
    resolver::take4(context, target, addr);
    ALLOW
}

#[inline(always)]
pub fn connect6(context: &SockAddrContext, target: &Target) -> i32 {
    let (addr, port) = (target.addr6(), target.port());
    let mapped = is_mapped(&addr);
    let service =
        if mapped { address::kind4(addr[3]) == Kind::Service } else { is_service6(&addr) };
    if !(service || port == DNS) || !applies(context) {
        return ALLOW;
    }
    if service {
        return connect::call6(context, target, addr, port, mapped);
    }
    resolver::take6(context, target, &addr);
    ALLOW
}

#[inline(always)]
pub fn sendmsg4(context: &SockAddrContext, target: &Target) -> i32 {
    let (addr, port) = (target.addr4(), target.port());
    let service = address::kind4(addr) == Kind::Service;
    if !(service || port == DNS) || !applies(context) {
        return ALLOW;
    }
    if service {
        return datagram::call4(context, target, None, addr, port);
    }
    resolver::take4(context, target, addr);
    ALLOW
}

#[inline(always)]
pub fn sendmsg6(context: &SockAddrContext, target: &Target) -> i32 {
    let (addr, port) = (target.addr6(), target.port());
    // IPv4-mapped destinations of an IPv6 socket come through the IPv4 hook.
    let service = is_service6(&addr);
    if !(service || port == DNS) || !applies(context) {
        return ALLOW;
    }
    if service {
        return datagram::call6(context, target, None, addr, port);
    }
    resolver::take6(context, target, &addr);
    ALLOW
}
