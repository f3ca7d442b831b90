//! Who is at the addresses that are to be Sinew's alone, and whose a socket is.

use std::{
    collections::HashSet,
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, Instant},
};

use sinew_abi::address::{self, Kind};
use sinew_datapath::Listener;
use sinew_model::Protocol;

use crate::alloc::Network6;

/// A program of somebody else is at an address of the network's.
#[derive(Debug, thiserror::Error)]
#[error(
    "{who} is at {at}/{protocol}; 127.64.0.0 to 127.111.255.255 are the addresses of services and \
     instances"
)]
pub struct Occupied {
    /// The program.
    pub who: String,
    /// Where it listens.
    pub at: SocketAddr,
    /// With which protocol.
    pub protocol: Protocol,
}

/// Whether an address is one of services, instances or their private loopbacks.
pub(crate) fn is_of_network(ip: IpAddr, network6: Network6) -> bool {
    match ip {
        IpAddr::V4(v4) => address::kind4(u32::from_ne_bytes(v4.octets())) != Kind::Other,
        IpAddr::V6(v6) => v6.octets().starts_with(&network6),
    }
}

/// Looks at what listens before Sinew takes its addresses into use: service addresses cannot be
/// reached any more then, and instances would meet what has theirs. Sockets made below `own`, the
/// cgroup of all that is Sinew's, are left by an agent before this one. Of programs of other users
/// than root one is only told: else any user could keep Sinew from its start.
///
/// # Errors
/// When a program of root has one of them.
pub(crate) fn check(listeners: &[Listener], own: &Path) -> Result<Vec<Occupied>, Occupied> {
    let mut told = Vec::new();
    for stranger in met(listeners, own) {
        match stranger {
            Stranger { occupied, roots: true } => return Err(occupied),
            Stranger { occupied, .. } => told.push(occupied),
        }
    }
    Ok(told)
}

/// Somebody at an address of the network's.
#[derive(Debug)]
pub struct Stranger {
    /// Who, and where.
    pub occupied: Occupied,
    /// Whether it is a program of root's: no agent starts then.
    pub roots: bool,
}

/// Who is at addresses of the network's now; what runs below `own`, the cgroup of all that is Sinew's,
/// may be.
///
/// # Errors
/// When the kernel does not tell.
pub fn strangers(own: &Path) -> Result<Vec<Stranger>, sinew_datapath::Error> {
    Ok(met(&sinew_datapath::listeners()?, own).collect())
}

fn met(listeners: &[Listener], own: &Path) -> impl Iterator<Item = Stranger> {
    let ours = ids_below(own);
    let met = listeners.iter().filter(move |listener| {
        matches!(listener.address, IpAddr::V4(_))
            && is_of_network(listener.address, [0; 6])
            && !ours.contains(&listener.cgroup)
    });
    met.map(|listener| {
        let pid = holder_pid(listener.inode);
        let occupied = Occupied {
            who: pid.and_then(name_of).unwrap_or_else(|| "a program".to_owned()),
            at: SocketAddr::new(listener.address, listener.port),
            protocol: listener.protocol,
        };
        Stranger { occupied, roots: pid.is_none_or(is_roots) }
    })
}

/// One that has just ended is nobody's.
fn is_roots(pid: u32) -> bool {
    fs::metadata(format!("/proc/{pid}")).is_ok_and(|process| process.uid() == 0)
}

/// The numbers of a cgroup and of all below it.
fn ids_below(cgroup: &Path) -> HashSet<u64> {
    let mut found = HashSet::new();
    let mut open = vec![cgroup.to_owned()];
    while let Some(directory) = open.pop() {
        found.extend(fs::metadata(&directory).map(|metadata| metadata.ino()));
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        open.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    found
}

/// The program that holds a socket, as `nginx (process 4711)`; `None` when it is not found.
pub(crate) fn holder(inode: u32) -> Option<String> {
    holder_pid(inode).and_then(name_of)
}

fn name_of(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!("{} (process {pid})", name.trim()))
}

/// A look at all descriptors of all processes takes no longer; who was not found by then stays
/// unnamed.
const PATIENCE: Duration = Duration::from_secs(2);

fn holder_pid(inode: u32) -> Option<u32> {
    holder_before(inode, Instant::now() + PATIENCE)
}

fn holder_before(inode: u32, end: Instant) -> Option<u32> {
    let socket = format!("socket:[{inode}]");
    let holds = |pid: u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut links = descriptors.filter_map(|fd| fs::read_link(fd.path()).ok());
        links.any(|link| link.as_os_str() == socket.as_str())
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.by_ref().take_while(|_| Instant::now() < end).find(|pid| holds(*pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: [u8; 4], cgroup: u64) -> Listener {
        Listener {
            address: address.into(),
            port: 53,
            protocol: Protocol::Udp,
            queue: 0,
            cgroup,
            ipv6_only: false,
            multipath: false,
            inode: 0,
            cookie: 0,
        }
    }

    #[test]
    fn the_search_for_a_holder_ends() {
        let held = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let inode = u32::try_from(rustix::fs::fstat(&held).unwrap().st_ino).unwrap();
        assert_eq!(holder_pid(inode), Some(std::process::id()));
        assert_eq!(holder_before(inode, Instant::now()), None);
    }

    #[test]
    fn strangers_at_addresses_of_the_network_are_named() {
        let own = tempfile::tempdir().unwrap();
        let below = own.path().join("members/svc-web/0");
        fs::create_dir_all(&below).unwrap();
        let ours = fs::metadata(&below).unwrap().ino();
        let check = |address, cgroup| check(&[listener(address, cgroup)], own.path());
        assert!(check([127, 0, 0, 53], 1).is_ok());
        assert!(check([10, 80, 0, 1], 1).is_ok());
        assert!(check([127, 80, 0, 1], ours).is_ok(), "left by an agent before");
        for address in [[127, 64, 0, 1], [127, 80, 0, 1], [127, 111, 255, 255]] {
            let told = check(address, 1).unwrap_err().to_string();
            assert!(told.starts_with("a program is at 127."), "{told}");
        }
    }
}
