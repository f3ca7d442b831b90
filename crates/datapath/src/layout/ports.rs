//! A service port in the terms of the maps.

use sinew_abi as abi;
use sinew_model::{Balance, Outlier};

use super::{addr4, addr6};
use crate::wanted::{Backend, ServicePort};

/// How long a probe of an ejected backend may take before the next caller tries.
const PROBE_NS: u64 = 1_000_000_000;

pub(super) fn outlier(rule: &Outlier) -> abi::Outlier {
    abi::Outlier {
        consecutive_failures: rule.consecutive_failures,
        max_ejected_percent: rule.max_ejected_percent.into(),
        base_ns: nanos(rule.base),
        max_ns: nanos(rule.max),
        probe_ns: PROBE_NS,
    }
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Policy and affinity time-out.
pub(super) fn balance(port: &ServicePort) -> (u32, u64) {
    match port.balance {
        Balance::LeastLoad => (abi::balance::LEAST_LOAD, 0),
        Balance::RoundRobin => (abi::balance::ROUND_ROBIN, 0),
        Balance::Random => (abi::balance::RANDOM, 0),
        Balance::Source { timeout } => (abi::balance::LEAST_LOAD, nanos(timeout)),
    }
}

/// A stride near the golden section of `len`, so that a walk spreads, and coprime to it, so that
/// it visits every slot. Any length will do: no padding makes one backend likelier than another.
pub(super) fn stride(len: u32) -> u32 {
    let near = u32::try_from(u64::from(len) * 618 / 1000).unwrap_or(1).max(1);
    (near..=len).find(|step| gcd(*step, len) == 1).unwrap_or(1)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A backend's entry, but for its generation.
pub(super) fn entry(backend: &Backend, index: u32, generation: u32) -> abi::Backend {
    let mut flags = 0;
    if backend.local {
        flags |= abi::backend_flags::LOCAL;
    }
    if backend.address4.is_some() {
        flags |= abi::backend_flags::V4;
    }
    if backend.address6.is_some() {
        flags |= abi::backend_flags::V6;
    }
    if backend.wildcard.v4 {
        flags |= abi::backend_flags::WILDCARD4;
    }
    if backend.wildcard.v6 {
        flags |= abi::backend_flags::WILDCARD6;
    }
    if backend.in_choice {
        flags |= abi::backend_flags::CHOSEN;
    }
    abi::Backend {
        key: backend.key,
        addr4: backend.address4.map_or(0, addr4),
        port: backend.port.to_be(),
        flags,
        addr6: backend.address6.map_or([0; 4], addr6),
        weight: backend.weight.clamp(1, 65_535),
        node: backend.node,
        generation,
        index,
    }
}
