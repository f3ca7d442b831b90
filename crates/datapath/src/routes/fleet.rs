//! Routes of the instances of many hosts, and this host's addresses among them.
//!
//! This host's slice is local as a whole: what comes to it is its own, whether or not an instance has
//! the address, and sk_lookup says who gets it. IPv6 addresses have to be addresses of `lo` besides,
//! before a caller can be bound to one. Another host's slice lies behind its own address. Such a route
//! is lost when an interface goes down, and cannot be made while that host is on no network of this
//! one; so all of it is looked at again whenever interfaces, addresses or routes of ours change.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::{IpAddr, Ipv6Addr},
};

use sinew_model::{NodeName, fleet::Network};

use super::{
    Delta, Member, delete, ignore,
    message::{self, Found, NEW_ADDRESS, NEW_ROUTE},
};
use crate::{
    Error, Fleet, Notice, loopback,
    netlink::{CREATE, Connection, Family, Group, REPLACE},
};

/// Where packets to a slice go.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// To this host.
    Here,
    /// To another one, by its own address.
    Via(NodeName, IpAddr),
}

impl Way {
    fn via(&self) -> Option<IpAddr> {
        match self {
            Self::Here => None,
            Self::Via(_, address) => Some(*address),
        }
    }
}

/// Routes to slices.
pub(crate) struct FleetRoutes {
    wanted: BTreeMap<Network, Way>,
    /// Slices of hosts that tell no address of that family.
    nowhere: Vec<Notice>,
    /// Prefixes to which routes of ours may lead.
    known: BTreeSet<Network>,
    /// Addresses that instances of this host are to have.
    addresses: HashSet<Ipv6Addr>,
    /// This host's IPv6 slice.
    slice6: Option<Network>,
    notices: Vec<Notice>,
    /// Slices that a route of ours led to when it was looked last.
    made: BTreeSet<Network>,
    /// Whether this network namespace has IPv6.
    ipv6: bool,
    /// What was found to overlap nothing.
    checked: Option<(Vec<Network>, Vec<Network>)>,
    /// Heard while there are other hosts.
    news: Option<Connection>,
    disturbed: bool,
}

impl FleetRoutes {
    /// Knows that an earlier process may have made routes to these slices, of which some are this
    /// host's `own`.
    pub(crate) fn new(known: BTreeSet<Network>, own: &BTreeSet<Network>) -> Self {
        Self {
            slice6: own.iter().find(|slice| slice.address().is_ipv6()).copied(),
            wanted: BTreeMap::new(),
            nowhere: Vec::new(),
            known,
            addresses: HashSet::new(),
            notices: Vec::new(),
            made: BTreeSet::new(),
            ipv6: true,
            checked: None,
            news: None,
            disturbed: false,
        }
    }

    /// Refuses networks in which this host has addresses already, or to which it has routes; before
    /// anything is changed.
    ///
    /// A route that leads through a gateway to more than the network is none to it: the more special
    /// one wins, as it does over the default route.
    pub(crate) fn check(&mut self, fleet: &Fleet) -> Result<(), Error> {
        let now = (fleet.networks.clone(), fleet.slices.clone());
        if self.checked.as_ref() == Some(&now) {
            return Ok(());
        }
        let mut netlink = connect()?;
        let whole: Vec<Network> = fleet.networks.iter().chain(&fleet.slices).copied().collect();
        let refuse = |network: &Network, with| Error::Overlap { network: *network, with };
        for (address, index) in message::addresses(&mut netlink)? {
            let own = index == message::LOOPBACK_INDEX
                && fleet.slices.iter().any(|slice| slice.contains(address));
            if let Some(network) = whole.iter().find(|n| n.contains(address)).filter(|_| !own) {
                let interface = message::interface(index);
                return Err(refuse(network, format!("the address {address} of {interface}")));
            }
        }
        for Found { destination, via, index, is_ours, .. } in message::routes(&mut netlink)? {
            let beyond = |network: &&Network| {
                network.overlaps(&destination)
                    && !(via.is_some() && destination.prefix_length() < network.prefix_length())
            };
            if let Some(network) = whole.iter().find(beyond).filter(|_| !is_ours) {
                let by = via.map_or_else(String::new, |via| format!(" via {via}"));
                let interface = message::interface(index);
                return Err(refuse(
                    network,
                    format!("the route to {destination}{by} of {interface}"),
                ));
            }
        }
        self.checked = Some(now);
        Ok(())
    }

