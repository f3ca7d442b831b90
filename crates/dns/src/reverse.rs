//! Reverse names (RFC 1035 section 3.5, RFC 3596 section 2.5) of the network's addresses. All of
//! them are answered here, known or not: they mean nothing to anybody's name server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sinew_abi::address::{Kind, kind4};

/// What a reverse name of the network stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reverse {
    Apex,
    /// A prefix of addresses.
    Inside,
    Address(IpAddr),
    /// Below the apex, but no address.
    Malformed,
}

/// Number of labels of `x.127.in-addr.arpa`, the IPv4 zones' apex.
const APEX4: usize = 4;
/// Number of labels of a /48's apex.
const APEX6: usize = 14;

/// The /48 of an address.
pub(crate) fn network6(address: Ipv6Addr) -> [u8; 6] {
    let [a, b, c, d, e, f, ..] = address.octets();
    [a, b, c, d, e, f]
}

/// What `labels` (lower case) stand for, with the number of labels of their zone's apex; `None`:
/// nothing of the network.
pub(crate) fn find(labels: &[&[u8]], network6: Option<[u8; 6]>) -> Option<(usize, Reverse)> {
    match labels {
        [front @ .., b"in-addr", b"arpa"] => find4(front).map(|r| (APEX4, r)),
        [front @ .., b"ip6", b"arpa"] => find6(front, network6?).map(|r| (APEX6, r)),
        _ => None,
    }
}

fn find4(labels: &[&[u8]]) -> Option<Reverse> {
    let octets: Option<Vec<u8>> = labels.iter().rev().map(|l| octet(l)).collect();
    let head = [octet(labels.last()?)?, octet(labels.iter().nth_back(1)?)?];
    if kind4(u32::from_ne_bytes([head[0], head[1], 0, 0])) == Kind::Other {
        return None;
    }
    Some(match octets.as_deref() {
        Some([_, _]) => Reverse::Apex,
        Some([_, _, _]) => Reverse::Inside,
        Some(&[a, b, c, d]) => Reverse::Address(Ipv4Addr::new(a, b, c, d).into()),
        _ => Reverse::Malformed,
    })
}

fn find6(labels: &[&[u8]], network: [u8; 6]) -> Option<Reverse> {
    let mut nibbles = labels.iter().rev().map(|l| nibble(l));
    for octet in network {
        if nibbles.next()?? != octet >> 4 || nibbles.next()?? != octet & 15 {
            return None;
        }
    }
    let rest: Option<Vec<u8>> = nibbles.collect();
    Some(match rest.as_deref() {
        Some([]) => Reverse::Apex,
        Some(rest) if rest.len() == 20 => {
            let mut octets = [0; 16];
            octets[..6].copy_from_slice(&network);
            for (octet, pair) in octets[6..].iter_mut().zip(rest.chunks_exact(2)) {
                *octet = pair[0] << 4 | pair[1];
            }
            Reverse::Address(Ipv6Addr::from(octets).into())
        }
        Some(rest) if rest.len() < 20 => Reverse::Inside,
        _ => Reverse::Malformed,
    })
}

/// A decimal octet in its one spelling: `01` and `+1` are other names.
fn octet(label: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    let value: u8 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

fn nibble(label: &[u8]) -> Option<u8> {
    match label {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        [letter @ b'a'..=b'f'] => Some(letter - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: [u8; 6] = [0xfd, 0x12, 0x34, 0x56, 0x78, 0x9a];

    fn of(name: &str) -> Option<(usize, Reverse)> {
        find(&name.split('.').map(str::as_bytes).collect::<Vec<_>>(), Some(NETWORK))
    }

    #[test]
    fn v4() {
        let address = |a: [u8; 4]| Some((4, Reverse::Address(Ipv4Addr::from(a).into())));
        assert_eq!(of("1.0.64.127.in-addr.arpa"), address([127, 64, 0, 1]));
        assert_eq!(of("255.255.111.127.in-addr.arpa"), address([127, 111, 255, 255]));
        assert_eq!(of("64.127.in-addr.arpa"), Some((4, Reverse::Apex)));
        assert_eq!(of("7.64.127.in-addr.arpa"), Some((4, Reverse::Inside)));
        for other in ["1.0.0.127.in-addr.arpa", "1.0.112.127.in-addr.arpa", "127.in-addr.arpa"] {
            assert_eq!(of(other), None, "{other}");
        }
        for odd in
            ["01.0.64.127.in-addr.arpa", "5.1.0.64.127.in-addr.arpa", "x.64.127.in-addr.arpa"]
        {
            assert_eq!(of(odd), Some((4, Reverse::Malformed)), "{odd}");
        }
    }

    #[test]
    fn v6() {
        let apex = "a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa";
        let zeros = "0.".repeat(19);
        let address: Ipv6Addr = "fd12:3456:789a::7".parse().unwrap();
        assert_eq!(of(&format!("7.{zeros}{apex}")), Some((14, Reverse::Address(address.into()))));
        assert_eq!(of(apex), Some((14, Reverse::Apex)));
        assert_eq!(of(&format!("0.{apex}")), Some((14, Reverse::Inside)));
        assert_eq!(of(&format!("7.0.{zeros}{apex}")), Some((14, Reverse::Malformed)));
        assert_eq!(of(&format!("zz.{apex}")), Some((14, Reverse::Malformed)));
        assert_eq!(of("9.8.7.6.5.4.3.2.1.d.f.ip6.arpa"), None, "shorter than the network's");
        assert_eq!(of("b.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa"), None);
    }
}
