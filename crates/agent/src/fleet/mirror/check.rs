//! What a message has to be like to be applied. One fault in it, and nothing of it is: a message
//! that is wrong in one place cannot be trusted in the others.

use std::net::{Ipv4Addr, Ipv6Addr};

use sinew_model::fleet::{
    Delta, Endpoint, EndpointKey, Generation, OutOfBounds, ServiceRecord, Snapshot, Tombstone,
};

/// From this share of a capacity on, somebody is warned.
const WARN_PERCENT: usize = 80;

/// Why a message was refused. The last good state stays in use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is no message of the protocol.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
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
    #[error("endpoint {key}: {fault}")]
    Endpoint {
        /// Which.
        key: EndpointKey,
        /// What is wrong with it.
        fault: OutOfBounds,
    },
    /// A record that cannot be.
    #[error("service record: {0}")]
    Record(#[from] OutOfBounds),
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
    Ok(record.validate()?)
}

fn endpoint(key: &EndpointKey, endpoint: &Endpoint) -> Result<(), Refused> {
    let checked = endpoint.validate().and_then(|()| is_elsewhere(endpoint));
    checked.map_err(|fault| Refused::Endpoint { key: key.clone(), fault })
}

/// An address of another host leads there from this one.
fn is_elsewhere(endpoint: &Endpoint) -> Result<(), OutOfBounds> {
    let here = |address: Ipv4Addr| address.is_loopback();
    if let Some(address) = endpoint.address4.filter(|address| here(*address)) {
        return Err(OutOfBounds::new("address4", address, LEADS_NOWHERE));
    }
    let here = |address: Ipv6Addr| {
        let mapped = address.to_ipv4_mapped().is_some();
        mapped || address.is_loopback() || address.is_unicast_link_local()
    };
    match endpoint.address6.filter(|address| here(*address)) {
        Some(address) => Err(OutOfBounds::new("address6", address, LEADS_NOWHERE)),
        None => Ok(()),
    }
}

const LEADS_NOWHERE: &str = "leads from one host to another, and is neither loopback, link-local \
                             nor an IPv4 address in IPv6";
