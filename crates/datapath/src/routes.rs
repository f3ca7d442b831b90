//! Routes and addresses of the network namespace.
//!
//! Service addresses exist inside connect() only: an `unreachable` route keeps everybody else off
//! them. IPv4 instance addresses are loopback addresses and need nothing to work; since the routes
//! of the services lie beside theirs, a route that says the same once more spares each look-up of
//! one the way back to that of 127.0.0.0/8. IPv6 ones have to be addresses of `lo` before a program
//! can bind them.

use std::{
    collections::HashSet,
    io,
    net::{Ipv4Addr, Ipv6Addr},
};

use sinew_abi::address;

use crate::{
    Error,
    layout::{Delta, Member},
    netlink::{Connection, DUMP, Family, REPLACE, attribute, find_attribute},
};

const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TABLE_LOCAL: u8 = 255;
/// Of `rtm_type`.
const LOCAL_ROUTE: u8 = 2;
const UNREACHABLE: u8 = 7;
/// Of `rtm_scope`.
const EVERYWHERE: u8 = 0;
const HOST: u8 = 254;
/// Marks our routes (`rtm_protocol`), so that a stranger can tell whose they are.
const PROTOCOL: u8 = 83;
/// No duplicate address detection: the address is ours alone.
const NO_DAD: u8 = 2;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const DESTINATION: u16 = 1;
const OUT_INTERFACE: u16 = 4;
const PREFERRED_SOURCE: u16 = 7;
const LOOPBACK_INDEX: u32 = 1;

/// The service ranges of a network.
pub(crate) struct Routes {
    network6: [u8; 6],
    addresses: HashSet<Ipv6Addr>,
    ipv6: bool,
}

fn v6(network: &[u8; 6], subnet: u16, host: u64) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets[..6].copy_from_slice(network);
    octets[6..8].copy_from_slice(&subnet.to_be_bytes());
    octets[8..].copy_from_slice(&host.to_be_bytes());
    octets.into()
}

fn route(family: u8, prefix: &[u8], length: u8, scope: u8, kind: u8) -> Vec<u8> {
    let mut body = vec![family, length, 0, 0, TABLE_LOCAL, PROTOCOL, scope, kind, 0, 0, 0, 0];
    attribute(&mut body, DESTINATION, prefix);
    body
}

/// Keeps everybody off a range of service addresses.
fn unreachable(family: u8, prefix: &[u8], length: u8) -> Vec<u8> {
    route(family, prefix, length, EVERYWHERE, UNREACHABLE)
}

/// What the route of 127.0.0.0/8 says, of instances alone.
fn instances4() -> Vec<u8> {
    let first = Ipv4Addr::new(127, address::INSTANCES4, 0, 0);
    let mut body = route(AF_INET, &first.octets(), 12, HOST, LOCAL_ROUTE);
    attribute(&mut body, OUT_INTERFACE, &LOOPBACK_INDEX.to_ne_bytes());
    attribute(&mut body, PREFERRED_SOURCE, &Ipv4Addr::LOCALHOST.octets());
    body
}

impl Routes {
    /// Installs the unreachable routes and reads back which instance addresses `lo` has.
    pub(crate) fn install(network6: [u8; 6]) -> Result<Self, Error> {
        let mut routes = Self { network6, addresses: HashSet::new(), ipv6: true };
        let mut netlink = routes.connect()?;
        for (family, route) in routes.all() {
            match netlink.request(NEW_ROUTE, REPLACE, &route, |_, _| ()) {
                Err(error) if family == AF_INET6 => {
                    tracing::warn!(%error, "IPv6 is off in this network namespace: IPv4 only");
                    routes.ipv6 = false;
                }
                // It only makes look-ups shorter.
                Err(error) if route == instances4() => {
                    tracing::warn!(%error, "instances have no route of their own");
                }
                done => {
                    done.map_err(|e| {
                        Error::system("set the routes of the service and instance addresses", e)
                    })?;
                }
            }
        }
        if routes.ipv6 {
            routes.addresses = routes.list(&mut netlink)?;
        }
        Ok(routes)
    }

    fn connect(&self) -> Result<Connection, Error> {
        Connection::open(Family::Route).map_err(|e| Error::system("open a netlink socket", e))
    }

