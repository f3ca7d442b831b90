//! The resolver's sign of life, for a process that does nothing else with the kernel.

use std::{net::SocketAddrV4, os::fd::OwnedFd, path::Path};

use rustix::fs::{Mode, OFlags, fstat, open};
use sinew_abi as abi;

use crate::{Error, kernel::maps_directory, layout::addr4, maps::Shared, sys};

/// Writes heartbeats into the pinned settings. Needs no rights once it is open.
pub struct Heartbeat {
    config: Shared<abi::Config>,
    /// The pin itself, not the map: it tells whether there still is a name for it.
    pin: OwnedFd,
}

impl Heartbeat {
    /// Opens the settings pinned under `pins`.
    ///
    /// # Errors
    /// When no data path of this version is pinned there.
    pub fn open(pins: &Path) -> Result<Self, Error> {
        let maps = maps_directory(pins);
        let pin = open(maps.join("CONFIG"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::system("open map CONFIG", errno))?;
        let config = Shared::open(&maps, "CONFIG", 1)?;
        Ok(Self { config, pin })
    }

    /// Shows that the resolver is alive; call it every 200 ms, only while it is.
    pub fn beat(&mut self) {
        if let Some(config) = self.config.place(0) {
            // SAFETY: a place inside the mapping.
            unsafe { (&raw mut (*config).heartbeat_ns).write_volatile(sys::monotonic_ns()) };
        }
    }

    /// Whether queries are led to `address`. Who is not asked must not beat: the life that it shows
    /// would be taken for that of another.
    pub fn leads_to(&self, address: SocketAddrV4) -> bool {
        let port = u32::from(address.port().to_be());
        let leads = |c: abi::Config| (c.resolver4, c.resolver_port) == (addr4(*address.ip()), port);
        self.config.get(0).is_some_and(leads)
    }

    /// Whether the data path is still pinned; a purged one is not.
    pub fn pinned(&self) -> bool {
        fstat(&self.pin).is_ok_and(|pin| pin.st_nlink > 0)
    }
}
