//! The address of the other family that lies beside one of this host's.

use std::net::IpAddr;

use super::message::{Address, addresses_in_full};
use crate::{
    Error,
    netlink::{Connection, Family},
};

/// Where this host is reached over IPv6, when `address` is its address of IPv4, or the other way
/// around: the first lasting one of the same interface. `None`: there is none, or the address is not
/// this host's, or its own alone.
///
/// # Errors
/// When the kernel refuses.
pub fn beside(address: IpAddr) -> Result<Option<IpAddr>, Error> {
    let mut netlink =
        Connection::open(Family::Route).map_err(|e| Error::system("open a netlink socket", e))?;
    Ok(find(&addresses_in_full(&mut netlink)?, address))
}

fn find(all: &[Address], address: IpAddr) -> Option<IpAddr> {
    // Instances have addresses on the loopback interface, which are nobody else's to call.
    let own = all.iter().find(|own| own.address == address && !address.is_loopback())?;
    let other = |other: &&Address| {
        other.index == own.index && other.is_lasting && other.address.is_ipv4() != address.is_ipv4()
    };
    all.iter().find(other).map(|other| other.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_lasting_one_of_the_same_interface() {
        let all = [
            ("127.0.0.1", 1, true),
            ("fd00::80", 1, true),
            ("10.0.0.7", 2, true),
            ("192.168.0.7", 3, true),
            ("2001:db8::1", 2, false),
            ("fd64::7", 3, true),
            ("2001:db8::7", 2, true),
            ("2001:db8::8", 2, true),
        ]
        .map(|(address, index, is_lasting)| Address {
            address: address.parse().unwrap(),
            index,
            is_lasting,
        });
        let beside = |address: &str| find(&all, address.parse().unwrap()).map(|it| it.to_string());
        assert_eq!(beside("10.0.0.7").as_deref(), Some("2001:db8::7"));
        assert_eq!(beside("192.168.0.7").as_deref(), Some("fd64::7"));
        assert_eq!(beside("fd64::7").as_deref(), Some("192.168.0.7"));
        assert_eq!(beside("2001:db8::1").as_deref(), Some("10.0.0.7"), "it connects from that one");
        assert_eq!(beside("127.0.0.1"), None);
        assert_eq!(beside("10.0.0.8"), None);
    }
}
