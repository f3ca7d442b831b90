//! What the resolver knows: an immutable snapshot, cheap to clone and change for the next one.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use hickory_proto::rr::Name;
use sinew_model::{PortName, Protocol, ServiceName};

use crate::{
    reverse::{self, Reverse},
    wire,
};

/// Room that a domain leaves for `_port._tcp.service` in front of it, in bytes of a wire name.
const ROOM_BYTES: usize = 64 + 5 + 64;

/// A zone that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// The domain is not a name.
    #[error("domain {domain:?} is not a DNS name ({reason}): use one such as sinew.internal")]
    Domain {
        /// As it was given.
        domain: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A service's name does not fit under the domain.
    #[error("service name {service} does not fit under domain {domain}: use a shorter domain")]
    Service {
        /// The service.
        service: ServiceName,
        /// The domain.
        domain: String,
    },
}

/// Services by name and address.
#[derive(Clone, Debug)]
pub struct Zone {
    domain: Name,
    /// The SOA's serial: changes since the zone was made, or what it was given.
    serial: u32,
    services: HashMap<Box<[u8]>, Arc<Service>>,
    addresses: HashMap<IpAddr, Arc<Service>>,
    /// The /48 of the network; that of the services inserted.
    network6: Option<[u8; 6]>,
    /// Services whose lookups somebody wants to hear of, and whether they can be called yet.
    heard: HashMap<Box<[u8]>, bool>,
}

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) name: Name,
    pub(crate) address4: Ipv4Addr,
    pub(crate) address6: Ipv6Addr,
    ports: Vec<(PortName, u16, Protocol)>,
}

/// Where a name leads.
#[derive(Debug)]
pub(crate) struct Place<'z> {
    /// Name of the zone that the answer speaks for.
    pub(crate) apex: Name,
    pub(crate) node: Node<'z>,
}

