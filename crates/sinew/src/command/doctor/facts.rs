//! Looks at the machine. Judges nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sinew_agent::Stranger;
use sinew_api::{Client, ClientError};
use sinew_datapath::{
    Features, TYPES, loopback,
    occupancy::{self, Occupied},
};
use sinew_workload::cgroup::{self, Enforcer};

use crate::{command::block_on, context::Context};

/// What was seen.
#[derive(Debug)]
pub(super) struct Facts {
    /// As `6.18.1-amd64`.
    pub(super) kernel_release: String,
    /// What the kernel has of what Sinew's programs use.
    pub(super) features: Result<Features, Lack>,
    /// Whether its programs' ends can be waited for.
    pub(super) grace_period: Result<(), String>,
    /// Whether it closes connections; tried by root alone, where connections can be made.
    pub(super) closes: Option<Result<(), Lack>>,
    /// Whether this network namespace reaches itself.
    pub(super) loopback: bool,
    /// Whether it has IPv6.
    pub(super) ipv6: bool,
    /// What would enforce each limit.
    pub(super) limits: Vec<(&'static str, Option<Enforcer>)>,
    /// Who is at addresses of the network's; not asked while Sinew has them in use.
    pub(super) strangers: Option<Vec<Stranger>>,
    /// Where cgroup v2 is mounted.
    pub(super) cgroup2: Option<PathBuf>,
    /// Programs of others on the hooks above the members.
    pub(super) hooks: io::Result<Vec<Occupied>>,
    /// Programs of others that choose sockets for packets.
    pub(super) lookups: io::Result<u32>,
    /// Where programs and maps are to be pinned.
    pub(super) pins: PathBuf,
    /// Whether that is in a bpf file system.
    pub(super) pins_in_bpffs: bool,
    /// Effective user.
    pub(super) root: bool,
    /// Effective capabilities, by bit.
    pub(super) capabilities: u64,
    /// Whether there is a group `sinew`.
    pub(super) group: bool,
    /// `/etc/nsswitch.conf`.
    pub(super) nsswitch: String,
    /// Whether the name service cache daemon answers.
    pub(super) nscd: bool,
    /// The agent.
    pub(super) agent: Agent,
}

/// Something that the kernel does not have.
#[derive(Debug)]
pub(super) struct Lack {
    pub(super) what: String,
    pub(super) remedy: String,
}

impl From<sinew_datapath::Error> for Lack {
    fn from(error: sinew_datapath::Error) -> Self {
        match error {
            sinew_datapath::Error::Unsupported { what, remedy } => {
                Self { what: format!("this kernel lacks {what}"), remedy: remedy.to_owned() }
            }
            error => Self { what: error.to_string(), remedy: "run: sudo sinew doctor".to_owned() },
        }
    }
}

/// The agent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Agent {
    /// It answers.
    Running(Box<sinew_api::Agent>),
    /// None answers there.
    Absent { socket: PathBuf },
    /// It cannot be asked.
    Unknown { error: String, remedy: Option<String> },
}

pub(super) fn gather(context: &Context) -> Facts {
    let pins =
        std::env::var_os("SINEW_PINS").map_or_else(|| "/sys/fs/bpf/sinew".into(), PathBuf::from);
    let cgroup2 = sinew_workload::cgroup::find_root().ok();
    let wanted = cgroup2.as_deref().map(wanted_cgroup);
    let agent = agent(context);
    let root = rustix::process::geteuid().is_root();
    let unused = !matches!(agent, Agent::Running(_)) && !pins.exists();
    Facts {
        kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
        features: sinew_datapath::features(Path::new(TYPES)).map_err(Lack::from),
        grace_period: sinew_datapath::grace_period().map_err(|error| error.to_string()),
        closes: (root && loopback::is_up())
            .then(|| sinew_datapath::closes_connections().map_err(Lack::from)),
        loopback: loopback::is_up(),
        ipv6: has_ipv6(&fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default()),
        limits: wanted.iter().flat_map(|cgroup| cgroup::enforcers(cgroup)).collect(),
        strangers: wanted
            .filter(|_| root && unused)
            .and_then(|cgroup| sinew_agent::strangers(&cgroup).ok()),
        hooks: match &cgroup2 {
            Some(root) => hooks_above(root),
            None => Ok(Vec::new()),
        },
        lookups: foreign_lookups(&pins),
        cgroup2,
        pins_in_bpffs: in_bpffs(&pins),
        pins,
        root,
        capabilities: effective_capabilities(
            &fs::read_to_string("/proc/self/status").unwrap_or_default(),
        ),
        group: has_group(&fs::read_to_string("/etc/group").unwrap_or_default(), "sinew"),
        nsswitch: fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default(),
        nscd: std::os::unix::net::UnixStream::connect("/run/nscd/socket").is_ok(),
        agent,
    }
}

/// Programs on `root` and on every cgroup between it and that of the members.
fn hooks_above(root: &Path) -> io::Result<Vec<Occupied>> {
    let wanted = wanted_cgroup(root);
    let mut occupied = Vec::new();
    let above = wanted.ancestors().skip(1).take_while(|directory| directory.starts_with(root));
    for directory in above.filter(|directory| directory.exists()) {
        occupied.extend(occupancy::occupied(directory)?);
    }
    Ok(occupied)
}

/// Where all that is Sinew's runs, or would.
fn wanted_cgroup(root: &Path) -> PathBuf {
    std::env::var_os("SINEW_CGROUP").map_or_else(|| root.join("sinew"), PathBuf::from)
}

/// Without Sinew's own, which is there while a port is published.
fn foreign_lookups(pins: &Path) -> io::Result<u32> {
    let own = u32::from(pins.join("links/published").exists());
    occupancy::lookups().map(|programs| programs.saturating_sub(own))
}

fn agent(context: &Context) -> Agent {
    let asked = block_on(async { Ok(Client::connect(&context.socket).await?.agent().await?) });
    match asked {
        Ok(agent) => Agent::Running(Box::new(agent)),
        Err(crate::error::Error::Client(ClientError::Unreachable { socket, .. })) => {
            Agent::Absent { socket }
        }
        Err(error) => Agent::Unknown { error: error.to_string(), remedy: error.help() },
    }
}

/// Whether the nearest directory above `pins` that exists is one of a bpf file system.
fn in_bpffs(pins: &Path) -> bool {
    const MAGIC: u32 = 0xcafe_4a11;
    let existing = pins.ancestors().find(|directory| directory.exists());
    let stat = existing.and_then(|directory| rustix::fs::statfs(directory).ok());
    stat.is_some_and(|stat| u32::try_from(stat.f_type).is_ok_and(|kind| kind == MAGIC))
}

/// Whether `lo` has an IPv6 address, as it has wherever IPv6 is on.
fn has_ipv6(if_inet6: &str) -> bool {
    if_inet6.lines().any(|line| line.ends_with(" lo"))
}

fn effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

fn has_group(groups: &str, name: &str) -> bool {
    groups.lines().any(|line| line.split(':').next() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_machine_are_read() {
        assert_eq!(effective_capabilities("Uid:\t0\nCapEff:\t000001ffffffffff\n"), 0x1ff_ffff_ffff);
        assert!(has_group("root:x:0:\nsinew:x:990:me\n", "sinew"));
        let lo = "00000000000000000000000000000001 01 80 10 80       lo\n";
        assert!(has_ipv6(lo) && !has_ipv6("") && !has_ipv6(&lo.replace("lo", "eth0")));
        assert!(!has_group("sinewy:x:990:sinew\n", "sinew"));
    }
}
