//! Bodies of the rtnetlink requests about routes, rules and addresses.
//!
//! Format: include/uapi/linux/rtnetlink.h, fib_rules.h and if_addr.h.

use std::{
    collections::HashSet,
    ffi::CStr,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use sinew_abi::address;
use sinew_model::fleet::Network;

use crate::{
    Error,
    netlink::{CREATE, Connection, DUMP, REPLACE, attribute, find_attribute},
};

const NEW_LINK: u16 = 16;
pub(super) const NEW_ADDRESS: u16 = 20;
pub(super) const DELETE_ADDRESS: u16 = 21;
pub(super) const GET_ADDRESS: u16 = 22;
pub(super) const DELETE_ROUTE: u16 = 25;
pub(super) const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
const NEW_RULE: u16 = 32;
const DELETE_RULE: u16 = 33;

pub(super) const AF_INET: u8 = 2;
pub(super) const AF_INET6: u8 = 10;

const TABLE_LOCAL: u8 = 255;
const TABLE_MAIN: u8 = 254;
/// `rtm_table` of a table whose number takes more than a byte: an attribute holds it.
const TABLE_ELSEWHERE: u8 = 252;
/// Holds what is local for packets made on this host alone: "Sine" in ASCII, so that nobody else
/// has it by chance. Networks of one namespace share it, each with prefixes of its own.
const OWN_TABLE: u32 = 0x5369_6e65;
/// Of the rule that leads there: soon after the table local (0), and before what others add to
/// route by (VPNs from about 5000 on), which may claim every destination.
const RULE_PRIORITY: u32 = 53;

/// Of `rtm_type`.
const UNICAST: u8 = 1;
const LOCAL_ROUTE: u8 = 2;
const UNREACHABLE: u8 = 7;
/// Of a rule's `action`.
const TO_TABLE: u8 = 1;
/// Of `rtm_scope`.
const EVERYWHERE: u8 = 0;
const HOST: u8 = 254;
/// `IFA_F_TEMPORARY`, `IFA_F_DADFAILED`, `IFA_F_DEPRECATED` and `IFA_F_TENTATIVE`.
const PASSING: u8 = 0x01 | 0x08 | 0x20 | 0x40;
/// Marks our routes and rules (their protocol), so that a stranger can tell whose they are.
const PROTOCOL: u8 = 83;
const KERNEL_PROTOCOL: u8 = 2;
/// Offset of `rtm_protocol`.
const PROTOCOL_AT: usize = 5;

/// No duplicate address detection: the address is ours alone.
const NO_DAD: u32 = 2;
/// No route to the address in the table main, which could be forwarded by.
const NO_PREFIX_ROUTE: u32 = 0x200;

/// Attributes of addresses.
pub(super) const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const FLAGS: u16 = 8;
/// Of routes.
pub(super) const DESTINATION: u16 = 1;
const OUT_INTERFACE: u16 = 4;
const GATEWAY: u16 = 5;
/// Of routes with several ways.
const MULTIPATH: u16 = 9;
const PREFERRED_SOURCE: u16 = 7;
const TABLE: u16 = 15;
/// Of rules, which have `DESTINATION` and `TABLE` too.
const IN_INTERFACE: u16 = 3;
const PRIORITY: u16 = 6;
const RULE_PROTOCOL: u16 = 21;

pub(super) const LOOPBACK_INDEX: u32 = 1;

/// What stands as long as the network does.
pub(super) struct Standing {
    pub(super) family: u8,
    pub(super) make: u16,
    /// With `make`; making it again changes nothing.
    pub(super) flags: u16,
    pub(super) unmake: u16,
    /// Whether the network works only with it.
    pub(super) needed: bool,
    pub(super) body: Vec<u8>,
}

/// All of it, in the order in which it is made.
pub(super) fn standing(network6: &[u8; 6]) -> [Standing; 6] {
    let services4 = Ipv4Addr::new(127, address::SERVICES4, 0, 0);
    let services6 = subnet6(network6, address::SERVICES6);
    let route = |family, body| Standing {
        family,
        make: NEW_ROUTE,
        flags: REPLACE,
        unmake: DELETE_ROUTE,
        needed: true,
        body,
    };
    [
        route(AF_INET, unreachable(AF_INET, &services4.octets(), 12)),
        // It only makes look-ups shorter.
        Standing { needed: false, ..route(AF_INET, instances4()) },
        route(AF_INET6, unreachable(AF_INET6, &services6.octets(), 64)),
        route(AF_INET6, local6(&subnet6(network6, address::INSTANCES6))),
        route(AF_INET6, local6(&subnet6(network6, address::LOOPBACKS6))),
        Standing {
            family: AF_INET6,
            make: NEW_RULE,
            flags: CREATE,
            unmake: DELETE_RULE,
            needed: true,
            body: from_here(&subnet6(network6, 0)),
        },
    ]
}

/// Whether the kernel tells that something of ours may be lost: an address of `wanted`, a route or rule
/// of ours, or whatever lay on `lo` while that was down.
pub(super) fn is_loss(kind: u16, body: &[u8], wanted: &HashSet<Ipv6Addr>) -> bool {
    let index = body.get(4..8).and_then(|index| index.try_into().ok()).map(u32::from_ne_bytes);
    match kind {
        NEW_LINK => index == Some(LOOPBACK_INDEX),
        DELETE_ADDRESS => {
            let address = body.get(8..).and_then(|a| find_attribute(a, ADDRESS));
            let address = address.and_then(|octets| <[u8; 16]>::try_from(octets).ok());
            address.is_some_and(|octets| wanted.contains(&Ipv6Addr::from(octets)))
        }
        DELETE_ROUTE => body.get(PROTOCOL_AT) == Some(&PROTOCOL),
        // It does not say whose it was in a place that all kernels have.
        DELETE_RULE => true,
        _ => false,
    }
}

/// Of the route that the kernel makes of an address of `lo` ([`kernel_route`]): which address, and
/// whether the route has come or gone.
pub(super) fn way_to(kind: u16, body: &[u8]) -> Option<(Ipv6Addr, bool)> {
    let has_come = match kind {
        NEW_ROUTE => true,
        DELETE_ROUTE => false,
        _ => return None,
    };
    let [family, length, _, _, table, protocol, _, route] = *body.first_chunk::<8>()?;
    let is_such = [family, length, table, protocol, route]
        == [AF_INET6, 128, TABLE_LOCAL, KERNEL_PROTOCOL, LOCAL_ROUTE];
    let octets = find_attribute(body.get(12..)?, DESTINATION)?;
    is_such.then_some((<[u8; 16]>::try_from(octets).ok()?.into(), has_come))
}

/// Whether the kernel tells of something by which routes to other hosts may be lost or become possible;
/// `waits`: some are not there yet.
pub(super) fn may_matter(kind: u16, body: &[u8], waits: bool) -> bool {
    match kind {
        NEW_LINK | NEW_ADDRESS | DELETE_ADDRESS => true,
        DELETE_ROUTE => waits || body.get(PROTOCOL_AT) == Some(&PROTOCOL),
        NEW_ROUTE => waits,
        _ => false,
    }
}

/// A route in the tables that every packet is looked up in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) destination: Network,
    pub(super) via: Option<IpAddr>,
    /// Of the interface that it leads to; 0: several, or none.
    pub(super) index: u32,
    pub(super) is_ours: bool,
}

