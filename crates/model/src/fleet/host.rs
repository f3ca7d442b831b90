//! Hosts of the network, and the addresses that they give their instances.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::ZoneName;

/// A host, as the others know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Where it is.
    pub zone: ZoneName,
    /// Its own address, which leads to its instances over IPv4.
    pub address4: Option<Ipv4Addr>,
    /// The same over IPv6.
    pub address6: Option<Ipv6Addr>,
    /// Whether it was seen to come from `address4`: who says so may be wrong, or lie.
    #[serde(default)]
    pub proven4: bool,
    /// The same of `address6`.
    #[serde(default)]
    pub proven6: bool,
    /// Addresses that it gives its instances.
    pub instances4: Option<Network>,
    /// The same of IPv6.
    pub instances6: Option<Network>,
}

/// A slice of a network, written as `10.111.3.0/24`. No bit behind the prefix is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    prefix_length: u8,
}

/// Why something is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not of the form address/length.
    #[error("{0:?} is no network: write an address, a slash and a length, as in 10.111.0.0/16")]
    Form(String),
    /// Longer than an address.
    #[error("the prefix length {length} of {address} is more than {}", bits(*address))]
    Length {
        /// The address.
        address: IpAddr,
        /// The length.
        length: u32,
    },
    /// Bits behind the prefix.
    #[error("{address}/{length} has bits behind its prefix: did you mean {}/{length}?", masked(*address, *length))]
    Bits {
        /// The address.
        address: IpAddr,
        /// The length.
        length: u8,
    },
}

impl Host {
    /// Its own addresses that it was seen to come from.
    pub fn proven(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let four = self.address4.filter(|_| self.proven4).map(IpAddr::from);
        let six = self.address6.filter(|_| self.proven6).map(IpAddr::from);
        four.into_iter().chain(six)
    }
}

impl Network {
    /// The network of the first `length` bits of `address`.
    ///
    /// # Errors
    /// When there are not so many, or others are set.
    pub fn new(address: IpAddr, length: u32) -> Result<Self, NetworkError> {
        let fits = u8::try_from(length).ok().filter(|length| *length <= bits(address));
        let prefix_length = fits.ok_or(NetworkError::Length { address, length })?;
        if masked(address, prefix_length) != address {
            return Err(NetworkError::Bits { address, length: prefix_length });
        }
        Ok(Self { address, prefix_length })
    }

    /// Its first address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits that all its addresses have in common.
    #[must_use]
    pub const fn prefix_length(&self) -> u8 {
        self.prefix_length
    }

    /// Whether the address is one of it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && masked(address, self.prefix_length) == self.address
    }

    /// Whether some address is of both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// Bits of an address that tell those of it apart.
    #[must_use]
    pub const fn host_bits(&self) -> u8 {
        bits(self.address) - self.prefix_length
    }

    /// Its part number `index` of those that have `length` bits in common; `None` when there are not
    /// so many.
    #[must_use]
    pub fn part(&self, length: u8, index: u64) -> Option<Self> {
        let more = length.checked_sub(self.prefix_length)?;
        if length > bits(self.address) || (more < 64 && index >> more != 0) {
            return None;
        }
        let shift = bits(self.address) - length;
        let offset = u128::from(index).checked_shl(shift.into()).unwrap_or(0);
        Some(Self { address: added(self.address, offset), prefix_length: length })
    }

    /// Its address number `index`, from 0; `None` when there are not so many.
    #[must_use]
    pub fn nth(&self, index: u64) -> Option<IpAddr> {
        self.part(bits(self.address), index).map(|part| part.address)
    }
}

const fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Ipv4Addr::from(u32::from(four) & mask).into()
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            Ipv6Addr::from(u128::from(six) & mask).into()
        }
    }
}

fn added(address: IpAddr, offset: u128) -> IpAddr {
    match address {
        // Its bits lie behind the prefix of a network of IPv4, so they are no more than 32.
        IpAddr::V4(four) => Ipv4Addr::from(u32::from(four) | offset as u32).into(),
        IpAddr::V6(six) => Ipv6Addr::from(u128::from(six) | offset).into(),
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || NetworkError::Form(text.to_owned());
        let (address, length) = text.split_once('/').ok_or_else(form)?;
        let address = address.parse().map_err(|_| form())?;
        Self::new(address, length.parse().map_err(|_| form())?)
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn networks_are_read_as_they_are_written() {
        for text in ["10.111.0.0/16", "0.0.0.0/0", "10.0.0.1/32", "fd00::/8", "::/0", "fd00::1/128"]
        {
            assert_eq!(network(text).to_string(), text);
        }
        for (text, told) in [
            (
                "10.0.0.0",
                "\"10.0.0.0\" is no network: write an address, a slash and a length, as in 10.111.0.0/16",
            ),
            ("10.0.0.0/33", "the prefix length 33 of 10.0.0.0 is more than 32"),
            ("10.0.0.1/24", "10.0.0.1/24 has bits behind its prefix: did you mean 10.0.0.0/24?"),
            ("fd00::1/64", "fd00::1/64 has bits behind its prefix: did you mean fd00::/64?"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap_err().to_string(), told);
        }
    }

    #[test]
    fn parts_and_addresses_lie_inside_and_end() {
        let whole = network("10.111.0.0/16");
        assert_eq!(whole.part(24, 0), Some(network("10.111.0.0/24")));
        assert_eq!(whole.part(24, 255), Some(network("10.111.255.0/24")));
        assert_eq!((whole.part(24, 256), whole.part(8, 0), whole.part(33, 0)), (None, None, None));
        assert_eq!(
            network("0.0.0.0/0").part(32, u32::MAX.into()).unwrap().to_string(),
            "255.255.255.255/32"
        );
        assert_eq!(whole.nth(258), Some("10.111.1.2".parse().unwrap()));
        assert_eq!(whole.nth(1 << 16), None);
        let six = network("fd01:203:405::/48");
        assert_eq!(six.part(64, 7), Some(network("fd01:203:405:7::/64")));
        assert_eq!(six.part(64, 1 << 16), None);
        assert_eq!(six.nth(u64::MAX), Some("fd01:203:405:0:ffff:ffff:ffff:ffff".parse().unwrap()));
    }

    #[test]
    fn networks_that_share_an_address_overlap() {
        let (whole, part) = (network("10.111.0.0/16"), network("10.111.7.0/24"));
        assert!(whole.overlaps(&part) && part.overlaps(&whole) && whole.overlaps(&whole));
        assert!(!part.overlaps(&network("10.111.8.0/24")) && !part.overlaps(&network("::/0")));
        assert!(network("0.0.0.0/0").overlaps(&part));
        assert!(part.contains("10.111.7.255".parse().unwrap()));
        assert!(!part.contains("10.111.8.0".parse().unwrap()));
        assert!(!network("::/0").contains("10.111.8.0".parse().unwrap()));
    }
}
