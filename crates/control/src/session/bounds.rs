//! What a host may say of its endpoints: that they are on it. A certificate says who a host is, and
//! not that it tells the truth, so it is not to have others call what is not its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    net::IpAddr,
};

use sinew_model::{
    ZoneName,
    fleet::{Endpoint, Network, is_hosts_own},
};

use crate::records::{StoredEndpoints, StoredNode};

/// So many instances are named of those that something is said of.
const NAMED: usize = 3;

/// Where endpoints of a host may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds<'a>(&'a StoredNode);

/// Endpoints of a report as they are taken.
#[derive(Debug, Default)]
pub(super) struct Confined {
    /// Those that are.
    pub(super) endpoints: StoredEndpoints,
    /// Those that are not, with the address that is not the host's.
    pub(super) outside: BTreeMap<u32, IpAddr>,
    /// Those that were said to be in another zone than their host.
    elsewhere: BTreeSet<u32>,
}

impl<'a> Bounds<'a> {
    /// Those of a host, as its session began.
    pub(super) const fn of(node: &'a StoredNode) -> Self {
        Self(node)
    }

    /// What may be taken of a host's endpoints.
    pub(super) fn confine(self, endpoints: &StoredEndpoints) -> Confined {
        let mut confined = Confined::default();
        for (instance, endpoint) in endpoints {
            if let Some(address) = self.outside(endpoint) {
                confined.outside.insert(*instance, address);
                continue;
            }
            let mut endpoint = endpoint.clone();
            // Calls stay in a zone, and zones are taken out: it is not a host's word that moves one.
            if endpoint.zone != self.0.zone {
                endpoint.zone.clone_from(&self.0.zone);
                confined.elsewhere.insert(*instance);
            }
            confined.endpoints.insert(*instance, endpoint);
        }
        confined
    }

    /// An address of an endpoint that is not the host's.
    pub(super) fn outside(self, endpoint: &Endpoint) -> Option<IpAddr> {
        let four = endpoint.address4.map(IpAddr::from);
        let all = four.into_iter().chain(endpoint.address6.map(IpAddr::from));
        all.into_iter().find(|address| !self.holds(*address))
    }

    fn holds(self, address: IpAddr) -> bool {
        let own = match address {
            IpAddr::V4(four) => self.0.address4 == Some(four),
            IpAddr::V6(six) => self.0.address6 == Some(six),
        };
        // Who calls everybody's own would meet itself.
        is_hosts_own(address) && (own || self.slices().any(|slice| slice.contains(address)))
    }

    fn slices(self) -> impl Iterator<Item = Network> {
        [self.0.instances4, self.0.instances6].into_iter().flatten()
    }

    fn words(self) -> String {
        let own = [self.0.address4.map(IpAddr::from), self.0.address6.map(IpAddr::from)];
        let own = own.into_iter().flatten().map(|address| address.to_string());
        let all: Vec<_> = own.chain(self.slices().map(|slice| slice.to_string())).collect();
        all.join(", ")
    }
}

impl Confined {
    /// What was not taken as it was said, in words.
    pub(super) fn words(&self, bounds: Bounds<'_>) -> Vec<String> {
        let refused = self.outside.first_key_value().map(|(_, address)| {
            let (some, which) = some_of(self.outside.keys());
            format!(
                "{some} of its endpoints on the host are not taken (instances {which}): an endpoint \
                 is at an address of its host, which has {}, and one of these is at {address}",
                bounds.words()
            )
        });
        let moved = (!self.elsewhere.is_empty()).then(|| {
            let zone: &ZoneName = &bounds.0.zone;
            let (some, which) = some_of(self.elsewhere.iter());
            format!(
                "{some} of its endpoints on the host (instances {which}) are said to be in another \
                 zone: other hosts know them in {zone}, that of their host"
            )
        });
        refused.into_iter().chain(moved).collect()
    }
}

fn some_of<T: Display>(all: impl ExactSizeIterator<Item = T>) -> (usize, String) {
    let number = all.len();
    let named: Vec<String> = all.take(NAMED).map(|one| one.to_string()).collect();
    let more = if number > NAMED { ", …" } else { "" };
    (number, named.join(", ") + more)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use sinew_model::fleet::{EndpointStatus, Resources};

    use super::*;

    fn node() -> StoredNode {
        StoredNode {
            zone: "a".parse().unwrap(),
            labels: [].into(),
            capacity: Resources::default(),
            version: String::new(),
            protocol: 1,
            boot_id: String::new(),
            address4: Some([10, 0, 0, 1].into()),
            address6: None,
            proven4: false,
            proven6: false,
            instances4: Some("10.111.3.0/24".parse().unwrap()),
            instances6: Some("fd00:0:0:3::/64".parse().unwrap()),
            first_seen_ms: 0,
        }
    }

    fn endpoint(four: Option<[u8; 4]>, six: Option<&str>, zone: &str) -> Endpoint {
        Endpoint {
            address4: four.map(Ipv4Addr::from),
            address6: six.map(|six| six.parse::<Ipv6Addr>().unwrap()),
            ports: [].into(),
            zone: zone.parse().unwrap(),
            weight: 256,
            status: EndpointStatus::Up,
        }
    }

    #[test]
    fn endpoints_are_at_addresses_of_their_host() {
        let node = node();
        let bounds = Bounds::of(&node);
        for (four, six, within) in [
            (Some([10, 111, 3, 7]), Some("fd00:0:0:3::7"), true),
            (Some([10, 0, 0, 1]), None, true),
            (Some([10, 111, 4, 7]), None, false),
            (Some([10, 0, 0, 2]), None, false),
            (Some([127, 0, 0, 1]), None, false),
            (None, Some("fd00:0:0:4::7"), false),
            // One of two is enough to lead elsewhere.
            (Some([10, 111, 3, 7]), Some("2001:db8::1"), false),
        ] {
            assert_eq!(bounds.outside(&endpoint(four, six, "a")).is_none(), within, "{four:?}");
        }
        let mut everybody = node.clone();
        everybody.address4 = Some(Ipv4Addr::LOCALHOST);
        let own = endpoint(Some([127, 0, 0, 1]), None, "a");
        assert!(Bounds::of(&everybody).outside(&own).is_some(), "also where it says it is its own");
    }

    #[test]
    fn what_does_not_hold_is_told_and_the_rest_is_taken() {
        let node = node();
        let good = endpoint(Some([10, 111, 3, 7]), None, "a");
        let elsewhere = endpoint(Some([10, 111, 3, 8]), None, "rack-1");
        let all = (1..6).map(|n| (n, endpoint(Some([10, 9, 0, 1]), None, "a")));
        let all = all.chain([(7, good.clone()), (8, elsewhere)]).collect();
        let confined = Bounds::of(&node).confine(&all);
        assert_eq!(confined.endpoints.keys().collect::<Vec<_>>(), [&7, &8]);
        assert_eq!((&confined.endpoints[&7], confined.endpoints[&8].zone.as_str()), (&good, "a"));
        assert_eq!(
            confined.words(Bounds::of(&node)),
            [
                "5 of its endpoints on the host are not taken (instances 1, 2, 3, …): an endpoint is \
                 at an address of its host, which has 10.0.0.1, 10.111.3.0/24, fd00:0:0:3::/64, and \
                 one of these is at 10.9.0.1",
                "1 of its endpoints on the host (instances 8) are said to be in another zone: other \
                 hosts know them in a, that of their host",
            ]
        );
    }
}
