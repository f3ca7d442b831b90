//! The kernel's randomness, where an exact distribution does not matter.

use rustix::rand::{GetRandomFlags, getrandom};

use crate::alloc::Network6;

fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Early in boot it may fail; what is asked for here does not have to be secret.
    if getrandom(&mut bytes, GetRandomFlags::empty()).is_err() {
        let clock = crate::bus::now_ms().to_ne_bytes();
        bytes.iter_mut().zip(clock.iter().cycle()).for_each(|(byte, tick)| *byte = *tick);
    }
    bytes
}

/// From 0 up to 1.
pub(crate) fn unit() -> f64 {
    f64::from(u32::from_ne_bytes(bytes())) / f64::from(u32::MAX)
}

/// Any number.
pub(crate) fn number() -> u64 {
    u64::from_ne_bytes(bytes())
}

/// A unique local network, as RFC 4193 has it.
pub(crate) fn network6() -> Network6 {
    let mut network: Network6 = bytes();
    network[0] = 0xfd;
    network
}
