//! What the control plane says.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use sinew_model::{
    NodeName, ServiceName,
    fleet::{Delta, Generation, Network, Snapshot},
};

use crate::{
    Assigned, DecodeError, Error, Hosts, Zones, bounds, convert,
    hosts::{network, read_network},
    read::{Read, count, duration, each, name, names, text},
    wire::{self, ControlKind},
};

/// A message of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromControl {
    /// The session is open.
    Welcome(Welcome),
    /// Which services there are.
    Catalog(Catalog),
    /// Which hosts there are.
    Hosts(Hosts),
    /// Which zones get less than their share of calls.
    Zones(Zones),
    /// What it is to run.
    Assigned(Assigned),
    /// All that is known of a service.
    Snapshot(Snapshot),
    /// What changed of one.
    Delta(Delta),
    /// What became of a report.
    Reported(Reported),
    /// Snapshots wait: many agents want them at once.
    Busy {
        /// So long.
        retry_after: Duration,
    },
    /// A host was declared dead: connections to it are closed.
    Dead {
        /// Which.
        node: NodeName,
    },
    /// Its last: the session is to be opened elsewhere, or again.
    Goodbye {
        /// Why.
        reason: String,
        /// When.
        reconnect_after: Duration,
    },
}

/// The answer to Hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Rises with each session of the host.
    pub epoch: u64,
    /// A host that is not heard of for so long is taken for dead.
    pub session_timeout: Duration,
    /// The replica that answers.
    pub control: String,
    /// Its clock, since 1970.
    pub wall_clock: Duration,
    /// Which addresses the host gives its instances.
    pub instances4: Option<Network>,
    /// The same of IPv6.
    pub instances6: Option<Network>,
    /// In which lineage of the store generations count; `None`: it is not known.
    pub lineage: Option<Lineage>,
}

/// In what generations count: a store, until it is restored as it was before. Those of another one
/// say nothing about these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Another one each time.
    pub id: String,
    /// What was written before belongs to another one, or may.
    pub since: Generation,
}

/// The names of all services, or how they changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    /// It applies to what is known at this generation; `None`: to nothing, and `added` is all.
    pub from: Option<Generation>,
    /// What is known afterwards is of this one.
    pub to: Generation,
    /// Those that came.
    pub added: Vec<ServiceName>,
    /// Those that went.
    pub removed: Vec<ServiceName>,
}

/// A report is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Which.
    pub sequence: u64,
    /// At what revision.
    pub generation: Generation,
    /// What of it was not done.
    pub held: Vec<Held>,
}

/// What of a report was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Of which service.
    pub service: ServiceName,
    /// What, and why not.
    pub reason: String,
}

impl FromControl {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let kind = match self {
            Self::Welcome(welcome) => ControlKind::Welcome(welcome.to_wire()),
            Self::Catalog(catalog) => ControlKind::Catalog(catalog.to_wire()),
            Self::Hosts(hosts) => ControlKind::Hosts(hosts.to_wire()),
            Self::Zones(zones) => ControlKind::Zones(zones.to_wire()),
            Self::Assigned(assigned) => ControlKind::Assigned(assigned.to_wire()),
            Self::Snapshot(snapshot) => ControlKind::Snapshot(convert::snapshot(snapshot)),
            Self::Delta(delta) => ControlKind::Delta(convert::delta(delta)),
            Self::Reported(reported) => ControlKind::Reported(reported.to_wire()),
            Self::Busy { retry_after } => {
                ControlKind::Busy(wire::Busy { retry_after_ms: convert::ms(*retry_after) })
            }
            Self::Dead { node } => ControlKind::Dead(wire::Dead { node: node.to_string() }),
            Self::Goodbye { reason, reconnect_after } => ControlKind::Goodbye(wire::Goodbye {
                reason: reason.clone(),
                reconnect_after_ms: convert::ms(*reconnect_after),
            }),
        };
        wire::ControlMessage { kind: Some(kind) }.encode_to_vec().into()
    }

    /// Reads and checks a message.
    ///
    /// # Errors
    /// With the first field at fault, and the service that the message would have told of.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.len() > bounds::MAX_MESSAGE_BYTES {
            return Err(Error::TooLarge { bytes: bytes.len() }.into());
        }
        let kind = wire::ControlMessage::decode(bytes)?.kind.ok_or(Error::UnknownKind)?;
        let (part, of) = match &kind {
            ControlKind::Welcome(_) => ("welcome", None),
            ControlKind::Catalog(_) => ("catalog", None),
            ControlKind::Hosts(_) => ("hosts", None),
            ControlKind::Zones(_) => ("zones", None),
            ControlKind::Assigned(it) => ("assigned", Some(Assigned::subject(it))),
            ControlKind::Snapshot(it) => ("snapshot", convert::subject(&it.service, it.generation)),
            ControlKind::Delta(it) => ("delta", convert::subject(&it.service, it.to)),
            ControlKind::Reported(_) => ("reported", None),
            ControlKind::Busy(_) => ("busy", None),
            ControlKind::Dead(_) => ("dead", None),
            ControlKind::Goodbye(_) => ("goodbye", None),
        };
        read(kind).map_err(|error| DecodeError { error: error.within(part).into(), of })
    }
}