    /// Takes away what is not wanted any more: first of all, so that nothing comes here that nobody
    /// looks at.
    pub(crate) fn withdraw(&mut self, fleet: Option<&Fleet>, ipv6: bool) -> Result<(), Error> {
        let (wanted, nowhere) = ways(fleet, ipv6);
        self.ipv6 = ipv6;
        let is_own6 =
            |(slice, way): &(&Network, &Way)| slice.address().is_ipv6() && **way == Way::Here;
        let slice6 = wanted.iter().find(is_own6).map(|(slice, _)| *slice);
        // One that left while nobody ran has routes still.
        let as_known = self.news.is_some() || self.known.is_empty();
        if as_known
            && self.news.is_some() == fleet.is_some()
            && wanted == self.wanted
            && nowhere == self.nowhere
        {
            return Ok(());
        }
        self.known.extend(wanted.keys());
        (self.wanted, self.nowhere) = (wanted, nowhere);
        self.disturbed = true;
        if fleet.is_some() && self.news.is_none() {
            use Group::{Addresses4, Addresses6, Links, Routes4, Routes6};
            let groups = [Links, Addresses4, Addresses6, Routes4, Routes6];
            let news = Connection::listen(&groups);
            self.news = Some(news.map_err(|e| Error::system("open a netlink socket", e))?);
        }
        let mut netlink = connect()?;
        self.remove_others(&mut netlink)?;
        if slice6 != self.slice6 {
            self.keep_addresses(&mut netlink, &HashSet::new())?;
            self.slice6 = slice6;
        }
        if fleet.is_none() {
            (self.news, self.checked, self.disturbed) = (None, None, false);
            (self.known, self.notices) = (BTreeSet::new(), Vec::new());
            self.made.clear();
        }
        Ok(())
    }

    fn remove_others(&self, netlink: &mut Connection) -> Result<(), Error> {
        for found in self.ours(netlink)? {
            if self.wanted.get(&found.destination).map(Way::via) != Some(found.via) {
                remove(netlink, &found)?;
            }
        }
        Ok(())
    }

    /// Routes of ours that are there.
    fn ours(&self, netlink: &mut Connection) -> Result<Vec<Found>, Error> {
        let mut found = message::routes(netlink)?;
        found.retain(|route| route.is_ours && self.known.contains(&route.destination));
        Ok(found)
    }

    /// Gives `lo` the addresses of these members among those of all hosts.
    pub(crate) fn set_instances(&mut self, delta: &Delta<Member>) -> Result<(), Error> {
        let addresses = |members: &[Member]| -> HashSet<Ipv6Addr> {
            members.iter().filter_map(|member| member.instance.fleet6).collect()
        };
        let (left, came) = (addresses(&delta.left), addresses(&delta.came));
        let mut wanted = self.addresses.clone();
        wanted.retain(|address| !delta.whole && !left.contains(address));
        wanted.extend(came);
        self.disturbed |= wanted != self.addresses;
        self.addresses = wanted;
        Ok(())
    }

