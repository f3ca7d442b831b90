//! What the maps hold of the network's hosts: whose an address is, and who may come under suspicion.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
};

use sinew_abi::{self as abi, host};
use sinew_model::fleet::Network;

use crate::{
    Error, Fleet, Peer,
    layout::{addr6, mapped, unmapped},
    maps::Maps,
};

/// Bits in front of an IPv4 address in a record.
const MAPPED_BITS: u32 = 96;

/// The hosts in the maps.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    prefixes: HashMap<abi::HostPrefix, abi::HostAddress>,
    nodes: HashSet<u32>,
    /// Where each can be asked for a sign of life.
    quiet: HashMap<u32, SocketAddr>,
}

impl Hosts {
    /// Reads back what an earlier process wrote.
    pub(crate) fn read(maps: &Maps) -> Result<Self, Error> {
        let zero = (abi::HostPrefix::ZERO, abi::HostAddress::ZERO);
        Ok(Self {
            prefixes: maps.hosts.list(zero)?.into_iter().collect(),
            nodes: maps.nodes.keys(0)?.into_iter().collect(),
            quiet: HashMap::new(),
        })
    }

    /// Slices of this host.
    pub(crate) fn own_slices(&self) -> BTreeSet<Network> {
        self.of_kind(host::OWN).collect()
    }

    /// Slices of this and other hosts, to which routes may lead.
    pub(crate) fn slices(&self) -> BTreeSet<Network> {
        self.of_kind(host::OWN).chain(self.of_kind(host::SLICE)).collect()
    }

    fn of_kind(&self, kind: u32) -> impl Iterator<Item = Network> {
        let all = self.prefixes.iter().filter(move |(_, address)| address.kind == kind);
        all.filter_map(|(prefix, _)| network(prefix))
    }

    /// Refuses, before anything is changed, what the maps cannot hold or what contradicts itself.
    pub(crate) fn check(fleet: &Fleet) -> Result<(), Error> {
        for four in [true, false] {
            let of_family = |n: &&Network| n.address().is_ipv4() == four;
            if let [first, second, ..] =
                fleet.slices.iter().filter(of_family).collect::<Vec<_>>()[..]
            {
                let what = format!("this host has two slices of one family: {first} and {second}");
                return Err(Error::Invalid { what });
            }
        }
        let full =
            |map, capacity, wanted: usize| Error::Hosts { map, capacity, wanted: wanted as u64 };
        let prefixes = prefixes(fleet).len();
        if prefixes > abi::capacity::HOSTS as usize {
            return Err(full("the table of hosts' addresses", abi::capacity::HOSTS, prefixes));
        }
        if fleet.peers.len() > abi::capacity::NODES as usize {
            return Err(full("the table of hosts", abi::capacity::NODES, fleet.peers.len()));
        }
        Ok(())
    }

    /// Makes the maps hold these hosts and no others.
    pub(crate) fn set(&mut self, maps: &mut Maps, fleet: Option<&Fleet>) -> Result<(), Error> {
        let alone = Fleet::default();
        let fleet = fleet.unwrap_or(&alone);
        let wanted = prefixes(fleet);
        for (prefix, address) in &wanted {
            if self.prefixes.get(prefix) != Some(address) {
                maps.hosts.put(prefix, address)?;
                self.prefixes.insert(*prefix, *address);
            }
        }
        let nodes: HashSet<u32> = fleet.peers.values().map(|peer| peer.number).collect();
        for node in &nodes {
            if !self.nodes.contains(node) {
                maps.nodes.put(node, &abi::Suspicion::ZERO)?;
                self.nodes.insert(*node);
            }
        }
        announce(maps, &summary(fleet));
        for prefix in self.prefixes.keys().filter(|prefix| !wanted.contains_key(prefix)) {
            maps.hosts.remove(prefix)?;
        }
        self.prefixes = wanted;
        for node in self.nodes.difference(&nodes) {
            maps.nodes.remove(node)?;
        }
        self.nodes = nodes;
        let quiet = |peer: &Arc<Peer>| {
            let mut reached = peer.slices.iter();
            let slice = reached.find(|it| peer.address_like(it.address()).is_some())?;
            Some((peer.number, SocketAddr::new(slice.address(), host::QUIET_PORT)))
        };
        self.quiet = fleet.peers.values().filter_map(quiet).collect();
        Ok(())
    }

