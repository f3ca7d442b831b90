//! Several hosts on one machine: network namespaces at the ports of a bridge, each with a loopback,
//! a cgroup, and directories of its own for what Sinew keeps. What goes wrong between hosts can be
//! done to them: cut, paused, killed.
//!
//! Everything bears one name, and a reaper takes it away when this process is gone, however it went.
//! All addresses are of those namespaces alone.

mod error;
mod host;
mod namespace;
pub mod reaper;
mod scripts;

use std::{
    fs,
    path::{Path, PathBuf},
};

pub use error::Error;
pub use host::Host;
use namespace::Namespace;

/// As many as the addresses and names leave room for.
pub const MAX_HOSTS: u8 = 200;

/// States of a bridge's port: `BR_STATE_DISABLED`, `BR_STATE_FORWARDING` of
/// include/uapi/linux/if_bridge.h.
const PORT_DISABLED: u8 = 0;
const PORT_FORWARDING: u8 = 3;

/// The hosts and what joins them.
pub struct Hosts {
    hosts: Vec<Host>,
    /// Holds the bridge.
    switch: Namespace,
    files: PathBuf,
    cgroup: PathBuf,
}

impl Hosts {
    /// Makes that many hosts, `h1` and so on; `name` says what for.
    ///
    /// # Errors
    /// When the machine does not let them be made: it takes root, a cgroup version 2 hierarchy and
    /// the kernel's bridge.
    pub fn new(name: &str, count: u8) -> Result<Self, Error> {
        if count == 0 || count > MAX_HOSTS {
            return Err(Error::Count { count });
        }
        let prefix = format!("sinew-{name}-{}-", std::process::id());
        reaper::watch(&prefix)?;
        let world = format!("{prefix}{}", next());
        let cgroup = cgroup2()?.join(&world);
        let files = std::env::temp_dir().join(&world);
        let pins = Path::new("/sys/fs/bpf").join(&world);
        for directory in [&cgroup, &files] {
            fs::create_dir(directory).map_err(|e| Error::io("make", directory, e))?;
        }
        let switch = Namespace::new("switch", &cgroup.join("switch"))?;
        switch.ip("link add bridge0 type bridge forward_delay 0 mcast_snooping 0")?;
        switch.ip("link set bridge0 up")?;
        let hosts = (1..=count)
            .map(|number| Host::new(number, &cgroup, &files, &pins, &switch))
            .collect::<Result<_, _>>()?;
        let hosts = Self { hosts, switch, files, cgroup };
        scripts::write(&hosts)?;
        Ok(hosts)
    }

    /// All of them, in order.
    pub fn all(&self) -> &[Host] {
        &self.hosts
    }

    /// One of them, from 1 on.
    ///
    /// # Errors
    /// When there is none of that number.
    pub fn host(&self, number: u8) -> Result<&Host, Error> {
        let index = usize::from(number).checked_sub(1);
        index
            .and_then(|index| self.hosts.get(index))
            .ok_or(Error::NoHost { number, count: self.hosts.len() })
    }

    /// Where commands for people lie: `on`, `cut`, `heal`, `pause`, `resume`, `crash`.
    pub fn scripts(&self) -> PathBuf {
        self.files.join("bin")
    }

    /// From now on nothing gets from this host to another or back, and nobody is told.
    ///
    /// # Errors
    /// When the bridge does not take it.
    pub fn cut(&self, host: &Host) -> Result<(), Error> {
        self.port(host, PORT_DISABLED)
    }

    /// Ends [`cut`](Self::cut).
    ///
    /// # Errors
    /// When the bridge does not take it.
    pub fn heal(&self, host: &Host) -> Result<(), Error> {
        self.port(host, PORT_FORWARDING)
    }

    fn port(&self, host: &Host, state: u8) -> Result<(), Error> {
        self.switch.run("bridge", &format!("link set dev {} state {state}", host.port()))
    }

    /// From now on nothing gets from one host to the other, and nobody is told; the other way is
    /// untouched.
    ///
    /// # Errors
    /// When the host's network does not take it.
    pub fn cut_way(&self, from: &Host, to: &Host) -> Result<(), Error> {
        // A neighbour whose link address nobody has.
        for address in to.addresses() {
            from.ip(&format!(
                "neigh replace {address} lladdr 02:00:00:00:00:00 nud permanent dev eth0"
            ))?;
        }
        Ok(())
    }

    /// Ends [`cut_way`](Self::cut_way).
    ///
    /// # Errors
    /// When the host's network does not take it.
    pub fn heal_way(&self, from: &Host, to: &Host) -> Result<(), Error> {
        for address in to.addresses() {
            from.ip(&format!(
                "neigh replace {address} lladdr {} nud reachable dev eth0",
                to.link_address()
            ))?;
        }
        Ok(())
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // The reaper takes the rest, and this as well when there was no time for it.
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        let _ = fs::remove_dir_all(&self.files);
    }
}

fn next() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Where the version 2 hierarchy of cgroups is mounted.
fn cgroup2() -> Result<PathBuf, Error> {
    let table = Path::new("/proc/self/mountinfo");
    let mounts = fs::read_to_string(table).map_err(|e| Error::io("read", table, e))?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    mount.and_then(|line| line.split(' ').nth(4)).map(PathBuf::from).ok_or(Error::NoCgroups)
}