/// Routes of the table main, and those of ours among the local ones.
pub(super) fn routes(netlink: &mut Connection) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        netlink
            .request(GET_ROUTE, DUMP, &[family, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], |kind, body| {
                if kind == NEW_ROUTE {
                    found.extend(read_route(body));
                }
            })
            .map_err(|e| Error::system("list routes", e))?;
    }
    Ok(found)
}

fn read_route(body: &[u8]) -> Option<Found> {
    let [_, length, _, _, table, protocol, _, kind] = *body.first_chunk::<8>()?;
    let is_ours = protocol == PROTOCOL;
    let counts = match table {
        TABLE_MAIN => true,
        TABLE_LOCAL => is_ours && kind == LOCAL_ROUTE,
        _ => false,
    };
    let attributes = body.get(12..)?;
    let gateway = |attributes| find_attribute(attributes, GATEWAY).and_then(read_address);
    // Of several ways the first one tells whether they lead through gateways.
    let via = gateway(attributes).or_else(|| {
        // `struct rtnexthop`, then its attributes.
        find_attribute(attributes, MULTIPATH).and_then(|ways| gateway(ways.get(8..)?))
    });
    let index = find_attribute(attributes, OUT_INTERFACE).and_then(|index| index.try_into().ok());
    let destination = read_address(find_attribute(attributes, DESTINATION)?)?;
    let destination = Network::new(destination, length.into()).ok()?;
    let index = index.map_or(0, u32::from_ne_bytes);
    counts.then_some(Found { destination, via, index, is_ours })
}

fn read_address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

/// All addresses of this host, with the numbers of their interfaces.
pub(super) fn addresses(netlink: &mut Connection) -> Result<Vec<(IpAddr, u32)>, Error> {
    let all = addresses_in_full(netlink)?.into_iter();
    Ok(all.map(|found| (found.address, found.index)).collect())
}

/// An address of this host.
pub(super) struct Address {
    pub(super) address: IpAddr,
    /// Of its interface.
    pub(super) index: u32,
    /// Whether others may be told of it: neither of this link or host alone, nor one that comes and
    /// goes (RFC 8981), nor one that is not to be used yet or any more.
    pub(super) is_lasting: bool,
}

