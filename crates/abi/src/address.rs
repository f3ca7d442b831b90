//! The address plan. Everything lives inside 127.0.0.0/8 and one generated IPv6 /48, so that
//! nothing of it can leave the host.
//!
//! | range | holds |
//! |---|---|
//! | 127.64.0.0/12 | services: exist only inside connect(); an `unreachable` route keeps others out |
//! | 127.80.0.0/12 | instances |
//! | 127.96.0.0/12 | an instance's private loopback: its address plus 16 in the second octet |
//! | prefix:0::/64 | services |
//! | prefix:1::/64 | instances |
//! | prefix:2::/64 | private loopbacks |

/// Second octet of the first service address.
pub const SERVICES4: u8 = 64;
/// Second octet of the first instance address.
pub const INSTANCES4: u8 = 80;
/// Second octet of the first private loopback.
pub const LOOPBACKS4: u8 = 96;
/// Addresses in each IPv4 range.
pub const RANGE4: u32 = 1 << 20;

/// What an IPv4 address is in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Not of the plan.
    Other,
    /// A service's address.
    Service,
    /// An instance's address.
    Instance,
    /// An instance's private loopback.
    Loopback,
}

/// Sorts an IPv4 address, in network byte order as read from memory (little-endian hosts).
#[inline(always)]
pub const fn kind4(addr: u32) -> Kind {
    if addr & 0xff != 127 {
        return Kind::Other;
    }
    match (addr >> 8) as u8 & 0xf0 {
        SERVICES4 => Kind::Service,
        INSTANCES4 => Kind::Instance,
        LOOPBACKS4 => Kind::Loopback,
        _ => Kind::Other,
    }
}

/// The private loopback of the instance with this address.
#[inline(always)]
pub const fn loopback4(instance: u32) -> u32 {
    instance + (16 << 8)
}

/// The subnet number (fourth 16-bit group) of an address inside the /48 `prefix`, or `None`.
#[inline(always)]
pub const fn subnet6(addr: &[u32; 4], prefix: &[u32; 2]) -> Option<u16> {
    if addr[0] != prefix[0] || (addr[1] & 0xffff) != (prefix[1] & 0xffff) || prefix[0] == 0 {
        return None;
    }
    Some(((addr[1] >> 16) as u16).swap_bytes())
}

/// Number of the subnet of services.
pub const SERVICES6: u16 = 0;
/// Number of the subnet of instances.
pub const INSTANCES6: u16 = 1;
/// Number of the subnet of private loopbacks.
pub const LOOPBACKS6: u16 = 2;

/// The private IPv6 loopback of the instance with this address.
#[inline(always)]
pub const fn loopback6(instance: &[u32; 4]) -> [u32; 4] {
    [
        instance[0],
        (instance[1] & 0xffff) | ((LOOPBACKS6.swap_bytes() as u32) << 16),
        instance[2],
        instance[3],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn v4(a: u8, b: u8, c: u8, d: u8) -> u32 {
        u32::from_ne_bytes([a, b, c, d])
    }

    fn v6(octets: [u8; 16]) -> [u32; 4] {
        core::array::from_fn(|i| {
            u32::from_ne_bytes([
                octets[i * 4],
                octets[i * 4 + 1],
                octets[i * 4 + 2],
                octets[i * 4 + 3],
            ])
        })
    }

    #[test]
    fn ranges() {
        assert_eq!(kind4(v4(127, 0, 0, 1)), Kind::Other);
        assert_eq!(kind4(v4(127, 64, 0, 1)), Kind::Service);
        assert_eq!(kind4(v4(127, 79, 255, 255)), Kind::Service);
        assert_eq!(kind4(v4(127, 80, 0, 0)), Kind::Instance);
        assert_eq!(kind4(v4(127, 111, 0, 1)), Kind::Loopback);
        assert_eq!(kind4(v4(10, 64, 0, 1)), Kind::Other);
        assert_eq!(loopback4(v4(127, 80, 3, 9)), v4(127, 96, 3, 9));
    }

    #[test]
    fn subnets() {
        let prefix = [0xfd, 0x12, 0x34, 0x56, 0x78, 0x9a];
        let mut octets = [0; 16];
        octets[..6].copy_from_slice(&prefix);
        let base = v6(octets);
        octets[7] = 1;
        octets[15] = 7;
        let instance = v6(octets);
        let prefix = [base[0], base[1]];
        assert_eq!(subnet6(&instance, &prefix), Some(INSTANCES6));
        assert_eq!(subnet6(&loopback6(&instance), &prefix), Some(LOOPBACKS6));
        assert_eq!(subnet6(&base, &prefix), Some(SERVICES6));
        assert_eq!(subnet6(&[0; 4], &prefix), None);
        assert_eq!(subnet6(&[0; 4], &[0; 2]), None, "no network configured");
    }
}