#[derive(Debug)]
pub(crate) enum Node<'z> {
    Apex,
    Service(&'z Service),
    /// `_http._tcp.orders`.
    Port(&'z Service, u16),
    /// An address's reverse name.
    Pointer(&'z Service),
    /// Exists only because names below it do.
    Empty,
    Missing,
}

impl Zone {
    /// An empty zone under `domain`, such as `sinew.internal`.
    ///
    /// # Errors
    /// When `domain` is not a name, or is the root, or leaves no room for names below it.
    pub fn new(domain: &str) -> Result<Self, ZoneError> {
        let wrong = |reason: String| ZoneError::Domain { domain: domain.to_owned(), reason };
        let mut name = Name::from_ascii(domain).map_err(|e| wrong(e.to_string()))?.to_lowercase();
        name.set_fqdn(true);
        if name.is_root() {
            return Err(wrong("it is empty".to_owned()));
        }
        if name.len() + ROOM_BYTES > 255 {
            return Err(wrong(format!("it is longer than {} bytes", 255 - ROOM_BYTES)));
        }
        Ok(Self {
            domain: name,
            serial: 1,
            services: HashMap::new(),
            addresses: HashMap::new(),
            network6: None,
            heard: HashMap::new(),
        })
    }

    /// Adds a service, or replaces the one of that name.
    ///
    /// # Errors
    /// When the name does not fit under the domain; nothing has changed then.
    pub fn insert(
        &mut self,
        service: &ServiceName,
        address4: Ipv4Addr,
        address6: Ipv6Addr,
        ports: Vec<(PortName, u16, Protocol)>,
    ) -> Result<(), ZoneError> {
        let label = service.as_str().as_bytes();
        let name = self.domain.prepend_label(label).map_err(|_| ZoneError::Service {
            service: service.clone(),
            domain: self.domain.to_ascii(),
        })?;
        self.remove(service);
        let entry = Arc::new(Service { name, address4, address6, ports });
        self.addresses.insert(address4.into(), entry.clone());
        self.addresses.insert(address6.into(), entry.clone());
        self.services.insert(label.into(), entry);
        self.network6 = Some(reverse::network6(address6));
        self.serial = self.serial.wrapping_add(1);
        Ok(())
    }

    /// Has lookups of a service told. As long as it is not `ready`, its answers are held back for a
    /// moment: whoever has the address calls at once.
    pub fn hear(&mut self, service: &ServiceName, ready: bool) {
        self.heard.insert(service.as_str().as_bytes().into(), ready);
    }

    /// What a query asks of a service whose lookups are told: its name, and whether it is ready.
    pub(crate) fn heard(&self, query: &[u8]) -> Option<(&str, bool)> {
        if self.heard.is_empty() {
            return None;
        }
        let head = wire::head(query).ok()?;
        let place = self.find(head.question.name())?;
        let (Node::Service(service) | Node::Port(service, _)) = place.node else { return None };
        let label = service.name.iter().next()?;
        let (name, ready) = self.heard.get_key_value(label)?;
        Some((str::from_utf8(name).ok()?, *ready))
    }

    /// Removes a service; says whether there was one.
    pub fn remove(&mut self, service: &ServiceName) -> bool {
        let Some(old) = self.services.remove(service.as_str().as_bytes()) else { return false };
        self.heard.remove(service.as_str().as_bytes());
        self.addresses.remove(&old.address4.into());
        self.addresses.remove(&old.address6.into());
        self.serial = self.serial.wrapping_add(1);
        true
    }

    /// Gives it the serial by which others tell that this very zone is served.
    #[must_use]
    pub fn with_serial(self, serial: u32) -> Self {
        Self { serial, ..self }
    }

    pub(crate) fn serial(&self) -> u32 {
        self.serial
    }

    /// The place of `name`; `None`: the name is not ours to answer.
    pub(crate) fn find(&self, name: &Name) -> Option<Place<'_>> {
        let lower = name.to_lowercase();
        let labels: Vec<&[u8]> = lower.iter().collect();
        if self.domain.zone_of_case(&lower) {
            let inner = &labels[..labels.len() - usize::from(self.domain.num_labels())];
            return Some(Place { apex: self.domain.clone(), node: self.node(inner) });
        }
        self.reverse(name, &labels).or_else(|| self.bare(name, &labels))
    }

    /// A name inside the domain, by its labels in front of the domain's.
    fn node(&self, labels: &[&[u8]]) -> Node<'_> {
        let (Some(service), front) = (labels.last(), &labels[..labels.len().saturating_sub(1)])
        else {
            return Node::Apex;
        };
        let Some(service) = self.services.get(*service) else { return Node::Missing };
        match front {
            [] => Node::Service(service),
            [protocol] if service.speaks(protocol) => Node::Empty,
            [port, protocol] => {
                service.port(port, protocol).map_or(Node::Missing, |n| Node::Port(service, n))
            }
            _ => Node::Missing,
        }
    }

    /// A service's name without the domain. Of longer names only those that SRV uses: a service
    /// may be called `dev`, and `www.dev` is still somebody else's.
    fn bare(&self, name: &Name, labels: &[&[u8]]) -> Option<Place<'_>> {
        let bare = match labels {
            [_] => true,
            [front @ .., _] => front.len() <= 2 && front.iter().all(|l| l.starts_with(b"_")),
            [] => false,
        };
        if !bare || !self.services.contains_key(*labels.last()?) {
            return None;
        }
        Some(Place { apex: name.trim_to(1), node: self.node(labels) })
    }

    fn reverse(&self, name: &Name, labels: &[&[u8]]) -> Option<Place<'_>> {
        let (apex_labels, found) = reverse::find(labels, self.network6)?;
        let node = match found {
            Reverse::Apex => Node::Apex,
            Reverse::Inside => Node::Empty,
            Reverse::Address(a) => {
                self.addresses.get(&a).map_or(Node::Missing, |s| Node::Pointer(s))
            }
            Reverse::Malformed => Node::Missing,
        };
        Some(Place { apex: name.trim_to(apex_labels), node })
    }
}

impl Service {
    fn speaks(&self, protocol: &[u8]) -> bool {
        self.ports.iter().any(|(_, _, p)| label(*p) == protocol)
    }

    fn port(&self, name: &[u8], protocol: &[u8]) -> Option<u16> {
        let name = name.strip_prefix(b"_")?;
        let asked = |(n, _, p): &&(PortName, u16, Protocol)| {
            n.as_str().as_bytes() == name && label(*p) == protocol
        };
        self.ports.iter().find(asked).map(|(_, number, _)| *number)
    }
}

const fn label(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Tcp => b"_tcp",
        Protocol::Udp => b"_udp",
    }
}
