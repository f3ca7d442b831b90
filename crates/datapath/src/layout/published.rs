//! Ports of the host that lead to services. An entry names the service port by its address, so that
//! what changes in the service changes for its outside callers at the same moment.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use sinew_abi as abi;
use sinew_model::Protocol;

use super::{Delta, Ledger, Tables, addr4, mapped};
use crate::{
    Error,
    wanted::{Published, Service},
};

/// Address (network byte order) and port (host byte order).
pub(super) type HostPort = ([u32; 4], u16);

/// What the tables hold.
pub(super) fn read(tables: &impl Tables) -> Result<BTreeMap<HostPort, abi::ServiceKey4>, Error> {
    let found = tables.published()?.into_iter();
    Ok(found.map(|(key, value)| ((key.addr, u16::from_be(key.port)), value)).collect())
}

/// Refuses, before anything is changed, what leads nowhere.
pub(super) fn check(delta: &Delta<Arc<Service>>) -> Result<(), Error> {
    for service in &delta.came {
        let has = |wanted: u16| {
            service.ports.iter().any(|p| (p.number, p.protocol) == (wanted, Protocol::Tcp))
        };
        if let Some(Published { host, port }) = service.published.iter().find(|p| !has(p.port)) {
            let id = service.id;
            let what = format!("{host} is to lead to port {port} of service {id}, which has none");
            return Err(Error::Invalid { what });
        }
    }
    Ok(())
}

/// The addresses at which a service is published, and where they lead. `::` takes IPv4 too, as a
/// dual-stack socket does.
pub(super) fn addresses(service: &Service) -> impl Iterator<Item = (HostPort, abi::ServiceKey4)> {
    service.published.iter().flat_map(|Published { host, port }| {
        let both = host.ip().is_ipv6() && host.ip().is_unspecified();
        let any4 = both.then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let addr = addr4(service.address4);
        let to = abi::ServiceKey4 { addr, port: port.to_be(), protocol: abi::protocol::TCP };
        let all = std::iter::once(host.ip()).chain(any4);
        all.map(move |ip| ((mapped(ip), host.port()), to))
    })
}

fn key(&(addr, port): &HostPort) -> abi::PublishedKey {
    abi::PublishedKey { addr, port: port.to_be(), protocol: abi::protocol::TCP }
}

impl Ledger {
    /// Whether any port is published.
    pub(crate) fn publishes(&self) -> bool {
        !self.published.is_empty()
    }

    pub(super) fn change_published(
        &mut self,
        tables: &mut impl Tables,
        delta: &Delta<Arc<Service>>,
    ) -> Result<(), Error> {
        let came: BTreeMap<HostPort, abi::ServiceKey4> =
            delta.came.iter().flat_map(|service| addresses(service)).collect();
        let left: Vec<HostPort> = if delta.whole {
            self.published.keys().copied().collect()
        } else {
            delta.left.iter().flat_map(|service| addresses(service)).map(|(at, _)| at).collect()
        };
        for at in left.into_iter().filter(|at| !came.contains_key(at)) {
            tables.remove_published(&key(&at))?;
            self.published.remove(&at);
            if !self.published.keys().any(|(_, port)| *port == at.1) {
                tables.mark_published(at.1, false);
            }
        }
        for (at, to) in came {
            if self.published.get(&at) != Some(&to) {
                // Marked first: what is not marked is not looked for.
                tables.mark_published(at.1, true);
                tables.put_published(&key(&at), &to)?;
                self.published.insert(at, to);
            }
        }
        Ok(())
    }
}
