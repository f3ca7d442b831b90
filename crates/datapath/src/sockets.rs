//! Sockets of the network namespace, by the kernel's own list (include/uapi/linux/inet_diag.h).

use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
};

use sinew_model::Protocol;

use crate::{
    Error,
    netlink::{Connection, DUMP, Family, find_attribute},
};

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const TCP: u8 = 6;
const UDP: u8 = 17;
const LISTEN: u32 = 1 << 10;
/// State of a UDP socket that is bound and not connected.
const UNCONNECTED: u32 = 1 << 7;
const ANY: u32 = u32::MAX;
/// Every TCP state that holds an application's connection: not closed, listening or in TIME_WAIT.
const CONNECTED: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;
/// State of a UDP socket that is connected: TCP's established.
const PEERED: u32 = 1 << 1;
/// Offset of `struct inet_diag_sockid` in an answer, and its size.
const ID_AT: usize = 4;
const ID_LEN: usize = 48;
/// Offset of `idiag_cookie` in it.
const COOKIE_AT: usize = 40;
/// Offset of `idiag_rqueue`.
const QUEUE_AT: usize = 56;
/// Size of `struct inet_diag_msg`; attributes follow.
const MESSAGE_LEN: usize = 72;
/// `INET_DIAG_CGROUP_ID`
const CGROUP: u16 = 21;

/// Offset of `idiag_inode`.
const INODE_AT: usize = 68;
/// `INET_DIAG_SKV6ONLY`, a byte.
const IPV6_ONLY: u16 = 11;
/// `INET_DIAG_ULP_INFO`: what stands above TCP, and the name in it.
const UPPER: u16 = 19;
const UPPER_NAME: u16 = 1;
/// Asks for `INET_DIAG_INFO`.
const FIGURES: u8 = 1 << 1;

fn word(body: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?))
}

/// A socket that takes connections or datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listener {
    /// Address it is bound to.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Connections that wait to be accepted (TCP), or bytes that wait to be read (UDP).
    pub queue: u32,
    /// Number of the cgroup that it was made in; 0: the kernel does not say.
    pub cgroup: u64,
    /// Whether one on `::` leaves IPv4 alone.
    pub ipv6_only: bool,
    /// Whether it is MPTCP's: the kernel lets nobody hand packets to such a one.
    pub multipath: bool,
    /// Inode of the socket, by which `/proc` tells who holds it.
    pub inode: u32,
    /// Number that no other socket has until the next boot.
    pub cookie: u64,
}

/// One socket of an answer.
struct Entry {
    family: u8,
    id: [u8; ID_LEN],
    queue: u32,
    cgroup: u64,
    ipv6_only: bool,
    multipath: bool,
    inode: u32,
}

impl Entry {
    fn read(body: &[u8]) -> Option<Self> {
        let attributes = body.get(MESSAGE_LEN..).unwrap_or_default();
        let cgroup = find_attribute(attributes, CGROUP).and_then(|value| value.try_into().ok());
        Some(Self {
            family: *body.first()?,
            id: body.get(ID_AT..ID_AT + ID_LEN)?.try_into().ok()?,
            queue: word(body, QUEUE_AT)?,
            cgroup: cgroup.map_or(0, u64::from_ne_bytes),
            ipv6_only: find_attribute(attributes, IPV6_ONLY) == Some(&[1]),
            multipath: find_attribute(attributes, UPPER)
                .and_then(|upper| find_attribute(upper, UPPER_NAME))
                .is_some_and(|name| name.starts_with(b"mptcp")),
            inode: word(body, INODE_AT)?,
        })
    }

    /// The last words of its id, the lower one first.
    fn cookie(&self) -> u64 {
        let half = |at| word(&self.id, at).map_or(0, u64::from);
        half(COOKIE_AT) | half(COOKIE_AT + 4) << 32
    }

    fn local(&self) -> Option<SocketAddr> {
        self.address(4, 0)
    }

    fn remote(&self) -> Option<SocketAddr> {
        self.address(20, 2)
    }