    /// Whether there are no others.
    pub(crate) fn is_alone(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Where the kernel of a host answers and no program does.
    pub(crate) fn quiet(&self, node: u32) -> Option<SocketAddr> {
        self.quiet.get(&node).copied()
    }
}

/// What the programs look at first. Its masks are cleared first and set last.
fn announce(maps: &mut Maps, fleet: &abi::Fleet) {
    if maps.fleet.get(0).as_ref() == Some(fleet) {
        return;
    }
    let Some(place) = maps.fleet.place(0) else {
        maps.fleet.set(0, fleet);
        return;
    };
    let none = [0; 4];
    // SAFETY: a place inside the mapping; in this order for every CPU.
    unsafe {
        (&raw mut (*place).mask4).write_volatile(0);
        (&raw mut (*place).mask6).write_volatile(none);
        (&raw mut (*place).slice_mask4).write_volatile(0);
        (&raw mut (*place).slice_mask6).write_volatile(none);
        fence(Ordering::SeqCst);
        (&raw mut (*place).network4).write_volatile(fleet.network4);
        (&raw mut (*place).network6).write_volatile(fleet.network6);
        (&raw mut (*place).slice4).write_volatile(fleet.slice4);
        (&raw mut (*place).slice6).write_volatile(fleet.slice6);
        fence(Ordering::SeqCst);
        (&raw mut (*place).mask4).write_volatile(fleet.mask4);
        (&raw mut (*place).mask6).write_volatile(fleet.mask6);
        (&raw mut (*place).slice_mask4).write_volatile(fleet.slice_mask4);
        (&raw mut (*place).slice_mask6).write_volatile(fleet.slice_mask6);
    }
}

fn summary(fleet: &Fleet) -> abi::Fleet {
    let of = |networks: &[Network], four: bool| {
        let ours = networks.iter().filter(|n| n.address().is_ipv4() == four).copied();
        ours.reduce(common).map_or(([0; 4], [0; 4]), |network| {
            let mask = mask(&prefix(&network));
            (mapped(network.address()), mask)
        })
    };
    let (network4, mask4) = of(&fleet.networks, true);
    let (network6, mask6) = of(&fleet.networks, false);
    let (slice4, slice_mask4) = of(&fleet.slices, true);
    let (slice6, slice_mask6) = of(&fleet.slices, false);
    abi::Fleet {
        network6,
        mask6,
        slice6,
        slice_mask6,
        network4: network4[3],
        mask4: mask4[3],
        slice4: slice4[3],
        slice_mask4: slice_mask4[3],
    }
}

/// The smallest network that both lie in.
fn common(one: Network, other: Network) -> Network {
    let mut length = u32::from(one.prefix_length().min(other.prefix_length()));
    loop {
        let whole = |network: Network| Network::new(first(network.address(), length), length).ok();
        match (whole(one), whole(other)) {
            (Some(a), Some(b)) if a == b => return a,
            _ if length == 0 => return one,
            _ => length -= 1,
        }
    }
}

/// The address with nothing behind its first bits.
fn first(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(four) => {
            Ipv4Addr::from(u32::from(four) & u32::MAX.checked_shl(32 - bits).unwrap_or(0)).into()
        }
        IpAddr::V6(six) => {
            Ipv6Addr::from(u128::from(six) & u128::MAX.checked_shl(128 - bits).unwrap_or(0)).into()
        }
    }
}

