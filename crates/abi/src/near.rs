//! Where copies of entries lie that are found by arithmetic. A search in a hash costs two calls and
//! two cold cache lines more.

use crate::{ServiceKey4, capacity};

const _: () =
    assert!(capacity::NEAR_SERVICES.is_power_of_two() && capacity::NEAR_CALLERS.is_power_of_two());

/// Place of a [`crate::NearService`].
#[inline(always)]
pub const fn service4(key: &ServiceKey4) -> u32 {
    let word = key.addr.swap_bytes() as u64 | (key.port as u64) << 32 | (key.protocol as u64) << 48;
    // Multiplicative hashing: D. Knuth, "The Art of Computer Programming", volume 3, section 6.4.
    let spread = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (spread >> (64 - capacity::NEAR_SERVICES.ilog2())) as u32
}

/// Place of a [`crate::NearCaller`]: ids are given out in order, so their low bits seldom meet.
#[inline(always)]
pub const fn caller(cgroup: u64) -> u32 {
    cgroup as u32 & (capacity::NEAR_CALLERS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_a_row_seldom_meet() {
        extern crate std;
        let key = |n: u32| ServiceKey4 {
            addr: u32::from_le_bytes([127, 64, (n >> 8) as u8, n as u8]),
            port: 8000_u16.to_be(),
            protocol: 6,
        };
        let places: std::collections::HashSet<u32> = (0..2000).map(|n| service4(&key(n))).collect();
        assert!(places.len() > 1900, "{}", places.len());
    }
}