    /// Makes what is missing, when something may be; answers what was lost before.
    pub(crate) fn install(&mut self) -> Result<Vec<&'static str>, Error> {
        // While it is down there is no way to; that it comes up is told.
        if !self.disturbed || !loopback::is_up() {
            return Ok(Vec::new());
        }
        let mut lost = Vec::new();
        let mut netlink = connect()?;
        if self.keep_addresses(&mut netlink, &self.addresses.clone())? {
            lost.push("addresses of instances for other hosts");
        }
        self.remove_others(&mut netlink)?;
        let mut there: BTreeSet<Network> =
            self.ours(&mut netlink)?.into_iter().map(|route| route.destination).collect();
        let mut notices = self.nowhere.clone();
        for (slice, way) in &self.wanted {
            if there.contains(slice) {
                continue;
            }
            if let Some(notice) = make(&mut netlink, slice, way)? {
                notices.push(notice);
                continue;
            }
            there.insert(*slice);
            if self.made.contains(slice) {
                lost.push("routes to hosts");
            }
        }
        lost.dedup();
        self.made = there;
        self.tell(notices);
        self.disturbed = false;
        Ok(lost)
    }

    fn tell(&mut self, mut notices: Vec<Notice>) {
        notices.sort();
        notices.dedup();
        for notice in notices.iter().filter(|notice| !self.notices.contains(notice)) {
            tracing::warn!("{notice}");
        }
        self.notices = notices;
    }

    /// What is in force only in part.
    pub(crate) fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// Looks whether something of ours was lost, or can be made that could not be before.
    pub(crate) fn mend(&mut self) -> (Vec<&'static str>, Result<(), Error>) {
        let waits = !self.notices.is_empty();
        let Some(news) = &mut self.news else { return (Vec::new(), Ok(())) };
        match news.heard(|kind, body| message::may_matter(kind, body, waits)) {
            Ok(heard) => self.disturbed |= heard,
            Err(error) => return (Vec::new(), Err(Error::system("hear of lost routes", error))),
        }
        match self.install() {
            Ok(lost) => (lost, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        }
    }

    /// Whether addresses of `lo` were missing that instances are to have. Those of the slice that no
    /// instance has go.
    fn keep_addresses(
        &self,
        netlink: &mut Connection,
        wanted: &HashSet<Ipv6Addr>,
    ) -> Result<bool, Error> {
        let Some(slice6) = self.slice6.filter(|_| self.ipv6) else { return Ok(false) };
        let mut there = HashSet::new();
        for (address, index) in message::addresses(netlink)? {
            if let IpAddr::V6(six) = address
                && index == message::LOOPBACK_INDEX
                && slice6.contains(address)
            {
                there.insert(six);
            }
        }
        for gone in there.difference(wanted) {
            delete(netlink, *gone)?;
        }
        let new: Vec<_> = wanted.difference(&there).collect();
        for address in &new {
            netlink
                .request(NEW_ADDRESS, REPLACE, &message::address(**address), |_, _| ())
                .map_err(|e| Error::system(format!("add address {address} to lo"), e))?;
        }
        Ok(!new.is_empty())
    }

    /// Removes everything.
    pub(crate) fn remove(&mut self) -> Result<(), Error> {
        self.addresses.clear();
        self.wanted.clear();
        let mut netlink = connect()?;
        self.remove_others(&mut netlink)?;
        self.keep_addresses(&mut netlink, &HashSet::new())?;
        self.slice6 = None;
        self.withdraw(None, self.ipv6)
    }
}

fn connect() -> Result<Connection, Error> {
    Connection::open(Family::Route).map_err(|e| Error::system("open a netlink socket", e))
}

/// Where packets to each slice are to go, and which go nowhere. Where there is no IPv6, that is no
/// news of any host.
fn ways(fleet: Option<&Fleet>, ipv6: bool) -> (BTreeMap<Network, Way>, Vec<Notice>) {
    let (mut ways, mut nowhere) = (BTreeMap::new(), Vec::new());
    let counts = |slice: &&Network| ipv6 || slice.address().is_ipv4();
    for (name, peer) in fleet.iter().flat_map(|fleet| &fleet.peers) {
        for slice in peer.slices.iter().filter(counts) {
            match peer.address_like(slice.address()) {
                Some(address) => drop(ways.insert(*slice, Way::Via(name.clone(), address))),
                None => nowhere.push(Notice::NoAddress { host: name.clone(), slice: *slice }),
            }
        }
    }
    let own = fleet.iter().flat_map(|fleet| &fleet.slices).filter(counts);
    ways.extend(own.map(|slice| (*slice, Way::Here)));
    (ways, nowhere)
}

/// Makes a route; why not, when it is not to be.
fn make(netlink: &mut Connection, slice: &Network, way: &Way) -> Result<Option<Notice>, Error> {
    let made = netlink.request(NEW_ROUTE, CREATE, &message::to_slice(slice, way.via()), |_, _| ());
    let Err(error) = made else { return Ok(None) };
    match (way, error.raw_os_error()) {
        (Way::Via(host, _), Some(libc::EEXIST)) => {
            Ok(Some(Notice::RouteTaken { host: host.clone(), slice: *slice }))
        }
        // There is no way to the gateway but through another one, or it is this host itself, or no
        // address of a host at all: one host's fault is not to keep the others from being reached.
        (Way::Via(host, address), _) => {
            Ok(Some(Notice::OffNetwork { host: host.clone(), address: *address }))
        }
        (Way::Here, Some(libc::EEXIST)) => Ok(None),
        _ => Err(Error::system(format!("make a route to {slice}"), error)),
    }
}

fn remove(netlink: &mut Connection, route: &Found) -> Result<(), Error> {
    let body = message::to_slice(&route.destination, route.via);
    let done = netlink.request(super::DELETE_ROUTE, 0, &body, |_, _| ());
    ignore(done, libc::ESRCH)
        .map_err(|e| Error::system(format!("remove the route to {}", route.destination), e))
}
