//! What the heart of the agent is told of other hosts.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use sinew_api::WorkloadState;
use sinew_datapath as datapath;
use sinew_model::{
    Balance, NodeName, Outlier, Port, Protocol, ServiceName, ZoneName,
    fleet::{EndpointKey, EndpointStatus, Host, Network, ServiceRecord},
};

use sinew_proto::Assigned;

use super::mirror;
use crate::alloc;

/// Something that is known now.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// Where this host is, and which others there are.
    Around(Arc<Around>),
    /// The names of all services.
    Names(Arc<BTreeSet<ServiceName>>),
    /// What other hosts run of these; `None`: nothing is known any more.
    Services(Vec<(ServiceName, Option<Arc<Remote>>)>),
    /// The host is dead.
    Dead(NodeName),
    /// All that control has this host run.
    Assigned(Arc<Assigned>),
}

/// This host among the others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Around {
    /// Its name.
    pub(crate) node: NodeName,
    /// Where it is.
    pub(crate) zone: ZoneName,
    /// Its own addresses, as others reach it.
    pub(crate) own: Vec<IpAddr>,
    /// As the data path takes it.
    pub(crate) fleet: datapath::Fleet,
    /// What zones get of their share of calls, in percent, where that is less than all.
    pub(crate) limited: BTreeMap<ZoneName, u8>,
}

impl Around {
    /// This host's slice of a family.
    pub(crate) fn slice(&self, is_ipv4: bool) -> Option<&Network> {
        self.fleet.slices.iter().find(|slice| slice.address().is_ipv4() == is_ipv4)
    }
}

/// What other hosts run of a service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Remote {
    /// Ports that callers may use.
    pub(crate) ports: Vec<Port>,
    pub(crate) balance: Balance,
    pub(crate) outlier: Outlier,
    /// So many are out that this is doubted.
    pub(crate) panic: bool,
    pub(crate) endpoints: Vec<RemoteEndpoint>,
}

/// An endpoint on another host.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RemoteEndpoint {
    pub(crate) key: EndpointKey,
    pub(crate) address4: Option<Ipv4Addr>,
    pub(crate) address6: Option<Ipv6Addr>,
    /// Its own number of each port of the service, in their order.
    pub(crate) numbers: Vec<u16>,
    pub(crate) zone: ZoneName,
    pub(crate) weight: u32,
    pub(crate) status: EndpointStatus,
    pub(crate) in_choice: bool,
}

impl Remote {
    /// What the mirror knows; `None` without a record: nothing can be routed then.
    pub(super) fn of(known: mirror::Remote<'_>) -> Option<Self> {
        let ServiceRecord { ports, balance, outlier } = known.record?;
        let endpoint = |backend: mirror::Backend<'_>| RemoteEndpoint {
            key: backend.key.clone(),
            address4: backend.endpoint.address4,
            address6: backend.endpoint.address6,
            numbers: ports.iter().map(|port| backend.endpoint.port(port)).collect(),
            zone: backend.endpoint.zone.clone(),
            weight: backend.endpoint.weight,
            status: backend.endpoint.status,
            in_choice: backend.in_choice,
        };
        let port = |port: &sinew_model::fleet::ServicePort| Port {
            name: port.name.clone(),
            number: port.number,
            protocol: port.protocol,
        };
        Some(Self {
            ports: ports.iter().map(port).collect(),
            balance: *balance,
            outlier: *outlier,
            panic: known.panic,
            endpoints: known.backends().map(endpoint).collect(),
        })
    }

    /// Which of its ports it is; their order is that of [`RemoteEndpoint::numbers`].
    pub(crate) fn position(&self, number: u16, protocol: Protocol) -> Option<usize> {
        self.ports.iter().position(|port| port.number == number && port.protocol == protocol)
    }
}

impl RemoteEndpoint {
    /// What people call it, among the instances of a service.
    pub(crate) fn workload(&self, service: &ServiceName) -> String {
        format!("{service}/{}@{}", self.key.instance, self.key.node)
    }

    /// One of its addresses.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address4.map(IpAddr::V4).or(self.address6.map(IpAddr::V6))
    }

    /// How it is, as its host tells.
    pub(crate) fn state(&self) -> WorkloadState {
        match self.status {
            EndpointStatus::Starting => WorkloadState::Starting,
            EndpointStatus::Up => WorkloadState::Up,
            EndpointStatus::Unhealthy => WorkloadState::Unhealthy,
            EndpointStatus::Draining => WorkloadState::Draining,
        }
    }

    /// The key of one of its ports among all backends: the same for ever, and none of this host's.
    pub(crate) fn backend_key(
        &self,
        service: &ServiceName,
        number: u16,
        protocol: Protocol,
    ) -> u64 {
        const REMOTE: u64 = 1 << 63;
        alloc::hash(&format!("{service} {} {protocol}/{number}", self.key)) | REMOTE
    }
}

