//! Netlink requests: a message out, messages back. The few kinds used here are built by hand;
//! a route library would bring an asynchronous runtime for four of them.
//!
//! Format: RFC 3549 and include/uapi/linux/netlink.h.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, SendFlags, SocketFlags, SocketType, netlink,
        sockopt::{Timeout, set_socket_timeout},
    },
};

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const HEADER: usize = 16;

/// `NLM_F_ROOT | NLM_F_MATCH`
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_CREATE | NLM_F_REPLACE`
pub(crate) const REPLACE: u16 = 0x500;
/// `NLM_F_CREATE | NLM_F_EXCL`
pub(crate) const CREATE: u16 = 0x600;

/// A netlink family.
#[derive(Clone, Copy)]
pub(crate) enum Family {
    Route,
    SocketDiagnosis,
}

/// Something of the routing family whose changes the kernel tells of.
#[derive(Clone, Copy)]
pub(crate) enum Group {
    Links = 1,
    Addresses4 = 5,
    Routes4 = 7,
    Addresses6 = 9,
    Routes6 = 11,
    Rules6 = 19,
}

/// A conversation with the kernel.
pub(crate) struct Connection {
    socket: OwnedFd,
    sequence: u32,
}

impl Connection {
    pub(crate) fn open(family: Family) -> io::Result<Self> {
        let protocol = match family {
            // Number 0, the default.
            Family::Route => None,
            Family::SocketDiagnosis => Some(netlink::SOCK_DIAG),
        };
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Hears of changes.
    pub(crate) fn listen(groups: &[Group]) -> io::Result<Self> {
        let connection = Self::open(Family::Route)?;
        let groups = groups.iter().fold(0, |groups, group| groups | 1 << (*group as u32 - 1));
        rustix::net::bind(&connection.socket, &netlink::SocketAddrNetlink::new(0, groups))?;
        Ok(connection)
    }

    /// Hears of changes; `wait` waits that long for one.
    pub(crate) fn await_changes(group: Group, patience: Duration) -> io::Result<Self> {
        let connection = Self::listen(&[group])?;
        set_socket_timeout(&connection.socket, Timeout::Recv, Some(patience))?;
        Ok(connection)
    }

    /// Whether one of the changes that it has heard of since the last call is `wanted` (type and
    /// body), or some were overrun by others.
    pub(crate) fn heard(&mut self, mut wanted: impl FnMut(u16, &[u8]) -> bool) -> io::Result<bool> {
        let mut buffer = vec![0; 32 * 1024];
        let mut heard = false;
        loop {
            let flags = rustix::net::RecvFlags::DONTWAIT;
            match rustix::net::recv(&self.socket, buffer.as_mut_slice(), flags) {
                Ok((received, _)) => {
                    let mut rest = &buffer[..received];
                    while let Some((kind, body, next)) = split(rest) {
                        heard |= wanted(kind, body);
                        rest = next;
                    }
                }
                Err(Errno::AGAIN) => return Ok(heard),
                Err(Errno::NOBUFS) => heard = true,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for news, which may have been overrun by others, or until patience ends.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        let flags = rustix::net::RecvFlags::TRUNC;
        match rustix::net::recv(&self.socket, [0; 1].as_mut_slice(), flags) {
            Ok(_) | Err(Errno::NOBUFS | Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a request and hands each answer (type and body) to `take`, until the kernel
    /// acknowledges or the dump ends.
    pub(crate) fn request(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        mut take: impl FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        self.sequence += 1;
        let flags = flags | REQUEST | if flags & DUMP == DUMP { 0 } else { ACK };
        let mut message = Vec::with_capacity(HEADER + body.len());
        let len = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
        message.extend(len.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(body);
        rustix::net::send(&self.socket, &message, SendFlags::empty())?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let (received, _) = rustix::net::recv(
                &self.socket,
                buffer.as_mut_slice(),
                rustix::net::RecvFlags::empty(),
            )?;
            let mut rest = &buffer[..received];
            while let Some((kind, body, next)) = split(rest) {
                match kind {
                    DONE => return Ok(()),
                    ERROR => return status(body),
                    _ => take(kind, body),
                }
                rest = next;
            }
        }
    }
}

/// The first message of a buffer: its type, its body, what follows.
pub(crate) fn split(buffer: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = u32::from_ne_bytes(buffer.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(buffer.get(4..6)?.try_into().ok()?);
    let body = buffer.get(HEADER..len)?;
    Some((kind, body, buffer.get(len.next_multiple_of(4)..).unwrap_or_default()))
}

fn status(body: &[u8]) -> io::Result<()> {
    let code = body.get(..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}

/// Appends an attribute.
pub(crate) fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = (4 + value.len()) as u16;
    message.extend(len.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// The value of an attribute among those that follow a fixed header.
pub(crate) fn find_attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let len = u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        if kind == wanted {
            return attributes.get(4..len);
        }
        attributes = attributes.get(len.max(4).next_multiple_of(4)..)?;
    }
}
