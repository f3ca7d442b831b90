//! A hash that is the same in all processes and for ever.

use crate::draw::mix;

/// FNV-1a, spread over all 64 bits: for keys of [`Node`](super::Node)s and of calls. Not for keys
/// whose senders must not be able to make them meet.
#[must_use]
pub const fn hash(bytes: &[u8]) -> u64 {
    let (mut hash, mut at) = (0xcbf2_9ce4_8422_2325_u64, 0);
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x100_0000_01b3);
        at += 1;
    }
    mix(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fnv_as_published_and_then_mixed() {
        assert_eq!(hash(b"foobar"), mix(0x8594_4171_f739_67e8));
    }
}