    fn address(&self, at: usize, port_at: usize) -> Option<SocketAddr> {
        let port = u16::from_be_bytes([self.id[port_at], self.id[port_at + 1]]);
        let octets: [u8; 16] = self.id.get(at..at + 16)?.try_into().ok()?;
        let ip = if self.family == AF_INET {
            Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into()
        } else {
            Ipv6Addr::from(octets).to_canonical()
        };
        Some(SocketAddr::new(ip, port))
    }
}

fn query(family: u8, protocol: u8, states: u32, id: &[u8; ID_LEN]) -> Vec<u8> {
    // What stands above TCP is told only beside the connection's figures.
    let extensions = if states == LISTEN { FIGURES } else { 0 };
    let mut body = vec![family, protocol, extensions, 0];
    body.extend(states.to_ne_bytes());
    body.extend(id);
    body
}

fn connect() -> Result<Connection, Error> {
    Connection::open(Family::SocketDiagnosis)
        .map_err(|e| Error::system("open a socket diagnosis connection", e))
}

fn dump(netlink: &mut Connection, protocol: u8, states: u32) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let body = query(family, protocol, states, &[0; ID_LEN]);
        netlink
            .request(BY_FAMILY, DUMP, &body, |_, body| entries.extend(Entry::read(body)))
            .map_err(|e| Error::system("list sockets", e))?;
    }
    Ok(entries)
}

/// All TCP listeners and bound UDP sockets of the calling thread's network namespace.
///
/// # Errors
/// When the kernel refuses.
pub fn listeners() -> Result<Vec<Listener>, Error> {
    let mut netlink = connect()?;
    let mut found = Vec::new();
    for (number, protocol, states) in
        [(TCP, Protocol::Tcp, LISTEN), (UDP, Protocol::Udp, UNCONNECTED)]
    {
        for entry in dump(&mut netlink, number, states)? {
            if let Some(at) = entry.local() {
                let (address, port, cookie) = (at.ip(), at.port(), entry.cookie());
                let Entry { queue, cgroup, ipv6_only, multipath, inode, .. } = entry;
                found.push(Listener {
                    address,
                    port,
                    protocol,
                    queue,
                    cgroup,
                    ipv6_only,
                    multipath,
                    inode,
                    cookie,
                });
            }
        }
    }
    Ok(found)
}

/// Cookies of the connected sockets of the calling thread's network namespace that somebody holds: one
/// whose owner has closed it has no inode.
pub(crate) fn cookies() -> Result<HashSet<u64>, Error> {
    let mut netlink = connect()?;
    let mut found = HashSet::new();
    for (protocol, states) in [(TCP, CONNECTED), (UDP, ANY)] {
        let entries = dump(&mut netlink, protocol, states)?;
        found.extend(entries.iter().filter(|entry| entry.inode != 0).map(Entry::cookie));
    }
    Ok(found)
}

/// Closes the client end of every TCP connection to `to`; answers how many.
pub(crate) fn close_connections(to: SocketAddr) -> Result<u32, Error> {
    close(&to.to_string(), &[(TCP, CONNECTED)], |entry| entry.remote() == Some(to))
}

/// Closes this end of every TCP connection and connected UDP socket with an address that is `wanted`
/// for sockets of a cgroup; answers how many.
pub(crate) fn close_all(wanted: &dyn Fn(IpAddr, u64) -> bool) -> Result<u32, Error> {
    let kinds = [(TCP, CONNECTED), (UDP, PEERED)];
    close("another host", &kinds, |entry| {
        entry.remote().is_some_and(|to| wanted(to.ip(), entry.cgroup))
    })
}

/// `kinds`: protocol and states of what may be one.
fn close(whom: &str, kinds: &[(u8, u32)], is_one: impl Fn(&Entry) -> bool) -> Result<u32, Error> {
    let mut netlink = connect()?;
    let mut found = Vec::new();
    for (protocol, states) in kinds {
        let entries = dump(&mut netlink, *protocol, *states)?.into_iter();
        found
            .extend(entries.filter(&is_one).map(|it| query(it.family, *protocol, *states, &it.id)));
    }
    let mut closed = 0;
    for body in found {
        match netlink.request(DESTROY, 0, &body, |_, _| ()) {
            Ok(()) => closed += 1,
            // Closed by itself meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                return Err(Error::Unsupported {
                    what: "closing sockets of others (CONFIG_INET_DIAG_DESTROY)".into(),
                    remedy: "boot a kernel built with it; on this one, connections of a drained \
                             backend end by themselves",
                });
            }
            Err(e) => return Err(Error::system(format!("close connections to {whom}"), e)),
        }
    }
    Ok(closed)
}

