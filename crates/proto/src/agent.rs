//! What agents say.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use bytes::Bytes;
use prost::Message as _;
use sinew_model::{
    NodeName, ServiceName, ZoneName,
    fleet::{Endpoint, Generation, Resources, ServiceRecord},
};

use crate::{
    DecodeError, Error, Placed, bounds, convert,
    placement::{read_resources, resources},
    read::{Read, address6, count, each, map, name, names, text},
    wire::{self, AgentKind},
};

/// A message of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromAgent {
    /// Its first.
    Hello(Hello),
    /// What its host runs.
    Report(Report),
    /// It wants to hear of these.
    Subscribe(Vec<ServiceName>),
    /// No longer.
    Unsubscribe(Vec<ServiceName>),
    /// It applied what it was told.
    Ack {
        /// Of that service.
        service: ServiceName,
        /// Up to here.
        generation: Generation,
    },
    /// It did not, and keeps what it had.
    Nack {
        /// What of.
        service: ServiceName,
        /// What it was told.
        generation: Generation,
        /// Why not.
        reason: String,
    },
    /// What became of what control has its host run.
    Placed(Placed),
}

/// Who an agent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Its host.
    pub node: NodeName,
    /// Where it is.
    pub zone: ZoneName,
    /// Words that placement goes by.
    pub labels: BTreeMap<String, String>,
    /// Of Sinew.
    pub version: String,
    /// Of the protocol.
    pub protocol: u32,
    /// Another one after each boot of the host.
    pub boot_id: String,
    /// Its clock, since 1970.
    pub wall_clock: Duration,
    /// What it subscribes to, with the generation that it has of each.
    pub known: BTreeMap<ServiceName, Generation>,
    /// The host's own address, which leads to its instances.
    pub address4: Option<Ipv4Addr>,
    /// The same over IPv6.
    pub address6: Option<Ipv6Addr>,
    /// What it has to give.
    pub capacity: Resources,
    /// In which lineage of the store it was told what it knows; `None`: it was not told.
    pub lineage: Option<String>,
    /// The newest that it was told of anything in it.
    pub newest: Generation,
}

/// What a host runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rises with each.
    pub sequence: u64,
    /// Whether it names every service of the host.
    pub full: bool,
    /// Those that changed, or all.
    pub services: BTreeMap<ServiceName, ServiceReport>,
}

/// What a host runs of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceReport {
    /// `None`: the host has endpoints of the service, and does not say what it is.
    pub record: Option<ServiceRecord>,
    /// All that there are on the host, by instance.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// Instances that are known to be gone. A full report removes those only: what it merely lacks
    /// may be forgotten by mistake.
    pub gone: BTreeSet<u32>,
}

impl FromAgent {
    /// The message's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let list = |services: &[ServiceName]| wire::Services {
            services: services.iter().map(ToString::to_string).collect(),
        };
        let kind = match self {
            Self::Hello(hello) => AgentKind::Hello(hello.to_wire()),
            Self::Report(report) => AgentKind::Report(report.to_wire()),
            Self::Subscribe(services) => AgentKind::Subscribe(list(services)),
            Self::Unsubscribe(services) => AgentKind::Unsubscribe(list(services)),
            Self::Ack { service, generation } => {
                AgentKind::Ack(wire::Ack { service: service.to_string(), generation: generation.0 })
            }
            Self::Nack { service, generation, reason } => AgentKind::Nack(wire::Nack {
                service: service.to_string(),
                generation: generation.0,
                reason: reason.clone(),
            }),
            Self::Placed(placed) => AgentKind::Placed(placed.to_wire()),
        };
        wire::AgentMessage { kind: Some(kind) }.encode_to_vec().into()
    }

    /// Reads and checks a message.
    ///
    /// # Errors
    /// With the first field at fault.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.len() > bounds::MAX_MESSAGE_BYTES {
            return Err(Error::TooLarge { bytes: bytes.len() }.into());
        }
        let list =
            |field: &str, from: wire::Services| names(field, from.services, bounds::MAX_SERVICES);
        let read = match wire::AgentMessage::decode(bytes)?.kind.ok_or(Error::UnknownKind)? {
            AgentKind::Hello(hello) => {
                Hello::read(hello).map(Self::Hello).map_err(|error| error.within("hello"))
            }
            AgentKind::Report(report) => {
                Report::read(report).map(Self::Report).map_err(|error| error.within("report"))
            }
            AgentKind::Subscribe(from) => list("subscribe.services", from).map(Self::Subscribe),
            AgentKind::Unsubscribe(from) => {
                list("unsubscribe.services", from).map(Self::Unsubscribe)
            }
            AgentKind::Ack(from) => name("ack.service", from.service)
                .map(|service| Self::Ack { service, generation: Generation(from.generation) }),
            AgentKind::Nack(from) => read_nack(from),
            AgentKind::Placed(from) => {
                Placed::read(from).map(Self::Placed).map_err(|error| error.within("placed"))
            }
        };
        Ok(read?)
    }
}

