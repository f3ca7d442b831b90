//! Hosts under suspicion, and what came of trying them in the callers' stead.
//!
//! When the time of a suspicion is over the kernel lets one caller try the host, who pays with his
//! call when it is still away. Whoever tries it himself and says so before that puts it off.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use sinew_abi as abi;

use crate::layout::unmapped;

/// For how long a try without an answer keeps callers away, nanoseconds: time for the next tries,
/// also on a host that is busy.
pub(crate) const PUT_OFF_NS: u64 = 2_000_000_000;

/// A host under suspicion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Its number.
    pub node: u32,
    /// Where callers reach an endpoint there. Any answer is one, a refused connect too.
    pub endpoint: SocketAddr,
}

/// The suspects among the hosts of those backends, each with the first of its endpoints.
pub(crate) fn with_endpoints(
    mut nodes: HashSet<u32>,
    backends: impl Iterator<Item = abi::Backend>,
) -> Vec<Suspect> {
    let mut found = Vec::new();
    for backend in backends {
        if nodes.is_empty() {
            break;
        }
        if nodes.contains(&backend.node)
            && let Some(endpoint) = endpoint(&backend)
        {
            nodes.remove(&backend.node);
            found.push(Suspect { node: backend.node, endpoint });
        }
    }
    found
}

fn endpoint(backend: &abi::Backend) -> Option<SocketAddr> {
    let address = match (backend.addr4, backend.addr6) {
        (0, [0, 0, 0, 0]) => return None,
        (0, words) => unmapped(&words),
        (word, _) => IpAddr::V4(Ipv4Addr::from(word.to_ne_bytes())),
    };
    Some(SocketAddr::new(address, u16::from_be(backend.port)))
}

/// What is held against a host after it was tried; `None`: nothing changes.
pub(crate) fn tried(held: &abi::Suspicion, answered: bool, now_ns: u64) -> Option<abi::Suspicion> {
    let put_off_ns = now_ns.saturating_add(PUT_OFF_NS);
    if held.until_ns == 0 {
        None
    } else if answered {
        Some(abi::Suspicion { suspicions: held.suspicions, ..abi::Suspicion::ZERO })
    } else {
        (held.until_ns < put_off_ns).then_some(abi::Suspicion { until_ns: put_off_ns, ..*held })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn held(until_ns: u64) -> abi::Suspicion {
        abi::Suspicion { unanswered: 3, rounds: 1, until_ns, probe_ns: 7, suspicions: 4 }
    }

    #[test]
    fn an_answer_ends_a_suspicion_and_silence_puts_callers_off() {
        let cleared = abi::Suspicion { suspicions: 4, ..abi::Suspicion::ZERO };
        assert_eq!(tried(&held(SECOND), true, 2 * SECOND), Some(cleared));
        let put_off = tried(&held(SECOND), false, 2 * SECOND).unwrap();
        assert_eq!(put_off, held(2 * SECOND + PUT_OFF_NS));
        assert_eq!(tried(&held(9 * SECOND), false, 2 * SECOND), None, "it lasts longer anyway");
        let trusted = abi::Suspicion { until_ns: 0, ..held(0) };
        assert_eq!(tried(&trusted, false, SECOND), None, "somebody heard of it meanwhile");
        assert_eq!(tried(&trusted, true, SECOND), None);
    }

    #[test]
    fn each_suspect_is_tried_at_an_address_of_its_own() {
        let backend = |node, addr4: [u8; 4], last6: u8| abi::Backend {
            node,
            addr4: u32::from_ne_bytes(addr4),
            addr6: [0, 0, 0, u32::from_ne_bytes([0, 0, 0, last6])],
            port: 80u16.to_be(),
            ..abi::Backend::ZERO
        };
        let backends = [
            backend(0, [127, 80, 0, 1], 0),
            backend(5, [0; 4], 0),
            backend(5, [10, 1, 2, 3], 9),
            backend(5, [10, 1, 2, 4], 9),
            backend(6, [0; 4], 9),
            backend(7, [10, 1, 3, 1], 0),
        ];
        let suspect = |node, at: &str| Suspect { node, endpoint: at.parse().unwrap() };
        let found = with_endpoints([5, 6, 8].into(), backends.into_iter());
        assert_eq!(found, [suspect(5, "10.1.2.3:80"), suspect(6, "[::9]:80")]);
    }
}
