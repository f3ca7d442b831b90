//! Where a program listens: the kernel's list of listeners, and whose sockets they are.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashSet, btree_map::Entry},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use sinew_datapath::Listener;
use sinew_model::Port;

use super::{Place, Places};
use crate::core::Family;

/// Inodes of the sockets that these processes hold open.
pub(crate) fn sockets_of(pids: &[u32]) -> HashSet<u32> {
    let links = pids.iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).into_iter());
    links
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let link = fs::read_link(entry.path()).ok()?;
            link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect()
}

/// Of `listeners`, those that are `own` and on `ports`. When a port has several, one bound to
/// loopback is taken before one bound to all addresses, and that before any other.
pub(crate) fn places_of(listeners: &[Listener], own: &HashSet<u32>, ports: &[Port]) -> Places {
    let mut places = Places::new();
    let declared =
        |l: &&Listener| ports.iter().any(|p| p.protocol == l.protocol && p.number == l.port);
    for listener in listeners.iter().filter(declared).filter(|l| own.contains(&l.inode)) {
        for (family, address, wildcard) in reached(listener) {
            let place = Place { address, wildcard, sockets: BTreeSet::from([listener.cookie]) };
            match places.entry((listener.protocol, listener.port, family)) {
                Entry::Vacant(entry) => {
                    entry.insert(place);
                }
                Entry::Occupied(mut entry) => better(entry.get_mut(), place),
            }
        }
    }
    places
}

/// Several sockets may share an address.
fn better(known: &mut Place, found: Place) {
    match rank(&found).cmp(&rank(known)) {
        Ordering::Less => *known = found,
        Ordering::Equal => known.sockets.extend(found.sockets),
        Ordering::Greater => {}
    }
}

fn rank(place: &Place) -> (u8, IpAddr) {
    let nearness = match (place.address.is_loopback(), place.wildcard) {
        (true, false) => 0,
        (_, true) => 1,
        (false, false) => 2,
    };
    (nearness, place.address)
}

fn reached(listener: &Listener) -> Vec<(Family, IpAddr, bool)> {
    let (all4, all6) = (
        (Family::V4, Ipv4Addr::LOCALHOST.into(), true),
        (Family::V6, Ipv6Addr::LOCALHOST.into(), true),
    );
    match listener.address {
        IpAddr::V4(address) if address.is_unspecified() => vec![all4],
        IpAddr::V6(address) if address.is_unspecified() && listener.ipv6_only => vec![all6],
        IpAddr::V6(address) if address.is_unspecified() => vec![all4, all6],
        IpAddr::V4(address) => vec![(Family::V4, address.into(), false)],
        IpAddr::V6(address) => vec![(Family::V6, address.into(), false)],
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, os::fd::AsRawFd as _};

    use sinew_model::Protocol;

    use super::*;

    fn listener(address: &str, inode: u32, ipv6_only: bool) -> Listener {
        let address = address.parse().unwrap();
        let (port, protocol, multipath) = (80, Protocol::Tcp, false);
        let (queue, cgroup, cookie) = (0, 0, inode.into());
        Listener { address, port, protocol, queue, cgroup, ipv6_only, multipath, inode, cookie }
    }

    fn found(listeners: &[Listener]) -> Vec<String> {
        let ports = [serde_json::from_str(r#"{"name":"a","number":80,"protocol":"tcp"}"#).unwrap()];
        let own = HashSet::from([1, 2, 3]);
        let all = places_of(listeners, &own, &ports);
        all.values()
            .map(|p| format!("{}{}", p.address, if p.wildcard { "*" } else { "" }))
            .collect()
    }

    #[test]
    fn a_wildcard_is_reached_by_loopback() {
        assert_eq!(found(&[listener("0.0.0.0", 1, false)]), ["127.0.0.1*"]);
        assert_eq!(found(&[listener("::", 1, false)]), ["127.0.0.1*", "::1*"]);
        assert_eq!(found(&[listener("::", 1, true)]), ["::1*"]);
        assert_eq!(found(&[listener("10.0.0.7", 1, false)]), ["10.0.0.7"]);
        assert_eq!(found(&[listener("0.0.0.0", 9, false)]), [""; 0], "somebody else's");
        let other_port = Listener { port: 81, ..listener("0.0.0.0", 1, false) };
        assert_eq!(found(&[other_port]), [""; 0]);
    }

    #[test]
    fn of_several_the_nearest_is_taken() {
        let all = [
            listener("10.0.0.7", 1, false),
            listener("0.0.0.0", 2, false),
            listener("127.0.0.1", 3, false),
        ];
        assert_eq!(found(&all), ["127.0.0.1"]);
        assert_eq!(found(&all[..2]), ["127.0.0.1*"]);
    }

    #[test]
    fn all_that_share_the_place_are_known() {
        let all = [
            listener("0.0.0.0", 1, false),
            listener("127.0.0.1", 2, false),
            listener("127.0.0.1", 3, false),
        ];
        let ports = [serde_json::from_str(r#"{"name":"a","number":80,"protocol":"tcp"}"#).unwrap()];
        let places = places_of(&all, &HashSet::from([1, 2, 3]), &ports);
        let sockets: Vec<_> = places.values().map(|place| place.sockets.clone()).collect();
        assert_eq!(sockets, [BTreeSet::from([2, 3])]);
    }

    #[test]
    fn sockets_are_found_by_their_holders() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        let inode = link.to_str().unwrap()["socket:[".len()..].trim_end_matches(']').parse();
        assert!(sockets_of(&[std::process::id()]).contains(&inode.unwrap()));
        assert!(sockets_of(&[u32::MAX]).is_empty());
    }
}