/// Everything that a packet is told by.
fn prefixes(fleet: &Fleet) -> HashMap<abi::HostPrefix, abi::HostAddress> {
    let mut all = HashMap::new();
    let mut add = |network: Network, kind, node| {
        all.insert(prefix(&network), abi::HostAddress { kind, node });
    };
    for network in &fleet.networks {
        add(*network, host::NETWORK, 0);
    }
    for peer in fleet.peers.values() {
        let own = [peer.address4.map(IpAddr::V4), peer.address6.map(IpAddr::V6)];
        for address in own.into_iter().flatten() {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            if let Ok(single) = Network::new(address, bits) {
                add(single, host::ADDRESS, peer.number);
            }
        }
        for slice in &peer.slices {
            add(*slice, host::SLICE, peer.number);
        }
    }
    // This host last: what it calls its own is.
    for slice in &fleet.slices {
        add(*slice, host::OWN, 0);
        let loopback: IpAddr = match slice.address() {
            IpAddr::V4(_) => Ipv4Addr::new(127, 0, 0, 0).into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let bits = if loopback.is_ipv4() { 8 } else { 128 };
        if let Ok(loopback) = Network::new(loopback, bits) {
            add(loopback, host::ADDRESS, 0);
        }
    }
    all
}

fn prefix(network: &Network) -> abi::HostPrefix {
    let ahead = if network.address().is_ipv4() { MAPPED_BITS } else { 0 };
    abi::HostPrefix {
        bits: ahead + u32::from(network.prefix_length()),
        addr: mapped(network.address()),
    }
}

fn network(prefix: &abi::HostPrefix) -> Option<Network> {
    let address = unmapped(&prefix.addr);
    let ahead = if address.is_ipv4() { MAPPED_BITS } else { 0 };
    Network::new(address, prefix.bits.checked_sub(ahead)?).ok()
}

/// The bits of a record that a prefix tells.
fn mask(prefix: &abi::HostPrefix) -> [u32; 4] {
    let bits = u128::MAX.checked_shl(128 - prefix.bits).unwrap_or(0);
    addr6(Ipv6Addr::from(bits))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::Peer;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn fleet() -> Fleet {
        let peer = Peer {
            number: 7,
            address4: Some("192.168.1.2".parse().unwrap()),
            address6: Some("fd77::2".parse().unwrap()),
            proven: Vec::new(),
            slices: networks(&["10.111.2.0/24", "fd01::2:0:0:0:0/64"]),
        };
        Fleet {
            networks: networks(&["10.111.0.0/16", "fd01::/48"]),
            slices: networks(&["10.111.1.0/24", "fd01:0:0:1::/64"]),
            peers: [("b".parse().unwrap(), Arc::new(peer))].into(),
        }
    }

    #[test]
    fn prefixes_say_whose_an_address_is() {
        let all = prefixes(&fleet());
        let kind = |text: &str| {
            let network: Network = text.parse().unwrap();
            all.get(&prefix(&network)).map(|address| (address.kind, address.node))
        };
        assert_eq!(kind("10.111.0.0/16"), Some((host::NETWORK, 0)));
        assert_eq!(kind("10.111.1.0/24"), Some((host::OWN, 0)));
        assert_eq!(kind("10.111.2.0/24"), Some((host::SLICE, 7)));
        assert_eq!(kind("192.168.1.2/32"), Some((host::ADDRESS, 7)));
        assert_eq!(kind("fd77::2/128"), Some((host::ADDRESS, 7)));
        assert_eq!(kind("127.0.0.0/8"), Some((host::ADDRESS, 0)));
        assert_eq!(all.len(), 10);
        let read: BTreeSet<Network> = all.keys().map(|prefix| network(prefix).unwrap()).collect();
        assert_eq!(read.len(), 10, "and can be read back");
    }

    #[test]
    fn there_is_room_for_all_addresses_of_as_many_hosts_as_there_may_be() {
        let parts: [Network; 2] = ["10.0.0.0/8".parse().unwrap(), "fd01::/48".parse().unwrap()];
        let slices = |n: u32| {
            [parts[0].part(24, n.into()).unwrap(), parts[1].part(64, n.into()).unwrap()].to_vec()
        };
        let peer = |number: u32| {
            let peer = Peer {
                number,
                address4: Some((0xc0a8_0000 + number).into()),
                address6: Some((0xfd77u128 << 112 | u128::from(number)).into()),
                slices: slices(number),
                ..Peer::default()
            };
            (format!("n{number}").parse().unwrap(), Arc::new(peer))
        };
        let peers = (1..=abi::capacity::NODES).map(peer).collect();
        let fleet = Fleet { networks: parts.to_vec(), slices: slices(0), peers };
        assert_eq!(prefixes(&fleet).len(), abi::capacity::HOSTS as usize);
        Hosts::check(&fleet).unwrap();
    }

    #[test]
    fn a_host_that_is_alone_has_masks_of_zeros() {
        assert_eq!(summary(&Fleet::default()), abi::Fleet::ZERO);
        let summary = summary(&fleet());
        assert_eq!(summary.mask4.to_ne_bytes(), [255, 255, 0, 0]);
        assert_eq!(summary.network4.to_ne_bytes(), [10, 111, 0, 0]);
        assert_eq!(summary.slice_mask4.to_ne_bytes(), [255, 255, 255, 0]);
        assert_eq!(summary.slice_mask6, [u32::MAX, u32::MAX, 0, 0]);
    }

    #[test]
    fn more_hosts_than_there_is_room_for_are_told_as_others() {
        let peer = |number: u32| {
            let name = format!("n{number}").parse().unwrap();
            (name, Arc::new(Peer { number, ..Peer::default() }))
        };
        let fleet = |hosts| Fleet { peers: (1..=hosts).map(peer).collect(), ..Fleet::default() };
        Hosts::check(&fleet(abi::capacity::NODES)).unwrap();
        let error = Hosts::check(&fleet(abi::capacity::NODES + 1)).unwrap_err();
        assert!(error.is_of_others(), "{error}");
        assert!(error.to_string().contains("holds 4096 entries and 4097 are wanted"), "{error}");
    }

    #[test]
    fn two_slices_of_a_family_are_refused() {
        let mut fleet = fleet();
        Hosts::check(&fleet).unwrap();
        fleet.slices.push("10.111.9.0/24".parse().unwrap());
        let error = Hosts::check(&fleet).unwrap_err().to_string();
        assert!(error.contains("10.111.1.0/24 and 10.111.9.0/24"), "{error}");
    }

    proptest! {
        #[test]
        fn what_networks_have_in_common_holds_both(a: u32, b: u32, x in 0u32..=32, y in 0u32..=32) {
            let network = |address, length| {
                Network::new(first(IpAddr::V4(Ipv4Addr::from(address)), length), length).unwrap()
            };
            let (one, other) = (network(a, x), network(b, y));
            let both = common(one, other);
            prop_assert!(both.contains(one.address()) && both.contains(other.address()));
            prop_assert!(both.prefix_length() <= x.min(y) as u8);
        }
    }
}