fn read_nack(from: wire::Nack) -> Read<FromAgent> {
    Ok(FromAgent::Nack {
        service: name("nack.service", from.service)?,
        generation: Generation(from.generation),
        reason: text("nack.reason", from.reason, bounds::MAX_REASON_BYTES)?,
    })
}

impl Hello {
    fn to_wire(&self) -> wire::Hello {
        let known = |(service, generation): (&ServiceName, &Generation)| wire::Known {
            service: service.to_string(),
            generation: generation.0,
        };
        wire::Hello {
            node: self.node.to_string(),
            zone: self.zone.to_string(),
            labels: self.labels.clone(),
            version: self.version.clone(),
            protocol: self.protocol,
            boot_id: self.boot_id.clone(),
            wall_clock_ms: convert::ms(self.wall_clock),
            known: self.known.iter().map(known).collect(),
            address4: self.address4.map(u32::from),
            address6: convert::octets(self.address6),
            capacity: Some(resources(self.capacity)),
            lineage: self.lineage.clone().unwrap_or_default(),
            newest: self.newest.0,
        }
    }

    fn read(from: wire::Hello) -> Read<Self> {
        count("labels", from.labels.len(), bounds::MAX_LABELS)?;
        count("known", from.known.len(), bounds::MAX_SERVICES)?;
        let label = |(key, value)| {
            let key = text("labels", key, bounds::MAX_LABEL_BYTES)?;
            let value = text(&format!("labels.{key}"), value, bounds::MAX_LABEL_BYTES)?;
            Ok((key, value))
        };
        Ok(Self {
            node: name("node", from.node)?,
            zone: name("zone", from.zone)?,
            labels: from.labels.into_iter().map(label).collect::<Read<_>>()?,
            version: text("version", from.version, bounds::MAX_WORD_BYTES)?,
            protocol: from.protocol,
            boot_id: text("boot_id", from.boot_id, bounds::MAX_WORD_BYTES)?,
            wall_clock: Duration::from_millis(from.wall_clock_ms),
            known: map("known", from.known, |known| {
                Ok((name("service", known.service)?, Generation(known.generation)))
            })?,
            address4: from.address4.map(Into::into),
            address6: address6("address6", &from.address6)?,
            capacity: from.capacity.as_ref().map(read_resources).unwrap_or_default(),
            lineage: Some(text("lineage", from.lineage, bounds::MAX_WORD_BYTES)?)
                .filter(|id| !id.is_empty()),
            newest: Generation(from.newest),
        })
    }
}

impl Report {
    fn to_wire(&self) -> wire::Report {
        let service = |(name, report): (&ServiceName, &ServiceReport)| wire::ServiceReport {
            service: name.to_string(),
            record: report.record.as_ref().map(convert::record),
            endpoints: report
                .endpoints
                .iter()
                .map(|(instance, endpoint)| convert::endpoint(*instance, endpoint))
                .collect(),
            gone: report.gone.iter().copied().collect(),
        };
        let services = self.services.iter().map(service).collect();
        wire::Report { sequence: self.sequence, full: self.full, services }
    }

    fn read(from: wire::Report) -> Read<Self> {
        count("services", from.services.len(), bounds::MAX_SERVICES)?;
        let services = map("services", from.services, ServiceReport::read)?;
        Ok(Self { sequence: from.sequence, full: from.full, services })
    }
}

impl ServiceReport {
    fn read(from: wire::ServiceReport) -> Read<(ServiceName, Self)> {
        count("endpoints", from.endpoints.len(), bounds::MAX_ENDPOINTS_OF_NODE)?;
        count("gone", from.gone.len(), bounds::MAX_ENDPOINTS)?;
        let endpoints = map("endpoints", from.endpoints, convert::read_endpoint)?;
        let gone = each("gone", from.gone, |instance| {
            if !endpoints.contains_key(&instance) {
                return Ok(instance);
            }
            let rule = "is not among the endpoints";
            Err(sinew_model::fleet::OutOfBounds::new("instance", instance, rule))
        })?;
        let record = from.record.map(convert::read_record).transpose()?;
        let report = Self { record, endpoints, gone: gone.into_iter().collect() };
        Ok((name("service", from.service)?, report))
    }
}
