//! Which number, and so which addresses, a name gets. The number is derived from the name, so that
//! a name keeps its addresses even when the agent's state is lost; collisions move on to the next.

use std::net::{Ipv4Addr, Ipv6Addr};

use sinew_abi::address;

/// The first 48 bits of the IPv6 network of a host.
pub(crate) type Network6 = [u8; 6];

/// Numbers below this are kept for the agent itself: 127.80.0.1 is its resolver.
const FIRST_INSTANCE: u32 = 256;

/// The resolver's address.
pub(crate) const RESOLVER4: Ipv4Addr = Ipv4Addr::new(127, address::INSTANCES4, 0, 1);

/// The IPv4 address of service `number`.
pub(crate) fn service4(number: u32) -> Ipv4Addr {
    ipv4(address::SERVICES4, number)
}

/// The IPv6 address of service `number`.
pub(crate) fn service6(network: Network6, number: u32) -> Ipv6Addr {
    ipv6(network, address::SERVICES6, number)
}

/// The IPv4 address of instance `number`.
pub(crate) fn instance4(number: u32) -> Ipv4Addr {
    ipv4(address::INSTANCES4, number)
}

/// The IPv6 address of instance `number`.
pub(crate) fn instance6(network: Network6, number: u32) -> Ipv6Addr {
    ipv6(network, address::INSTANCES6, number)
}

/// A number for a service called `name` that is not `taken`; `None` when all are.
pub(crate) fn service_number(name: &str, taken: impl Fn(u32) -> bool) -> Option<u32> {
    pick(name, 1, taken)
}

/// A number for an instance called `name` that is not `taken`; `None` when all are.
pub(crate) fn instance_number(name: &str, taken: impl Fn(u32) -> bool) -> Option<u32> {
    pick(name, FIRST_INSTANCE, taken)
}

fn pick(name: &str, first: u32, taken: impl Fn(u32) -> bool) -> Option<u32> {
    let span = address::RANGE4 - first;
    let start = (hash(name) % u64::from(span)) as u32;
    (0..span).map(|step| first + (start + step) % span).find(|n| usable(*n) && !taken(*n))
}

/// Endings that look like a network's or a broadcast address are skipped: some programs refuse them.
fn usable(number: u32) -> bool {
    !matches!(number & 0xff, 0 | 0xff)
}

/// FNV-1a: the same in every version of Sinew, which the standard library's hash does not promise.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn ipv4(second: u8, number: u32) -> Ipv4Addr {
    Ipv4Addr::from((127 << 24 | u32::from(second) << 16) + number)
}

fn ipv6(network: Network6, subnet: u16, number: u32) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets[..6].copy_from_slice(&network);
    octets[6..8].copy_from_slice(&subnet.to_be_bytes());
    octets[12..].copy_from_slice(&number.to_be_bytes());
    Ipv6Addr::from(octets)
}

/// A number for a zone's name; never 0, which means none.
pub(crate) fn zone_number(name: &str) -> u32 {
    (hash(name) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn addresses_lie_in_their_ranges() {
        let network = [0xfd, 1, 2, 3, 4, 5];
        assert_eq!(service4(1), Ipv4Addr::new(127, 64, 0, 1));
        assert_eq!(service4(address::RANGE4 - 2), Ipv4Addr::new(127, 79, 255, 254));
        assert_eq!(instance4(258), Ipv4Addr::new(127, 80, 1, 2));
        assert_eq!(service6(network, 258), "fd01:203:405::102".parse::<Ipv6Addr>().unwrap());
        assert_eq!(instance6(network, 1 << 16), "fd01:203:405:1::1:0".parse::<Ipv6Addr>().unwrap());
    }

    #[test]
    fn numbers_are_distinct_usable_and_stable() {
        let mut taken = BTreeSet::new();
        for index in 0..5_000 {
            let name = format!("s{index}");
            let number = instance_number(&name, |n| taken.contains(&n)).unwrap();
            assert!(usable(number) && (FIRST_INSTANCE..address::RANGE4).contains(&number));
            assert!(taken.insert(number), "{number} given twice");
        }
        assert_eq!(service_number("orders", |_| false), service_number("orders", |_| false));
        let first = service_number("orders", |_| false).unwrap();
        assert_ne!(service_number("orders", |n| n == first), Some(first));
    }

    #[test]
    fn a_full_range_has_no_number() {
        assert_eq!(pick("x", address::RANGE4 - 300, |_| true), None);
    }
}
