//! Whether this network namespace can reach itself: nothing of Sinew works where `lo` is down, as it is
//! in a new namespace.

use std::{
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsRawFd as _,
};

/// What to do about one that is down.
pub const REMEDY: &str = "run: ip link set lo up";

/// Whether `lo` is up; so it is taken to be where the kernel does not tell.
#[must_use]
pub fn is_up() -> bool {
    let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)) else { return true };
    // SAFETY: all-zero is a valid value of this structure of names, numbers and addresses.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (at, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *at = byte as libc::c_char;
    }
    // SAFETY: the kernel reads the name and writes the flags, both inside of `request`.
    let asked = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
    // SAFETY: the flags are what this request answers; any bits are valid.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    asked != 0 || i32::from(flags) & libc::IFF_UP != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_network_namespace_cannot_reach_itself() {
        assert!(is_up());
        let inside = std::thread::spawn(|| {
            // SAFETY: affects the calling thread alone, which ends with this.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
                .unwrap();
            is_up()
        });
        assert!(!inside.join().unwrap());
    }
}
