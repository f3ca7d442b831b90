//! The resolver's sign of life, for a process that does nothing else with the kernel.

use std::path::{Path, PathBuf};

use sinew_abi as abi;

use crate::{Error, kernel::maps_directory, maps::Shared, sys};

/// Writes heartbeats into the pinned settings.
pub struct Heartbeat {
    config: Shared<abi::Config>,
    pins: PathBuf,
}

impl Heartbeat {
    /// Opens the settings pinned under `pins`.
    ///
    /// # Errors
    /// When no data path of this version is pinned there.
    pub fn open(pins: &Path) -> Result<Self, Error> {
        let config = Shared::open(&maps_directory(pins), "CONFIG", 1)?;
        Ok(Self { config, pins: pins.to_owned() })
    }

    /// Shows that the resolver is alive; call it every 200 ms, only while it is.
    pub fn beat(&mut self) {
        if let Some(config) = self.config.place(0) {
            // SAFETY: a place inside the mapping.
            unsafe { (&raw mut (*config).heartbeat_ns).write_volatile(sys::monotonic_ns()) };
        }
    }

    /// Whether the data path is still pinned; a purged one is not.
    pub fn pinned(&self) -> bool {
        maps_directory(&self.pins).join("CONFIG").exists()
    }
}