/// The same with what else is known of each.
pub(super) fn addresses_in_full(netlink: &mut Connection) -> Result<Vec<Address>, Error> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6] {
        netlink
            .request(GET_ADDRESS, DUMP, &[family, 0, 0, 0, 0, 0, 0, 0], |kind, body| {
                let attributes = body.get(8..).unwrap_or_default();
                // Of two ends that an interface joins, the local one.
                let octets = find_attribute(attributes, LOCAL)
                    .or_else(|| find_attribute(attributes, ADDRESS));
                let index = body.get(4..8).and_then(|index| index.try_into().ok());
                let index = index.map(u32::from_ne_bytes);
                if kind == NEW_ADDRESS
                    && let (Some(address), Some(index)) = (octets.and_then(read_address), index)
                {
                    let flags = body.get(2).copied().unwrap_or_default();
                    let is_lasting = body.get(3) == Some(&EVERYWHERE) && flags & PASSING == 0;
                    found.push(Address { address, index, is_lasting });
                }
            })
            .map_err(|e| Error::system("list addresses", e))?;
    }
    Ok(found)
}

/// The name of an interface, as far as it has one.
pub(super) fn interface(index: u32) -> String {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the kernel writes at most that many bytes, with a zero at their end.
    let known = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    if known.is_null() {
        return "this host".to_owned();
    }
    // SAFETY: as above.
    unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned()
}

/// A route to a slice: by a gateway to another host's, else this host's own, local as a whole.
pub(super) fn to_slice(slice: &Network, via: Option<IpAddr>) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(four) => four.octets().to_vec(),
        IpAddr::V6(six) => six.octets().to_vec(),
    };
    let family = if slice.address().is_ipv4() { AF_INET } else { AF_INET6 };
    let prefix = octets(slice.address());
    let Some(via) = via else {
        let mut body = route(family, &prefix, slice.prefix_length(), HOST, LOCAL_ROUTE);
        attribute(&mut body, OUT_INTERFACE, &LOOPBACK_INDEX.to_ne_bytes());
        return body;
    };
    let length = slice.prefix_length();
    let mut body =
        vec![family, length, 0, 0, TABLE_MAIN, PROTOCOL, EVERYWHERE, UNICAST, 0, 0, 0, 0];
    attribute(&mut body, DESTINATION, &prefix);
    attribute(&mut body, GATEWAY, &octets(via));
    body
}

fn subnet6(network6: &[u8; 6], subnet: u16) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets[..6].copy_from_slice(network6);
    octets[6..8].copy_from_slice(&subnet.to_be_bytes());
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

/// Makes a /64 local to those who look into our table.
fn local6(first: &Ipv6Addr) -> Vec<u8> {
    let kind = LOCAL_ROUTE;
    let mut body = vec![AF_INET6, 64, 0, 0, TABLE_ELSEWHERE, PROTOCOL, HOST, kind, 0, 0, 0, 0];
    attribute(&mut body, DESTINATION, &first.octets());
    attribute(&mut body, OUT_INTERFACE, &LOOPBACK_INDEX.to_ne_bytes());
    attribute(&mut body, TABLE, &OWN_TABLE.to_ne_bytes());
    body
}

/// Packets to the /48 that this host made look into our table. They bear `lo` as where they came
/// from, also before they went anywhere.
fn from_here(first: &Ipv6Addr) -> Vec<u8> {
    let mut body = vec![AF_INET6, 48, 0, 0, TABLE_ELSEWHERE, 0, 0, TO_TABLE, 0, 0, 0, 0];
    attribute(&mut body, DESTINATION, &first.octets());
    attribute(&mut body, IN_INTERFACE, b"lo\0");
    attribute(&mut body, PRIORITY, &RULE_PRIORITY.to_ne_bytes());
    attribute(&mut body, TABLE, &OWN_TABLE.to_ne_bytes());
    attribute(&mut body, RULE_PROTOCOL, &[PROTOCOL]);
    body
}

/// An address of `lo`.
pub(super) fn address(address: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![AF_INET6, 128, 0, 0];
    body.extend(LOOPBACK_INDEX.to_ne_bytes());
    attribute(&mut body, LOCAL, &address.octets());
    attribute(&mut body, ADDRESS, &address.octets());
    attribute(&mut body, FLAGS, &(NO_DAD | NO_PREFIX_ROUTE).to_ne_bytes());
    body
}

/// The route that the kernel makes of an address of `lo`.
pub(super) fn kernel_route(address: Ipv6Addr) -> Vec<u8> {
    let (table, protocol) = (TABLE_LOCAL, KERNEL_PROTOCOL);
    let mut body = vec![AF_INET6, 128, 0, 0, table, protocol, HOST, LOCAL_ROUTE, 0, 0, 0, 0];
    attribute(&mut body, DESTINATION, &address.octets());
    attribute(&mut body, OUT_INTERFACE, &LOOPBACK_INDEX.to_ne_bytes());
    body
}
