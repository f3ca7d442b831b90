//! What a message has to be like to be applied. One fault in it, and nothing of it is: a message
//! that is wrong in one place cannot be trusted in the others.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use sinew_model::fleet::{
    Delta, Endpoint, EndpointKey, Generation, ServiceRecord, Snapshot, Tombstone,
};

/// From this share of a capacity on, somebody is warned.
const WARN_PERCENT: usize = 80;
/// What the kernel's choice can tell apart.
const MAX_WEIGHT: u32 = 65_535;

/// Why a message was refused. The last good state stays in use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The control replica is behind, or its store was restored from an older state.
    #[error(
        "its generation {told} is older than {known}, which is known here: this control replica is behind, or its store was restored from a backup"
    )]
    Older {
        /// Of the message.
        told: Generation,
        /// Known here.
        known: Generation,
    },
    /// A delta that applies to something else.
    #[error("it changes what was known at generation {from}, and here that is {known}")]
    Gap {
        /// What it applies to.
        from: Generation,
        /// What is known; 0: nothing.
        known: Generation,
    },
    /// An endpoint that cannot be.
    #[error("endpoint {key}: {field} {value} is impossible: {why}")]
    Endpoint {
        /// Which.
        key: EndpointKey,
        /// Of what.
        field: &'static str,
        /// What was told.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A record that cannot be.
    #[error("service record: {field} {value} is impossible: {why}")]
    Record {
        /// Of what.
        field: &'static str,
        /// What was told.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A removal of another time than the message.
    #[error("endpoint {key} went at {told}, which is not after {after} and up to {to}")]
    Tombstone {
        /// Which.
        key: EndpointKey,
        /// When it went.
        told: Generation,
        /// The message tells what came after.
        after: Generation,
        /// And not later.
        to: Generation,
    },
    /// There and gone at the same generation.
    #[error("endpoint {key} is told to be there and to be gone")]
    Contradiction {
        /// Which.
        key: EndpointKey,
    },
    /// More than there is room for.
    #[error(
        "it would make {used} {what}, and this host holds at most {holds}: use fewer, or subscribe to fewer services"
    )]
    Full {
        /// Of what.
        what: &'static str,
        /// How many.
        used: usize,
        /// How many there can be.
        holds: usize,
    },
}

/// Whether a snapshot may be applied where `known` is reached already.
pub(super) fn snapshot(snapshot: &Snapshot, known: Generation) -> Result<(), Refused> {
    let told = snapshot.generation;
    if told < known {
        return Err(Refused::Older { told, known });
    }
    snapshot.record.as_ref().map_or(Ok(()), record)?;
    for (key, value) in &snapshot.endpoints {
        endpoint(key, value)?;
    }
    for (key, value) in &snapshot.tombstones {
        within(key, value, Generation(0), told)?;
        if value.generation == told && snapshot.endpoints.contains_key(key) {
            return Err(Refused::Contradiction { key: key.clone() });
        }
    }
    Ok(())
}

/// Whether a delta may be applied to what is `known`, where `floor` was reached once.
pub(super) fn delta(delta: &Delta, known: Generation, floor: Generation) -> Result<(), Refused> {
    if delta.from != known {
        return Err(Refused::Gap { from: delta.from, known });
    }
    if delta.to < floor {
        return Err(Refused::Older { told: delta.to, known: floor });
    }
    delta.record.as_ref().map_or(Ok(()), record)?;
    for (key, value) in &delta.put {
        endpoint(key, value)?;
    }
    for (key, value) in &delta.removed {
        within(key, value, delta.from, delta.to)?;
        if delta.put.contains_key(key) {
            return Err(Refused::Contradiction { key: key.clone() });
        }
    }
    Ok(())
}

/// Whether a declared capacity suffices.
pub(super) fn room(what: &'static str, used: usize, holds: usize) -> Result<(), Refused> {
    if used > holds { Err(Refused::Full { what, used, holds }) } else { Ok(()) }
}

/// Whether somebody should be warned.
pub(super) fn is_nearly_full(used: usize, holds: usize) -> bool {
    used * 100 >= holds * WARN_PERCENT
}

fn within(
    key: &EndpointKey,
    tombstone: &Tombstone,
    after: Generation,
    to: Generation,
) -> Result<(), Refused> {
    let told = tombstone.generation;
    if after < told && told <= to {
        return Ok(());
    }
    Err(Refused::Tombstone { key: key.clone(), told, after, to })
}

fn record(record: &ServiceRecord) -> Result<(), Refused> {
    let refuse = |field, value: String, why| Err(Refused::Record { field, value, why });
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for port in &record.ports {
        if port.number == 0 {
            return refuse("port", format!("{} 0", port.name), "ports are 1 to 65535");
        }
        if !names.insert(&port.name) {
            return refuse("port", port.name.to_string(), "two ports have that name");
        }
        if !numbers.insert((port.number, port.protocol)) {
            return refuse("port", port.number.to_string(), "two ports have that number");
        }
    }
    if record.ports.len() > sinew_model::MAX_PORTS {
        let why = "a service has at most 16 ports";
        return refuse("number of ports", record.ports.len().to_string(), why);
    }
    let percent = record.outlier.max_ejected_percent;
    if percent > 100 {
        return refuse("max_ejected_percent", percent.to_string(), "it is 0 to 100");
    }
    Ok(())
}

fn endpoint(key: &EndpointKey, endpoint: &Endpoint) -> Result<(), Refused> {
    let refuse =
        |field, value: String, why| Err(Refused::Endpoint { key: key.clone(), field, value, why });
    if endpoint.address4.is_none() && endpoint.address6.is_none() {
        return refuse("address", "none".to_owned(), "it has to have one");
    }
    if let Some((address, why)) = endpoint.address4.and_then(|a| Some((a, fault4(a)?))) {
        return refuse("address4", address.to_string(), why);
    }
    if let Some((address, why)) = endpoint.address6.and_then(|a| Some((a, fault6(a)?))) {
        return refuse("address6", address.to_string(), why);
    }
    if let Some((name, _)) = endpoint.ports.iter().find(|(_, number)| **number == 0) {
        return refuse("port", format!("{name} 0"), "ports are 1 to 65535");
    }
    if !(1..=MAX_WEIGHT).contains(&endpoint.weight) {
        return refuse("weight", endpoint.weight.to_string(), "weights are 1 to 65535");
    }
    Ok(())
}

const OWN_LOOPBACK: &str = "it would lead to this host's own loopback";
const NOT_ONE_HOST: &str = "it is not the address of one host";

fn fault4(address: Ipv4Addr) -> Option<&'static str> {
    if address.is_loopback() {
        return Some(OWN_LOOPBACK);
    }
    let many = address.is_unspecified() || address.is_multicast() || address.is_broadcast();
    many.then_some(NOT_ONE_HOST)
}

fn fault6(address: Ipv6Addr) -> Option<&'static str> {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return fault4(mapped).or(Some("an IPv4 address belongs into address4"));
    }
    if address.is_loopback() {
        return Some(OWN_LOOPBACK);
    }
    if address.is_unicast_link_local() {
        return Some("it means something only on its own link");
    }
    (address.is_unspecified() || address.is_multicast()).then_some(NOT_ONE_HOST)
}