/// The number of a host; never 0, which is this one.
pub(crate) fn node_number(node: &NodeName) -> u32 {
    (alloc::hash(node.as_str()) as u32).max(1)
}

/// As the data path knows another host.
pub(super) fn peer(node: &NodeName, host: &Host) -> datapath::Peer {
    datapath::Peer {
        number: node_number(node),
        address4: host.address4,
        address6: host.address6,
        proven: host.proven().collect(),
        slices: [host.instances4, host.instances6].into_iter().flatten().collect(),
    }
}

/// The smallest network of each family that holds all of `slices`.
pub(super) fn covering(slices: &[Network]) -> Vec<Network> {
    [true, false]
        .into_iter()
        .filter_map(|is_ipv4| {
            let of_family = |slice: &&Network| slice.address().is_ipv4() == is_ipv4;
            let mut of_family = slices.iter().filter(of_family).copied();
            let first = of_family.next()?;
            of_family.try_fold(first, |all, slice| {
                (0..=all.prefix_length()).rev().find_map(|length| {
                    let wider = prefix(all.address(), length)?;
                    (wider.contains(slice.address()) && length <= slice.prefix_length())
                        .then_some(wider)
                })
            })
        })
        .collect()
}

/// The network of the first `length` bits of an address.
fn prefix(address: IpAddr, length: u8) -> Option<Network> {
    let masked = match address {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::from(Ipv4Addr::from(u32::from(four) & mask))
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::from(Ipv6Addr::from(u128::from(six) & mask))
        }
    };
    Network::new(masked, length.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_covering_network_is_the_smallest() {
        let cover = |texts: &[&str]| covering(&networks(texts));
        assert_eq!(cover(&[]), []);
        assert_eq!(cover(&["10.111.3.0/24"]), networks(&["10.111.3.0/24"]));
        let all = ["10.111.3.0/24", "fd01::/64", "10.111.0.0/24", "fd01:0:0:2::/64"];
        assert_eq!(cover(&all), networks(&["10.111.0.0/22", "fd01::/62"]));
        assert_eq!(cover(&["10.0.0.0/24", "10.0.0.0/16"]), networks(&["10.0.0.0/16"]));
        assert_eq!(cover(&["10.0.0.0/8", "192.0.2.0/24"]), networks(&["0.0.0.0/0"]));
    }

    #[test]
    fn what_a_host_only_says_is_its_own_is_reached_there_and_never_closed() {
        let host = Host {
            zone: "a".parse().unwrap(),
            address4: Some([10, 0, 0, 9].into()),
            address6: Some("fd77::2".parse().unwrap()),
            proven4: false,
            proven6: true,
            instances4: None,
            instances6: None,
        };
        let peer = peer(&"b".parse().unwrap(), &host);
        assert_eq!(peer.address4, host.address4);
        assert_eq!(peer.proven, ["fd77::2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn keys_of_remote_ports_are_apart() {
        let endpoint = |node: &str, instance| RemoteEndpoint {
            key: EndpointKey { node: node.parse().unwrap(), instance },
            address4: None,
            address6: None,
            numbers: Vec::new(),
            zone: "a".parse().unwrap(),
            weight: 256,
            status: EndpointStatus::Up,
            in_choice: true,
        };
        let (web, api) = ("web".parse().unwrap(), "api".parse().unwrap());
        let keys: BTreeSet<u64> = [
            endpoint("b", 1).backend_key(&web, 80, Protocol::Tcp),
            endpoint("b", 1).backend_key(&web, 80, Protocol::Udp),
            endpoint("b", 1).backend_key(&web, 81, Protocol::Tcp),
            endpoint("b", 2).backend_key(&web, 80, Protocol::Tcp),
            endpoint("c", 1).backend_key(&web, 80, Protocol::Tcp),
            endpoint("b", 1).backend_key(&api, 80, Protocol::Tcp),
        ]
        .into();
        assert_eq!(keys.len(), 6);
        assert!(keys.iter().all(|key| crate::core::instance_of(*key) == 0));
    }
}