/// Whether the kernel closes connections when it is told to: tried on one of our own.
///
/// # Errors
/// When it does not, or this could not be tried.
pub fn closes_connections() -> Result<(), Error> {
    let fail = |e| Error::system("connect to an own port", e);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(fail)?;
    let at = listener.local_addr().map_err(fail)?;
    let _client = TcpStream::connect(at).map_err(fail)?;
    match close_connections(at)? {
        0 => Err(Error::system("close an own connection", io::Error::other("it was not found"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::netlink::{attribute, split};

    #[test]
    fn tells_what_kind_of_listener_and_whose() {
        use std::os::fd::AsFd;
        for only in [false, true] {
            let socket = rustix::net::socket(
                rustix::net::AddressFamily::INET6,
                rustix::net::SocketType::STREAM,
                None,
            )
            .unwrap();
            rustix::net::sockopt::set_ipv6_v6only(&socket, only).unwrap();
            rustix::net::bind(&socket, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))).unwrap();
            rustix::net::listen(&socket, 1).unwrap();
            let inode = rustix::fs::fstat(socket.as_fd()).unwrap().st_ino;
            let found = listeners().unwrap();
            let own = found.iter().find(|l| u64::from(l.inode) == inode).unwrap();
            assert_eq!((own.ipv6_only, own.multipath), (only, false));
        }
    }

    #[test]
    fn tells_multipath_listeners() {
        use rustix::net::{AddressFamily, Protocol, SocketType};
        let Ok(socket) = rustix::net::socket(
            AddressFamily::INET,
            SocketType::STREAM,
            Some(Protocol::from_raw(262.try_into().unwrap())),
        ) else {
            return; // A kernel without MPTCP.
        };
        rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        rustix::net::listen(&socket, 1).unwrap();
        let at = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
        let found = listeners().unwrap();
        assert!(found.iter().any(|l| l.port == at.port() && l.multipath));
    }

    #[test]
    fn broken_answers_are_no_sockets() {
        let mut answer = vec![AF_INET, 10, 0, 0];
        answer.extend([0x1f, 0x90, 0, 0, 127, 80, 1, 1]);
        answer.resize(MESSAGE_LEN, 0);
        attribute(&mut answer, CGROUP, &77u64.to_ne_bytes());
        let whole = Entry::read(&answer).unwrap();
        assert_eq!((whole.local().unwrap().port(), whole.cgroup), (8080, 77));
        let mut message = Vec::new();
        for body in [&answer[..], &[0; 4]] {
            message.extend((16 + body.len() as u32).to_ne_bytes());
            message.extend([0; 12]);
            message.extend(body);
        }
        sinew_fuzz::each(&[&answer, &message], |bytes| {
            if let Some(entry) = Entry::read(bytes) {
                let _ = (entry.local(), entry.remote());
            }
            find_attribute(bytes, CGROUP);
            let mut rest = bytes;
            while let Some((_, body, next)) = split(rest) {
                assert!(next.len() < rest.len(), "it ends");
                Entry::read(body);
                rest = next;
            }
        });
    }

    #[test]
    fn finds_listeners_and_closes_clients() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let found = listeners().unwrap();
        assert!(found.iter().any(|l| l.port == at.port() && l.protocol == Protocol::Tcp));
        let mut client = TcpStream::connect(at).unwrap();
        let found = listeners().unwrap();
        let own = found.iter().find(|l| l.port == at.port() && l.protocol == Protocol::Tcp);
        assert_eq!(own.unwrap().queue, 1, "nobody has accepted yet");
        assert_ne!(own.unwrap().cgroup, 0);
        let _server = listener.accept().unwrap();
        assert_eq!(close_connections(at).unwrap(), 1);
        let error = client.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
}
