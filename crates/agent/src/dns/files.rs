//! What the agent and the resolver tell each other, each in files of its own: neither needs the
//! other to be there.
//!
//! For a moment of every upgrade the two are of different versions. Unknown fields are passed over,
//! so new ones may come; none may go or change its meaning.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sinew_dns::{Zone, ZoneError};
use sinew_model::{Port, ServiceName};
use sinew_workload::ProcessId;

/// What is answered, by the agent.
pub(super) const ZONE: &str = "zone.json";
/// How to answer, by the agent.
const SPEC: &str = "spec.json";
/// Who answers, by the resolver.
const STATE: &str = "state.json";

/// Which services there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Catalog {
    /// Grows with each change; 0: nothing was ever said.
    pub(crate) generation: u32,
    /// By name.
    pub(crate) services: BTreeMap<ServiceName, Addresses>,
}

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) address4: Ipv4Addr,
    pub(crate) address6: Ipv6Addr,
    pub(crate) ports: Vec<Port>,
    /// Other hosts may run it: lookups are told, and held back for a moment while it is `false`, not
    /// ready to be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) elsewhere: Option<bool>,
}

impl Catalog {
    /// As the resolver serves it: the generation is the serial, by which the agent sees it arrive.
    pub(super) fn zone(self, domain: &str) -> Result<Zone, ZoneError> {
        let mut zone = Zone::new(domain)?;
        for (name, service) in self.services {
            let ports = service.ports.into_iter().map(|p| (p.name, p.number, p.protocol)).collect();
            if let Err(error) = zone.insert(&name, service.address4, service.address6, ports) {
                tracing::warn!("{error}");
            }
            if let Some(ready) = service.elsewhere {
                zone.hear(&name, ready);
            }
        }
        Ok(zone.with_serial(self.generation))
    }
}

/// What a resolver is started with and keeps for its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Spec {
    /// Whose names it answers for.
    pub(super) domain: String,
    /// Where it listens.
    pub(super) address4: Ipv4Addr,
    /// Where the host's name servers are written.
    pub(super) resolv_conf: PathBuf,
    /// Whom it shows its life; `None`: nobody.
    pub(super) pins: Option<PathBuf>,
    /// Where it lives.
    pub(super) cgroup: PathBuf,
}

/// How to start one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) spec: Spec,
    /// The port of its predecessor: clients that know it need not be led elsewhere.
    pub(super) port: u16,
    /// See [`version`].
    pub(super) version: String,
}

/// A resolver that is bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Its process.
    pub(super) process: ProcessId,
    /// Where it answers.
    pub(super) address4: SocketAddrV4,
    /// The same port of this one; unspecified: not there.
    pub(super) address6: Ipv6Addr,
    /// What it was started as.
    pub(super) version: String,
    /// What it was started with.
    pub(super) spec: Spec,
}

/// What a new resolver says to who started it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub(super) enum Greeting {
    /// It answers.
    Ready(Box<State>),
    /// Another one of its version is there, or was a moment ago.
    Busy,
    /// It cannot.
    Failed {
        /// What it tried, and why not.
        reason: String,
    },
}

/// Which program a resolver is: the file it was started from.
///
/// The number in the manifest alone would take two builds of one release for the same. A digest of
/// the file would not, but costs reading tens of megabytes at every start of an agent, and a build id
/// is not in every binary. A program file is replaced, not written over, when it is installed: then
/// at least one of these differs. When one differs without need, the resolver is replaced without
/// need, which nobody notices.
pub(super) fn version(exe: &Path) -> io::Result<String> {
    let file = fs::metadata(exe)?;
    let (package, size, node) = (env!("CARGO_PKG_VERSION"), file.size(), file.ino());
    Ok(format!("{package}-{size:x}-{node:x}-{:x}.{:x}", file.mtime(), file.mtime_nsec()))
}

impl Start {
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        replace(directory, SPEC, self, None)
    }

    pub(super) fn read(directory: &Path) -> io::Result<Self> {
        parse(directory, SPEC)
    }
}

impl State {
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        replace(directory, STATE, self, None)
    }

    pub(super) fn read(directory: &Path) -> io::Result<Self> {
        parse(directory, STATE)
    }
}

impl Catalog {
    /// Lets `group`, the resolver's, read it.
    pub(super) fn write(&self, directory: &Path, group: Option<u32>) -> io::Result<()> {
        replace(directory, ZONE, self, group)
    }

    pub(super) fn read(directory: &Path) -> io::Result<Self> {
        parse(directory, ZONE)
    }
}

fn parse<T: DeserializeOwned>(directory: &Path, name: &str) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(directory.join(name))?)?)
}

/// Whoever reads meets the old file or the new one, whole and with its rights.
fn replace<T: Serialize>(
    directory: &Path,
    name: &str,
    value: &T,
    group: Option<u32>,
) -> io::Result<()> {
    let fresh = directory.join(format!("{name}.new"));
    let _ = fs::remove_file(&fresh);
    // Whatever the umask says.
    let mode = if group.is_some() { 0o640 } else { 0o600 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    fchown(&file, None, group)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(&serde_json::to_vec(value)?)?;
    fs::rename(&fresh, directory.join(name))
}

#[cfg(test)]
mod tests {
    use sinew_dns::{Decision, Transport, answer};

    use super::{super::query, *};

    fn catalog(generation: u32) -> Catalog {
        let web = Addresses {
            address4: Ipv4Addr::new(127, 64, 0, 7),
            address6: "fd00::7".parse().unwrap(),
            ports: vec!["http:80".parse().unwrap()],
            elsewhere: None,
        };
        Catalog { generation, services: [("web".parse().unwrap(), web)].into() }
    }

    #[test]
    fn a_generation_is_seen_as_the_serial() {
        let zone = catalog(0xDEAD_BEEF).zone("sinew.internal").unwrap();
        let query = query::soa(7, "sinew.internal");
        let Decision::Reply(reply) = answer(&zone, &query, Transport::Udp) else { panic!() };
        assert_eq!(query::serial(7, &reply), Some(0xDEAD_BEEF));
    }

    #[test]
    fn files_are_replaced_whole_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        assert_eq!(Catalog::read(at).unwrap_err().kind(), io::ErrorKind::NotFound);
        catalog(1).write(at, None).unwrap();
        // What a crash left behind is in nobody's way.
        fs::write(at.join("zone.json.new"), "{").unwrap();
        catalog(2).write(at, None).unwrap();
        assert_eq!(Catalog::read(at).unwrap(), catalog(2));
        let mode = |name| fs::metadata(at.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(ZONE), 0o600);
        fs::write(at.join(ZONE), "{").unwrap();
        assert!(Catalog::read(at).is_err());
    }

    #[test]
    fn a_replaced_program_is_another_version() {
        let directory = tempfile::tempdir().unwrap();
        let (exe, fresh) = (directory.path().join("sinew"), directory.path().join("sinew.new"));
        fs::write(&exe, "same").unwrap();
        let before = version(&exe).unwrap();
        assert_eq!(version(&exe).unwrap(), before);
        fs::write(&fresh, "same").unwrap();
        fs::rename(&fresh, &exe).unwrap();
        assert_ne!(version(&exe).unwrap(), before);
        assert!(version(&fresh).is_err());
    }
}
