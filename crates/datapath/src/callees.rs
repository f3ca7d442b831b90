//! Other hosts that callers are led to, and what came of trying them in the callers' stead.
//!
//! Callers find out that a host is gone by connects without an answer, each of which fails. Whoever
//! asks hosts for a sign of life finds out sooner, and says so.
//! When the time of a suspicion is over the kernel lets one caller try the host, who pays with his call
//! when it is still away. Whoever tries it himself and says so before that puts it off.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use sinew_abi as abi;

use crate::layout::unmapped;

/// For how long a try without an answer keeps callers away, nanoseconds: time for the next tries,
/// also on a host that is busy.
pub(crate) const PUT_OFF_NS: u64 = 2_000_000_000;

/// Another host with endpoints. Any answer to a connect() is one, a refusal too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Callee {
    /// Its number.
    pub node: u32,
    /// Whether it is under suspicion.
    pub suspect: bool,
    /// Where callers reach an endpoint there.
    pub endpoint: SocketAddr,
    /// Where its kernel answers and no program is bothered.
    pub quiet: Option<SocketAddr>,
}

/// Those hosts, each with the first of its backends that has an address.
pub(crate) fn callees<B: Iterator<Item = abi::Backend>>(
    suspects: &HashSet<u32>,
    quiet: impl Fn(u32) -> Option<SocketAddr>,
    hosts: impl Iterator<Item = (u32, B)>,
) -> Vec<Callee> {
    let callee = |(node, mut backends): (u32, B)| {
        let quiet = quiet(node);
        let six_first = quiet.is_some_and(|at| at.is_ipv6());
        let endpoint = backends.find_map(|backend| endpoint(&backend, six_first))?;
        Some(Callee { node, suspect: suspects.contains(&node), endpoint, quiet })
    };
    hosts.filter_map(callee).collect()
}

/// IPv6 comes first of a host that is reached over nothing else.
fn endpoint(backend: &abi::Backend, six_first: bool) -> Option<SocketAddr> {
    let address = match (backend.addr4, backend.addr6) {
        (0, [0, 0, 0, 0]) => return None,
        (four, words) if words != [0; 4] && (six_first || four == 0) => unmapped(&words),
        (word, _) => IpAddr::V4(Ipv4Addr::from(word.to_ne_bytes())),
    };
    Some(SocketAddr::new(address, u16::from_be(backend.port)))
}

/// What is held against a host after it was tried; `None`: nothing changes.
pub(crate) fn tried(held: &abi::Suspicion, answered: bool, now_ns: u64) -> Option<abi::Suspicion> {
    let put_off_ns = now_ns.saturating_add(PUT_OFF_NS);
    if held.until_ns == 0 {
        (!answered).then_some(abi::Suspicion {
            rounds: held.rounds.saturating_add(1),
            until_ns: put_off_ns,
            suspicions: held.suspicions.saturating_add(1),
            ..*held
        })
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
        let trusted = held(0);
        assert_eq!(tried(&trusted, true, SECOND), None);
        let suspect = abi::Suspicion { rounds: 2, suspicions: 5, ..held(SECOND + PUT_OFF_NS) };
        assert_eq!(tried(&trusted, false, SECOND), Some(suspect));
    }

    #[test]
    fn each_host_is_tried_at_an_address_of_its_own() {
        let backend = |node, addr4: [u8; 4], last6: u8| abi::Backend {
            node,
            addr4: u32::from_ne_bytes(addr4),
            addr6: [0, 0, 0, u32::from_ne_bytes([0, 0, 0, last6])],
            port: 80u16.to_be(),
            ..abi::Backend::ZERO
        };
        let hosts = [
            (5, vec![backend(5, [0; 4], 0), backend(5, [10, 1, 2, 3], 9)]),
            (6, vec![backend(6, [0; 4], 9)]),
            (7, vec![backend(7, [10, 1, 3, 1], 0)]),
        ];
        let read = std::cell::Cell::new(0);
        // There may be many more behind the first.
        let hosts = hosts.into_iter().map(|(node, backends)| {
            let last = *backends.last().unwrap();
            let all = backends.into_iter().chain(std::iter::repeat_n(last, 1000));
            (node, all.inspect(|_| read.set(read.get() + 1)))
        });
        let quiet: SocketAddr = "10.1.2.0:9".parse().unwrap();
        let callee = |node, suspect, at: &str, quiet| Callee {
            node,
            suspect,
            endpoint: at.parse().unwrap(),
            quiet,
        };
        let of = |node| (node == 5).then_some(quiet);
        let found = callees(&[6, 8].into(), of, hosts);
        assert_eq!(
            found,
            [
                callee(5, false, "10.1.2.3:80", Some(quiet)),
                callee(6, true, "[::9]:80", None),
                callee(7, false, "10.1.3.1:80", None),
            ]
        );
        assert_eq!(read.get(), 4, "one of each host, beside what has no address");
    }
}
