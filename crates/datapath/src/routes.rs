//! Routes and addresses of the network namespace.
//!
//! Service addresses exist inside connect() only: an `unreachable` route keeps everybody else off
//! them. IPv4 instance addresses are loopback addresses and need nothing to work; since the routes
//! of the services lie beside theirs, a route that says the same once more spares each look-up of
//! one the way back to that of 127.0.0.0/8.
//!
//! IPv6 ones have to be addresses of `lo` before a program can bind them. The kernel would take
//! packets for such an address from every interface: it looks where an address is local, not where
//! it belongs. So the routes that it makes of them go, and a table of ours, which only packets of
//! this host look into, says that the ranges are local.
//!
//! All of it may be lost, the addresses and most routes whenever `lo` goes down. The kernel tells.

use std::{
    collections::HashSet,
    io,
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use sinew_abi::address;

use self::message::{
    ADDRESS, AF_INET6, DELETE_ADDRESS, DELETE_ROUTE, GET_ADDRESS, NEW_ADDRESS, Standing,
};
use crate::{
    Error,
    layout::{Delta, Member},
    loopback,
    netlink::{CREATE, Connection, DUMP, Family, Group, REPLACE, find_attribute},
};

mod beside;
mod fleet;
mod message;

pub use beside::beside;
pub(crate) use fleet::FleetRoutes;

/// In which the kernel makes the route of a new address; it takes microseconds.
const ROUTE_COMES: Duration = Duration::from_secs(5);

/// The service ranges of a network.
pub(crate) struct Routes {
    network6: [u8; 6],
    /// Those that `lo` was given.
    addresses: HashSet<Ipv6Addr>,
    /// Those that it is to have.
    wanted: HashSet<Ipv6Addr>,
    ipv6: bool,
    news: Connection,
    /// Something of ours may have been lost.
    disturbed: bool,
    /// To which of its addresses the kernel has made a route of its own that is still there: it does
    /// so a little after `lo` came up.
    open: HashSet<Ipv6Addr>,
}

impl Routes {
    /// Installs what stands as long as the network, and reads back which instance addresses `lo`
    /// has.
    pub(crate) fn install(network6: [u8; 6]) -> Result<Self, Error> {
        use Group::{Addresses6, Links, Routes4, Routes6, Rules6};
        let news = Connection::listen(&[Links, Routes4, Addresses6, Routes6, Rules6])
            .map_err(|e| Error::system("open a netlink socket", e))?;
        let mut routes = Self {
            network6,
            addresses: HashSet::new(),
            wanted: HashSet::new(),
            ipv6: true,
            news,
            disturbed: false,
            open: HashSet::new(),
        };
        let mut netlink = routes.connect()?;
        routes.make_standing(&mut netlink, None)?;
        routes.read_back(&mut netlink)?;
        Ok(routes)
    }

    /// Makes what stands as long as the network; whether any of it is new. The ways to make it are
    /// those that each has, or the given one.
    fn make_standing(&mut self, netlink: &mut Connection, way: Option<u16>) -> Result<bool, Error> {
        let (mut ipv6, mut new) = (true, false);
        for standing in message::standing(&self.network6) {
            let Standing { family, make, flags, needed, body, .. } = standing;
            if family == AF_INET6 && !ipv6 {
                continue;
            }
            match netlink.request(make, way.unwrap_or(flags), &body, |_, _| ()) {
                Ok(()) => new = true,
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                Err(error) if family == AF_INET6 => {
                    if self.ipv6 {
                        tracing::warn!(%error, "IPv6 is off in this network namespace: IPv4 only");
                    }
                    ipv6 = false;
                }
                Err(error) if !needed => {
                    tracing::warn!(%error, "instances have no route of their own");
                }
                Err(error) => {
                    let what = "set the routes of the service and instance addresses";
                    return Err(Error::system(what, error));
                }
            }
        }
        self.ipv6 = ipv6;
        Ok(new)
    }

    /// Sees which addresses `lo` has. An agent that was killed may have left some open, and the
    /// kernel opens those that stay when `lo` was down.
    fn read_back(&mut self, netlink: &mut Connection) -> Result<(), Error> {
        if self.ipv6 {
            self.addresses = self.list(netlink)?;
            for address in &self.addresses {
                close(netlink, *address)?;
            }
        }
        Ok(())
    }

    /// Puts back what was lost, when something may have been; answers what that was.
    pub(crate) fn mend(&mut self) -> (Vec<&'static str>, Result<(), Error>) {
        let mut lost = Vec::new();
        let done = self.put_back(&mut lost);
        (lost, done)
    }

    fn put_back(&mut self, lost: &mut Vec<&'static str>) -> Result<(), Error> {
        let (open, wanted) = (&mut self.open, &self.wanted);
        let heard = self.news.heard(|kind, body| {
            match message::way_to(kind, body) {
                Some((address, true)) => drop(open.insert(address)),
                Some((address, false)) => drop(open.remove(&address)),
                None => {}
            }
            message::is_loss(kind, body, wanted)
        });
        self.disturbed |= heard.map_err(|e| Error::system("hear of lost routes", e))?;
        // A look at everything closes it, and is repeated until nothing of it fails.
        self.disturbed |= self.open.drain().any(|address| self.addresses.contains(&address));
        // While it is down there is no way to; that it comes up is told.
        if !self.disturbed || !loopback::is_up() {
            return Ok(());
        }
        let mut netlink = self.connect()?;
        if self.make_standing(&mut netlink, Some(CREATE))? {
            lost.push("routes");
        }
        self.read_back(&mut netlink)?;
        if self.ipv6 && !self.wanted.is_subset(&self.addresses) {
            lost.push("addresses");
        }
        self.change(&self.addresses.clone(), &self.wanted.clone())?;
        self.disturbed = false;
        Ok(())
    }

    /// Whether the network namespace has IPv6.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.ipv6
    }

    fn connect(&self) -> Result<Connection, Error> {
        Connection::open(Family::Route).map_err(|e| Error::system("open a netlink socket", e))
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
        let (left, came) = (addresses(&delta.left), addresses(&delta.came));
        if delta.whole {
            self.wanted.clone_from(&came);
            return self.change(&self.addresses.clone(), &came);
        }
        self.wanted.retain(|address| !left.contains(address));
        self.wanted.extend(&came);
        self.change(&left, &came)
    }

    fn change(&mut self, left: &HashSet<Ipv6Addr>, came: &HashSet<Ipv6Addr>) -> Result<(), Error> {
        let gone: Vec<_> =
            left.difference(came).filter(|a| self.addresses.contains(a)).copied().collect();
        let new: Vec<_> = came.difference(&self.addresses).copied().collect();
        if !self.ipv6 || (gone.is_empty() && new.is_empty()) {
            return Ok(());
        }
        // The kernel makes no route to an address then. When it comes up, all is looked at.
        if !loopback::is_up() {
            self.disturbed = true;
            return Ok(());
        }
        let mut netlink = self.connect()?;
        for gone in gone {
            delete(&mut netlink, gone)?;
            self.addresses.remove(&gone);
        }
        self.add(&mut netlink, &new)
    }

    /// Adds addresses that are open to nobody outside, or none.
    fn add(&mut self, netlink: &mut Connection, new: &[Ipv6Addr]) -> Result<(), Error> {
        let done = self.add_closed(netlink, new);
        if done.is_err() {
            for address in new.iter().filter(|a| !self.addresses.contains(a)) {
                delete(netlink, *address)?;
            }
        }
        done
    }

    /// The kernel makes the routes of addresses a little later than these.
    fn add_closed(&mut self, netlink: &mut Connection, new: &[Ipv6Addr]) -> Result<(), Error> {
        let mut news = Connection::await_changes(Group::Routes6, ROUTE_COMES)
            .map_err(|e| Error::system("open a netlink socket", e))?;
        for address in new {
            netlink
                .request(NEW_ADDRESS, REPLACE, &message::address(*address), |_, _| ())
                .map_err(|e| Error::system(format!("add address {address} to lo"), e))?;
        }
        for address in new {
            close_new(netlink, &mut news, *address)?;
            self.addresses.insert(*address);
        }
        Ok(())
    }

    /// Removes everything.
    pub(crate) fn remove(&mut self) -> Result<(), Error> {
        self.wanted.clear();
        self.change(&self.addresses.clone(), &HashSet::new())?;
        let mut netlink = self.connect()?;
        for Standing { family, unmake, body, .. } in message::standing(&self.network6) {
            let done = netlink.request(unmake, 0, &body, |_, _| ());
            match ignore(ignore(done, libc::ESRCH), libc::ENOENT) {
                Err(_) if family == AF_INET6 && !self.ipv6 => {}
                done => done.map_err(|e| Error::system("remove a route", e))?,
            }
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

fn delete(netlink: &mut Connection, address: Ipv6Addr) -> Result<(), Error> {
    let done = netlink.request(DELETE_ADDRESS, 0, &message::address(address), |_, _| ());
    ignore(done, libc::EADDRNOTAVAIL)
        .map_err(|e| Error::system(format!("remove address {address} from lo"), e))
}

/// Takes away the kernel's route to an address; says whether there was one.
fn close(netlink: &mut Connection, address: Ipv6Addr) -> Result<bool, Error> {
    match netlink.request(DELETE_ROUTE, 0, &message::kernel_route(address), |_, _| ()) {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        done => done
            .map(|()| true)
            .map_err(|e| Error::system(format!("remove the route to {address}"), e)),
    }
}

/// The same for an address just added: waits for the route.
fn close_new(
    netlink: &mut Connection,
    news: &mut Connection,
    address: Ipv6Addr,
) -> Result<(), Error> {
    let end = Instant::now() + ROUTE_COMES;
    while !close(netlink, address)? {
        if Instant::now() >= end {
            let what = format!("wait for the kernel's route to {address}");
            return Err(Error::system(what, io::Error::from(io::ErrorKind::TimedOut)));
        }
        news.wait().map_err(|e| Error::system("wait for news of routes", e))?;
    }
    Ok(())
}

fn ignore(result: io::Result<()>, fine: i32) -> io::Result<()> {
    match result {
        Err(e) if e.raw_os_error() == Some(fine) => Ok(()),
        other => other,
    }
}