fn read(kind: ControlKind) -> Read<FromControl> {
    Ok(match kind {
        ControlKind::Welcome(from) => FromControl::Welcome(Welcome::read(from)?),
        ControlKind::Catalog(from) => FromControl::Catalog(Catalog::read(from)?),
        ControlKind::Hosts(from) => FromControl::Hosts(Hosts::read(from)?),
        ControlKind::Zones(from) => FromControl::Zones(Zones::read(from)?),
        ControlKind::Assigned(from) => FromControl::Assigned(Assigned::read(from)?),
        ControlKind::Snapshot(from) => FromControl::Snapshot(convert::read_snapshot(from)?),
        ControlKind::Delta(from) => FromControl::Delta(convert::read_delta(from)?),
        ControlKind::Reported(from) => FromControl::Reported(Reported::read(from)?),
        ControlKind::Busy(from) => {
            FromControl::Busy { retry_after: duration("retry_after_ms", from.retry_after_ms)? }
        }
        ControlKind::Dead(from) => FromControl::Dead { node: name("node", from.node)? },
        ControlKind::Goodbye(from) => FromControl::Goodbye {
            reason: text("reason", from.reason, bounds::MAX_REASON_BYTES)?,
            reconnect_after: duration("reconnect_after_ms", from.reconnect_after_ms)?,
        },
    })
}

impl Welcome {
    fn to_wire(&self) -> wire::Welcome {
        wire::Welcome {
            epoch: self.epoch,
            session_timeout_ms: convert::ms(self.session_timeout),
            control: self.control.clone(),
            wall_clock_ms: convert::ms(self.wall_clock),
            instances4: self.instances4.map(network),
            instances6: self.instances6.map(network),
            lineage: self
                .lineage
                .as_ref()
                .map(|lineage| wire::Lineage { id: lineage.id.clone(), since: lineage.since.0 }),
        }
    }

    fn read(from: wire::Welcome) -> Read<Self> {
        Ok(Self {
            epoch: from.epoch,
            session_timeout: duration("session_timeout_ms", from.session_timeout_ms)?,
            control: text("control", from.control, bounds::MAX_WORD_BYTES)?,
            wall_clock: Duration::from_millis(from.wall_clock_ms),
            instances4: read_network("instances4", from.instances4, 32)?,
            instances6: read_network("instances6", from.instances6, 128)?,
            lineage: from.lineage.map(read_lineage).transpose()?,
        })
    }
}

fn read_lineage(from: wire::Lineage) -> Read<Lineage> {
    let id = text("lineage.id", from.id, bounds::MAX_WORD_BYTES)?;
    Ok(Lineage { id, since: Generation(from.since) })
}

impl Catalog {
    fn to_wire(&self) -> wire::Catalog {
        let list = |names: &[ServiceName]| names.iter().map(ToString::to_string).collect();
        wire::Catalog {
            from: self.from.map(|generation| generation.0),
            to: self.to.0,
            added: list(&self.added),
            removed: list(&self.removed),
        }
    }

    fn read(from: wire::Catalog) -> Read<Self> {
        Ok(Self {
            from: from.from.map(Generation),
            to: Generation(from.to),
            added: names("added", from.added, bounds::MAX_SERVICES)?,
            removed: names("removed", from.removed, bounds::MAX_SERVICES)?,
        })
    }
}

impl Reported {
    fn to_wire(&self) -> wire::Reported {
        wire::Reported {
            sequence: self.sequence,
            generation: self.generation.0,
            held: self.held.iter().map(Held::to_wire).collect(),
        }
    }

    fn read(from: wire::Reported) -> Read<Self> {
        count("held", from.held.len(), bounds::MAX_SERVICES)?;
        let held = each("held", from.held, Held::read)?;
        Ok(Self { sequence: from.sequence, generation: Generation(from.generation), held })
    }
}

impl Held {
    pub(crate) fn to_wire(&self) -> wire::Held {
        wire::Held { service: self.service.to_string(), reason: self.reason.clone() }
    }

    pub(crate) fn read(from: wire::Held) -> Read<Self> {
        let reason = text("reason", from.reason, bounds::MAX_REASON_BYTES)?;
        Ok(Self { service: name("service", from.service)?, reason })
    }
}
