//! Queries to the host's name servers go to Sinew's resolver while that one shows signs of life;
//! when its heartbeat is stale they pass untouched, and only service names fail to resolve.

use aya_ebpf::programs::SockAddrContext;
use sinew_abi::Config;

use crate::{
    address::{Target, is_mapped, mapped},
    clock,
    count::own,
    maps::{CONFIG, NAME_SERVERS},
    names,
};

/// The settings, when `addr` is a name server of the host and the resolver is alive.
#[inline(always)]
pub fn alive_for(addr: &[u32; 4]) -> Option<&'static Config> {
    NAME_SERVERS.get_ptr(addr)?;
    let config = CONFIG.get(0)?;
    if config.resolver_port == 0 {
        return None;
    }
    let now = clock::now_ns();
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
    names::show(context, mapped(config.resolver4), config.resolver_port, asked, target.port());
    target.set_addr4(config.resolver4);
    target.set_port(config.resolver_port);
    true
}

/// The same for an IPv6 socket, whose name server may be IPv4-mapped.
#[inline(always)]
pub fn take6(context: &SockAddrContext, target: &Target, addr: &[u32; 4]) -> bool {
    let Some(config) = alive_for(addr) else { return false };
    let to = if is_mapped(addr) { mapped(config.resolver4) } else { config.resolver6 };
    names::show(context, to, config.resolver_port, *addr, target.port());
    target.set_addr6(&to);
    target.set_port(config.resolver_port);
    true
}
