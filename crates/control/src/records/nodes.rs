//! What the store keeps of hosts, and of the networks that their instances have addresses of.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};
use sinew_model::{
    NodeName, ZoneName,
    fleet::{Host, Network, Resources},
};

/// A host, as it was when its newest session began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredNode {
    /// Where it is.
    pub zone: ZoneName,
    /// Words that placement goes by.
    pub labels: BTreeMap<String, String>,
    /// What it has to give.
    pub capacity: Resources,
    /// Of Sinew.
    pub version: String,
    /// Of the protocol.
    pub protocol: u32,
    /// Another one after each boot of the host.
    pub boot_id: String,
    /// Its own address, which leads to its instances.
    pub address4: Option<Ipv4Addr>,
    /// The same over IPv6.
    pub address6: Option<Ipv6Addr>,
    /// Whether a session of it came from `address4`, and none of another host later.
    #[serde(default)]
    pub proven4: bool,
    /// The same of `address6`.
    #[serde(default)]
    pub proven6: bool,
    /// Addresses that it gives its instances.
    pub instances4: Option<Network>,
    /// The same of IPv6.
    pub instances6: Option<Network>,
    /// When its first session began; milliseconds since 1970.
    pub first_seen_ms: u64,
}

impl StoredNode {
    /// Whether that is its own address, by what it says.
    #[must_use]
    pub fn says(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(four) => self.address4 == Some(four),
            IpAddr::V6(six) => self.address6 == Some(six),
        }
    }

    /// Whether that is its own address, by where it came from.
    #[must_use]
    pub fn has_proven(&self, address: IpAddr) -> bool {
        let proven = if address.is_ipv4() { self.proven4 } else { self.proven6 };
        proven && self.says(address)
    }

    /// As the others know it.
    #[must_use]
    pub fn host(&self) -> Host {
        Host {
            zone: self.zone.clone(),
            address4: self.address4,
            address6: self.address6,
            proven4: self.proven4,
            proven6: self.proven6,
            instances4: self.instances4,
            instances6: self.instances6,
        }
    }
}

/// Who has a slice of the instance networks. One that was given once stays here, so that nobody takes
/// it before those who knew its host have forgotten it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StoredSlice {
    /// A host.
    Given(NodeName),
    /// Nobody any more.
    Free {
        /// The host that had it.
        last: NodeName,
        /// Since when it has not; milliseconds since 1970.
        since_ms: u64,
    },
}

/// The networks that all hosts give their instances addresses of, and how long the prefixes of their
/// slices are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredNetworks {
    /// Of IPv4.
    pub instances4: Network,
    /// Of a host's slice of it.
    pub slice4: u8,
    /// Of IPv6.
    pub instances6: Network,
    /// Of a host's slice of it.
    pub slice6: u8,
}

/// Why hosts cannot have slices of a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworksError {
    /// Of the wrong family.
    #[error("{0} is no network of IPv4: give one as 10.111.0.0/16")]
    Family(Network),
    /// For a host or two.
    #[error(
        "{network} has room for too few hosts: each takes a /{SLICE4}, so give a network of at most /{LONGEST4}"
    )]
    Small {
        /// The network.
        network: Network,
    },
    /// Not for instances.
    #[error(
        "{0} is no network that hosts can have addresses of: give one that nobody else uses, as 10.111.0.0/16"
    )]
    Reserved(Network),
}

const SLICE4: u8 = 24;
const LONGEST4: u8 = 22;
const SLICE6: u8 = 64;

impl StoredNetworks {
    /// The networks of a new fleet. `random`: for a unique local network, as RFC 4193 has it.
    ///
    /// # Errors
    /// When hosts could not have slices of `instances4`.
    pub fn new(instances4: Network, random: [u8; 5]) -> Result<Self, NetworksError> {
        let IpAddr::V4(first) = instances4.address() else {
            return Err(NetworksError::Family(instances4));
        };
        if instances4.prefix_length() > LONGEST4 {
            return Err(NetworksError::Small { network: instances4 });
        }
        let reserved = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"];
        let overlaps =
            |text: &str| text.parse::<Network>().is_ok_and(|it| it.overlaps(&instances4));
        if first.is_unspecified() || reserved.into_iter().any(overlaps) {
            return Err(NetworksError::Reserved(instances4));
        }
        let [a, b, c, d, e] = random.map(u16::from);
        let address = Ipv6Addr::new(0xfd00 | a, b << 8 | c, d << 8 | e, 0, 0, 0, 0, 0);
        // 48 bits, and none behind them.
        let instances6 = Network::new(address.into(), 48);
        let instances6 = instances6.map_err(|_| NetworksError::Reserved(instances4))?;
        Ok(Self { instances4, slice4: SLICE4, instances6, slice6: SLICE6 })
    }

    /// The slices of that number; `None`: there are not so many.
    #[must_use]
    pub fn slices(&self, index: u32) -> Option<(Network, Network)> {
        let four = self.instances4.part(self.slice4, index.into())?;
        Some((four, self.instances6.part(self.slice6, index.into())?))
    }

    /// How many slices there are.
    #[must_use]
    pub fn number(&self) -> u64 {
        let bits = |network: &Network, slice: u8| slice.saturating_sub(network.prefix_length());
        let bits = bits(&self.instances4, self.slice4).min(bits(&self.instances6, self.slice6));
        1u64.checked_shl(bits.into()).unwrap_or(u64::MAX)
    }

    /// Which of them an address is one of.
    #[must_use]
    pub fn holding(&self, address: IpAddr) -> Option<Network> {
        [self.instances4, self.instances6].into_iter().find(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn slices_are_parts_of_both_networks() {
        let networks = StoredNetworks::new(network("10.111.0.0/16"), [1, 2, 3, 4, 5]).unwrap();
        assert_eq!(networks.instances6, network("fd01:203:405::/48"));
        let (four, six) = networks.slices(3).unwrap();
        assert_eq!((four, six), (network("10.111.3.0/24"), network("fd01:203:405:3::/64")));
        assert_eq!((networks.number(), networks.slices(256)), (256, None));
        assert_eq!(networks.holding(four.nth(7).unwrap()), Some(networks.instances4));
        assert_eq!(networks.holding("10.112.0.1".parse().unwrap()), None);
    }

    #[test]
    fn what_was_stored_before_proves_nothing() {
        let stored = r#"{"zone":"a","labels":{},"capacity":{"cpu_millis":1,"memory_bytes":1},"version":"0.1.0","protocol":1,
            "boot_id":"b","address4":"10.0.0.1","address6":null,"instances4":null,
            "instances6":null,"first_seen_ms":1}"#;
        let stored: StoredNode = serde_json::from_str(stored).unwrap();
        let address = "10.0.0.1".parse().unwrap();
        assert!(stored.says(address) && !stored.has_proven(address));
        assert_eq!(stored.host().proven().count(), 0);
    }

    #[test]
    fn networks_of_no_use_are_refused() {
        let refused =
            |text: &str| StoredNetworks::new(network(text), [0; 5]).unwrap_err().to_string();
        assert!(refused("10.111.0.0/23").contains("each takes a /24"));
        assert!(refused("fd00::/48").contains("no network of IPv4"));
        for text in ["127.0.0.0/8", "224.0.0.0/8", "0.0.0.0/0", "126.0.0.0/7"] {
            assert!(refused(text).contains("nobody else uses"), "{text}");
        }
    }
}
