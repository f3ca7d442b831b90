//! What is told of services: the model's types to and from messages.

use std::{collections::BTreeMap, net::Ipv6Addr, time::Duration};

use bytes::Bytes;
use sinew_model::{
    Balance, NodeName, Outlier, PortName, Protocol, ServiceName,
    fleet::{
        Delta, Endpoint, EndpointKey, EndpointStatus, Generation, Removal, ServicePort,
        ServiceRecord, Snapshot, Tombstone,
    },
};

use crate::{
    Subject,
    bounds::MAX_ENDPOINTS,
    read::{Read, address6, count, duration, map, name, number, number_of, one_of, there},
    wire,
};

const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
const STATUSES: [EndpointStatus; 4] = [
    EndpointStatus::Starting,
    EndpointStatus::Up,
    EndpointStatus::Unhealthy,
    EndpointStatus::Draining,
];
const REMOVALS: [Removal; 3] = [Removal::Reported, Removal::NodeDead, Removal::Withdrawn];

/// The bytes of an address; none, when there is none.
pub(crate) fn octets(address: Option<Ipv6Addr>) -> Bytes {
    address.map(|address| Bytes::copy_from_slice(&address.octets())).unwrap_or_default()
}

pub(crate) fn snapshot(from: &Snapshot) -> wire::Snapshot {
    wire::Snapshot {
        service: from.service.to_string(),
        generation: from.generation.0,
        record: from.record.as_ref().map(record),
        endpoints: from.endpoints.iter().map(placed).collect(),
        tombstones: from.tombstones.iter().map(tombstone).collect(),
    }
}

pub(crate) fn read_snapshot(from: wire::Snapshot) -> Read<Snapshot> {
    Ok(Snapshot {
        service: name("service", from.service)?,
        generation: Generation(from.generation),
        record: from.record.map(read_record).transpose()?,
        endpoints: read_endpoints("endpoints", from.endpoints)?,
        tombstones: read_tombstones("tombstones", from.tombstones)?,
    })
}

pub(crate) fn delta(from: &Delta) -> wire::Delta {
    wire::Delta {
        service: from.service.to_string(),
        from: from.from.0,
        to: from.to.0,
        record: from.record.as_ref().map(record),
        put: from.put.iter().map(placed).collect(),
        removed: from.removed.iter().map(tombstone).collect(),
    }
}

pub(crate) fn read_delta(from: wire::Delta) -> Read<Delta> {
    if from.to <= from.from {
        let rule = format!("is later than from, which is {}", from.from);
        return Err(sinew_model::fleet::OutOfBounds::new("to", from.to, rule));
    }
    Ok(Delta {
        service: name("service", from.service)?,
        from: Generation(from.from),
        to: Generation(from.to),
        record: from.record.map(read_record).transpose()?,
        put: read_endpoints("put", from.put)?,
        removed: read_tombstones("removed", from.removed)?,
    })
}

pub(crate) fn record(from: &ServiceRecord) -> wire::ServiceRecord {
    let port = |port: &ServicePort| wire::ServicePort {
        name: port.name.to_string(),
        number: port.number.into(),
        protocol: number_of(&port.protocol, &PROTOCOLS),
    };
    let Outlier { consecutive_failures, base, max, max_ejected_percent } = from.outlier;
    wire::ServiceRecord {
        ports: from.ports.iter().map(port).collect(),
        balance: Some(balance(from.balance)),
        outlier: Some(wire::Outlier {
            consecutive_failures,
            base_ms: ms(base),
            max_ms: ms(max),
            max_ejected_percent: max_ejected_percent.into(),
        }),
    }
}

pub(crate) fn read_record(from: wire::ServiceRecord) -> Read<ServiceRecord> {
    let read = || {
        let outlier = there("outlier", from.outlier)?;
        let record = ServiceRecord {
            ports: crate::read::each("ports", from.ports, read_port)?,
            balance: read_balance(&there("balance", from.balance)?)?,
            outlier: Outlier {
                consecutive_failures: outlier.consecutive_failures,
                base: duration("outlier.base_ms", outlier.base_ms)?,
                max: duration("outlier.max_ms", outlier.max_ms)?,
                max_ejected_percent: number(
                    "outlier.max_ejected_percent",
                    outlier.max_ejected_percent,
                    100,
                )?,
            },
        };
        record.validate().map(|()| record)
    };
    read().map_err(|error| error.within("record"))
}

