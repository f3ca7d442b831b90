//! The kernel's set of backends of a service's port, as callers find it.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::Result;
use sinew_abi::{ABI_VERSION, Service, ServiceKey4, protocol};

use super::bpf::Map;

/// One set, in the maps of one host.
pub(crate) struct Set {
    services: Map,
    key: ServiceKey4,
}

impl Set {
    /// Of the TCP port of the service with that address, where the maps are pinned below `pins`.
    pub(crate) fn of(pins: &Path, address: Ipv4Addr, port: u16) -> Result<Self> {
        let map = pins.join(format!("v{ABI_VERSION}/SERVICES4"));
        let key = ServiceKey4 {
            addr: u32::from_ne_bytes(address.octets()),
            port: port.to_be(),
            protocol: protocol::TCP,
        };
        Ok(Self { services: Map::pinned(&map)?, key })
    }

    /// How many backends there are to choose from.
    pub(crate) fn len(&self) -> Result<u32> {
        // SAFETY: key and value are what the ABI says of this map, integers only.
        let service: Service = unsafe { self.services.get(&self.key) }?;
        Ok(service.len)
    }
}
