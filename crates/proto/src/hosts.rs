//! What is told of hosts and zones.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use bytes::Bytes;
use sinew_model::{
    NodeName, ZoneName,
    fleet::{Generation, Host, Network, OutOfBounds},
};

use crate::{
    bounds, convert,
    read::{Read, address, address6, count, map, name, names, number},
    wire,
};

/// The hosts of the network, or how they changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// It applies to what is known at this generation; `None`: to nothing, and `put` is all.
    pub from: Option<Generation>,
    /// What is known afterwards is of this one.
    pub to: Generation,
    /// Those that came or changed.
    pub put: BTreeMap<NodeName, Host>,
    /// Those that went.
    pub removed: BTreeSet<NodeName>,
}

/// All zones that get less than their share of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zones {
    /// Of the newest change.
    pub generation: Generation,
    /// What they get of their share, in percent; 0: evacuated.
    pub limited: BTreeMap<ZoneName, u8>,
}

impl Hosts {
    pub(crate) fn to_wire(&self) -> wire::Hosts {
        wire::Hosts {
            from: self.from.map(|generation| generation.0),
            to: self.to.0,
            put: self.put.iter().map(|(node, it)| host(node, it)).collect(),
            removed: self.removed.iter().map(ToString::to_string).collect(),
        }
    }

    pub(crate) fn read(from: wire::Hosts) -> Read<Self> {
        count("put", from.put.len(), bounds::MAX_HOSTS)?;
        let put = map("put", from.put, read_host)?;
        let removed: BTreeSet<NodeName> =
            names("removed", from.removed, bounds::MAX_HOSTS)?.into_iter().collect();
        if let Some(both) = removed.iter().find(|node| put.contains_key(*node)) {
            return Err(OutOfBounds::new("removed", both, "is not put as well"));
        }
        Ok(Self { from: from.from.map(Generation), to: Generation(from.to), put, removed })
    }
}

impl Zones {
    pub(crate) fn to_wire(&self) -> wire::Zones {
        let zone = |(zone, percent): (&ZoneName, &u8)| wire::Zone {
            zone: zone.to_string(),
            percent: (*percent).into(),
        };
        let limited = self.limited.iter().map(zone).collect();
        wire::Zones { generation: self.generation.0, limited }
    }

    pub(crate) fn read(from: wire::Zones) -> Read<Self> {
        count("limited", from.limited.len(), bounds::MAX_ZONES)?;
        let limited = map("limited", from.limited, |zone| {
            let percent = number("percent", zone.percent, 100)?;
            if percent > 100 {
                return Err(OutOfBounds::new("percent", percent, "is at most 100"));
            }
            Ok((name("zone", zone.zone)?, percent))
        })?;
        Ok(Self { generation: Generation(from.generation), limited })
    }
}

fn host(node: &NodeName, host: &Host) -> wire::Host {
    wire::Host {
        node: node.to_string(),
        zone: host.zone.to_string(),
        address4: host.address4.map(u32::from),
        address6: convert::octets(host.address6),
        instances4: host.instances4.map(network),
        instances6: host.instances6.map(network),
        proven4: host.proven4,
        proven6: host.proven6,
    }
}

fn read_host(from: wire::Host) -> Read<(NodeName, Host)> {
    let host = Host {
        zone: name("zone", from.zone)?,
        address4: from.address4.map(Into::into),
        address6: address6("address6", &from.address6)?,
        instances4: read_network("instances4", from.instances4, 32)?,
        instances6: read_network("instances6", from.instances6, 128)?,
        proven4: from.proven4,
        proven6: from.proven6,
    };
    Ok((name("node", from.node)?, host))
}

pub(crate) fn network(network: Network) -> wire::Network {
    let address = match network.address() {
        IpAddr::V4(address) => Bytes::copy_from_slice(&address.octets()),
        IpAddr::V6(address) => Bytes::copy_from_slice(&address.octets()),
    };
    wire::Network { address, prefix_length: network.prefix_length().into() }
}

/// Of the family whose addresses have `bits`.
pub(crate) fn read_network(
    field: &str,
    from: Option<wire::Network>,
    bits: u8,
) -> Read<Option<Network>> {
    let read = |from: wire::Network| {
        let address = address("address", &from.address)?;
        if address.is_ipv4() != (bits == 32) {
            let rule = format!("has {} bytes", bits / 8);
            return Err(OutOfBounds::new("address", address, rule));
        }
        Network::new(address, from.prefix_length).map_err(|error| {
            let value = format!("{address}/{}", from.prefix_length);
            OutOfBounds::new("prefix_length", value, error.to_string())
        })
    };
    from.map(read).transpose().map_err(|error: OutOfBounds| error.within(field))
}