fn read_port(from: wire::ServicePort) -> Read<ServicePort> {
    Ok(ServicePort {
        name: name("name", from.name)?,
        number: number("number", from.number, u16::MAX)?,
        protocol: one_of("protocol", from.protocol, &PROTOCOLS)?,
    })
}

fn balance(from: Balance) -> wire::Balance {
    let (policy, timeout) = match from {
        Balance::LeastLoad => (1, Duration::ZERO),
        Balance::RoundRobin => (2, Duration::ZERO),
        Balance::Random => (3, Duration::ZERO),
        Balance::Source { timeout } => (4, timeout),
    };
    wire::Balance { policy, timeout_ms: ms(timeout) }
}

fn read_balance(from: &wire::Balance) -> Read<Balance> {
    let timeout = duration("balance.timeout_ms", from.timeout_ms)?;
    let source = Balance::Source { timeout };
    let policies = [Balance::LeastLoad, Balance::RoundRobin, Balance::Random, source];
    one_of("balance.policy", from.policy, &policies)
}

fn placed((key, endpoint): (&EndpointKey, &Endpoint)) -> wire::Endpoint {
    wire::Endpoint { node: key.node.to_string(), ..self::endpoint(key.instance, endpoint) }
}

/// Without its node.
pub(crate) fn endpoint(instance: u32, from: &Endpoint) -> wire::Endpoint {
    let port = |(name, number): (&PortName, &u16)| (name.to_string(), u32::from(*number));
    wire::Endpoint {
        node: String::new(),
        instance,
        address4: from.address4.map(u32::from),
        address6: octets(from.address6),
        ports: from.ports.iter().map(port).collect(),
        zone: from.zone.to_string(),
        weight: from.weight,
        status: number_of(&from.status, &STATUSES),
    }
}

/// Without its node.
pub(crate) fn read_endpoint(from: wire::Endpoint) -> Read<(u32, Endpoint)> {
    let port = |(port, own): (String, u32)| {
        let own = number(&format!("ports.{port}"), own, u16::MAX)?;
        Ok((name::<PortName>("ports", port)?, own))
    };
    count("ports", from.ports.len(), sinew_model::MAX_PORTS)?;
    let endpoint = Endpoint {
        address4: from.address4.map(Into::into),
        address6: address6("address6", &from.address6)?,
        ports: from.ports.into_iter().map(port).collect::<Read<BTreeMap<_, _>>>()?,
        zone: name("zone", from.zone)?,
        weight: from.weight,
        status: one_of("status", from.status, &STATUSES)?,
    };
    endpoint.validate()?;
    Ok((from.instance, endpoint))
}

fn read_endpoints(field: &str, from: Vec<wire::Endpoint>) -> Read<BTreeMap<EndpointKey, Endpoint>> {
    count(field, from.len(), MAX_ENDPOINTS)?;
    map(field, from, |mut from| {
        let node: NodeName = name("node", std::mem::take(&mut from.node))?;
        let (instance, endpoint) = read_endpoint(from)?;
        Ok((EndpointKey { node, instance }, endpoint))
    })
}

fn tombstone((key, tombstone): (&EndpointKey, &Tombstone)) -> wire::Tombstone {
    wire::Tombstone {
        node: key.node.to_string(),
        instance: key.instance,
        generation: tombstone.generation.0,
        removal: number_of(&tombstone.removal, &REMOVALS),
    }
}

fn read_tombstones(
    field: &str,
    from: Vec<wire::Tombstone>,
) -> Read<BTreeMap<EndpointKey, Tombstone>> {
    count(field, from.len(), MAX_ENDPOINTS)?;
    map(field, from, |from| {
        let removal = one_of("removal", from.removal, &REMOVALS)?;
        let key = EndpointKey { node: name("node", from.node)?, instance: from.instance };
        Ok((key, Tombstone { generation: Generation(from.generation), removal }))
    })
}

/// Of what a message is, when the rest of it cannot be read.
pub(crate) fn subject(service: &str, generation: u64) -> Option<Subject> {
    Some(Subject::Service(ServiceName::new(service).ok()?, Generation(generation)))
}

/// Whole milliseconds: what is told.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