    /// Families and routes.
    fn all(&self) -> [(u8, Vec<u8>); 3] {
        let first = Ipv4Addr::new(127, address::SERVICES4, 0, 0);
        let first6 = v6(&self.network6, address::SERVICES6, 0);
        [
            (AF_INET, unreachable(AF_INET, &first.octets(), 12)),
            (AF_INET, instances4()),
            (AF_INET6, unreachable(AF_INET6, &first6.octets(), 64)),
        ]
    }

    fn list(&self, netlink: &mut Connection) -> Result<HashSet<Ipv6Addr>, Error> {
        let mut found = HashSet::new();
        netlink
            .request(GET_ADDRESS, DUMP, &[AF_INET6, 0, 0, 0, 0, 0, 0, 0], |kind, body| {
                let octets = body.get(8..).and_then(|a| find_attribute(a, ADDRESS));
                if kind == NEW_ADDRESS
                    && let Some(octets) = octets.and_then(|o| <[u8; 16]>::try_from(o).ok())
                    && octets[..6] == self.network6
                {
                    found.insert(Ipv6Addr::from(octets));
                }
            })
            .map_err(|e| Error::system("list addresses", e))?;
        Ok(found)
    }

    /// Gives `lo` the addresses of these members, and their private loopbacks.
    pub(crate) fn set_instances(&mut self, delta: &Delta<Member>) -> Result<(), Error> {
        let addresses = |members: &[Member]| -> HashSet<Ipv6Addr> {
            let own = members.iter().map(|member| member.instance.address6);
            own.flat_map(|address| [address, private(address)]).collect()
        };
        let left = if delta.whole { self.addresses.clone() } else { addresses(&delta.left) };
        self.change(&left, &addresses(&delta.came))
    }

    fn change(&mut self, left: &HashSet<Ipv6Addr>, came: &HashSet<Ipv6Addr>) -> Result<(), Error> {
        let gone: Vec<_> =
            left.difference(came).filter(|a| self.addresses.contains(a)).copied().collect();
        let new: Vec<_> = came.difference(&self.addresses).copied().collect();
        if !self.ipv6 || (gone.is_empty() && new.is_empty()) {
            return Ok(());
        }
        let mut netlink = self.connect()?;
        for gone in gone {
            change(&mut netlink, DELETE_ADDRESS, 0, gone, libc::EADDRNOTAVAIL)?;
            self.addresses.remove(&gone);
        }
        for new in new {
            change(&mut netlink, NEW_ADDRESS, REPLACE, new, libc::EEXIST)?;
            self.addresses.insert(new);
        }
        Ok(())
    }

    /// Removes everything.
    pub(crate) fn remove(&mut self) -> Result<(), Error> {
        self.change(&self.addresses.clone(), &HashSet::new())?;
        let mut netlink = self.connect()?;
        for (family, route) in self.all() {
            if family == AF_INET6 && !self.ipv6 {
                continue;
            }
            let done = netlink.request(DELETE_ROUTE, 0, &route, |_, _| ());
            ignore(done, libc::ESRCH).map_err(|e| Error::system("remove a route", e))?;
        }
        Ok(())
    }
}

/// The private loopback of an instance.
fn private(instance: Ipv6Addr) -> Ipv6Addr {
    let mut segments = instance.segments();
    segments[3] = address::LOOPBACKS6;
    segments.into()
}

fn change(
    netlink: &mut Connection,
    kind: u16,
    flags: u16,
    address: Ipv6Addr,
    fine: i32,
) -> Result<(), Error> {
    let mut body = vec![AF_INET6, 128, NO_DAD, 0];
    body.extend(LOOPBACK_INDEX.to_ne_bytes());
    attribute(&mut body, LOCAL, &address.octets());
    attribute(&mut body, ADDRESS, &address.octets());
    ignore(netlink.request(kind, flags, &body, |_, _| ()), fine)
        .map_err(|e| Error::system(format!("change address {address} of lo"), e))
}

fn ignore(result: io::Result<()>, fine: i32) -> io::Result<()> {
    match result {
        Err(e) if e.raw_os_error() == Some(fine) => Ok(()),
        other => other,
    }
}
