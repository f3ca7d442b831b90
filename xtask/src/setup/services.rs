//! Servers that Debian's packages would start by themselves stay stopped.
//!
//! The tasks start servers of their own, in their own places. A package that started one of its
//! own would take a port of the host that nobody asked for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

const POLICY: &str = "/usr/sbin/policy-rc.d";
const MARK: &str = "# Written by `cargo xtask` while it installs packages; safe to delete.";
/// Packages that come with a unit which Debian enables.
const SERVERS: [(&str, &str); 5] = [
    ("nginx", "nginx"),
    ("redis-server", "redis-server"),
    ("postgresql", "postgresql"),
    ("memcached", "memcached"),
    ("haproxy", "haproxy"),
];

/// Lives as long as packages are being installed.
pub(super) struct KeepStopped {
    units: Vec<&'static str>,
}

impl KeepStopped {
    /// Refuses starts of services, unless the machine has a policy of its own.
    pub(super) fn new(packages: &[&str]) -> Result<Self> {
        if !Path::new(POLICY).exists() {
            let refuse = format!("#!/bin/sh\n{MARK}\nexit 101\n");
            fs::write(POLICY, refuse).with_context(|| format!("{POLICY} cannot be written"))?;
            fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        }
        let new = SERVERS.iter().filter(|(package, _)| packages.contains(package));
        Ok(Self { units: new.map(|&(_, unit)| unit).collect() })
    }
}

impl Drop for KeepStopped {
    fn drop(&mut self) {
        sweep();
        if self.units.is_empty() || !Path::new("/run/systemd/system").exists() {
            return;
        }
        let mut disable = Command::new("systemctl");
        disable.args(["disable", "--quiet"]).args(&self.units);
        println!("setup: {}", process::line(&disable));
        if let Err(error) = process::run(&mut disable) {
            eprintln!("setup: these will start at the next boot: {error:#}");
        }
    }
}

/// Removes a policy that an earlier, killed set-up left behind.
pub(super) fn sweep() {
    if fs::read_to_string(POLICY).is_ok_and(|policy| policy.contains(MARK)) {
        // Left in place, it would be removed by the next task.
        let _ = fs::remove_file(POLICY);
    }
}
