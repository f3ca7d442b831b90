//! Queries to the host's name servers go to Sinew's resolver while that one shows signs of life;
//! when its heartbeat is stale they pass untouched, and only service names fail to resolve.

use aya_ebpf::{helpers::generated::bpf_ktime_get_coarse_ns, programs::SockAddrContext};
use sinew_abi::Config;

use crate::{
    address::{Target, mapped},
    connect::record_name,
    count::own,
    maps::{CONFIG, NAME_SERVERS},
};

/// The settings, when `addr` is a name server of the host and the resolver is alive.
#[inline(always)]
pub fn alive_for(addr: &[u32; 4]) -> Option<&'static Config> {
    NAME_SERVERS.get_ptr(addr)?;
    let config = CONFIG.get(0)?;
    if config.resolver_port == 0 {
        return None;
    }
    // SAFETY: no arguments. Coarse time is cheap and the heartbeat is coarser.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    if now > config.heartbeat_ns && now - config.heartbeat_ns > config.heartbeat_max_age_ns {
        own(|c| c.queries_bypassed += 1);
        return None;
    }
    own(|c| c.queries += 1);
    Some(config)
}

/// Redirects a connect() to a name server.
#[inline(always)]
pub fn take4(context: &SockAddrContext, target: &Target, addr: u32) -> bool {
    let asked = mapped(addr);
    let Some(config) = alive_for(&asked) else { return false };
    if config.resolver4 == 0 {
        return false;
    }
    record_name(context, target, asked);
    target.set_addr4(config.resolver4);
    target.set_port(config.resolver_port);
    true
}

/// The same for an IPv6 socket, whose name server may be IPv4-mapped.
#[inline(always)]
pub fn take6(context: &SockAddrContext, target: &Target, addr: &[u32; 4]) -> bool {
    let Some(config) = alive_for(addr) else { return false };
    record_name(context, target, *addr);
    if crate::address::is_mapped(addr) {
        target.set_addr6(&mapped(config.resolver4));
    } else {
        target.set_addr6(&config.resolver6);
    }
    target.set_port(config.resolver_port);
    true
}
