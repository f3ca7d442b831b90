//! What is asked of the kernel, with its errors told apart as an exchange wants them.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{self};
use rustix::net::{
    self, AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags,
    SocketType,
};

/// Parts of one write: a head, ranges of a body and what ends a chunk.
const PARTS: usize = 12;

/// Parts that are as short as this together are copied: that costs less than to have the kernel
/// gather them.
const SHORT: usize = 2048;

/// A connection, and what is known of it: the kernel tells each change once.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) fd: OwnedFd,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The other side has shut down or broken off: there is an end to be read behind the bytes.
    pub(super) ended: bool,
}

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Some(usize),
    End,
    Nothing,
    Broken,
}

/// What came of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    Some(usize),
    Nothing,
    Broken,
}

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

fn family(address: &SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}

/// One of several that listen at an address; the kernel spreads connections over them.
pub(super) fn listen(address: &SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
    let fd = net::socket_with(family(address), SocketType::STREAM, FLAGS, None)?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_socket_reuseport(&fd, true)?;
    // What is accepted takes it over.
    sockopt::set_tcp_nodelay(&fd, true)?;
    net::bind(&fd, address)?;
    net::listen(&fd, backlog)?;
    Ok(fd)
}

/// A client, if one waits, with both addresses.
pub(super) fn accept(listener: &OwnedFd) -> io::Result<Option<(OwnedFd, SocketAddr, SocketAddr)>> {
    match net::acceptfrom_with(listener, FLAGS) {
        Ok((fd, Some(client))) => {
            let local = net::getsockname(&fd)?;
            let addresses = SocketAddr::try_from(client)
                .and_then(|client| SocketAddr::try_from(local).map(|local| (client, local)));
            let (client, local) = addresses?;
            Ok(Some((fd, client, local)))
        }
        Ok((_, None)) => Ok(None),
        // It had gone before it was accepted.
        Err(Errno::AGAIN | Errno::CONNABORTED | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// A connection that is being made, or is there already.
pub(super) fn connect(address: &SocketAddr) -> io::Result<OwnedFd> {
    let fd = net::socket_with(family(address), SocketType::STREAM, FLAGS, None)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    match net::connect(&fd, address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(errno) => Err(errno.into()),
    }
}

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd, readable: false, writable: false, ended: false }
    }

    /// Whether a connection that was being made is there.
    pub(super) fn is_connected(&self) -> bool {
        matches!(sockopt::socket_error(&self.fd), Ok(Ok(())))
    }

    pub(super) fn read(&mut self, space: &mut [u8]) -> Read {
        let all = space.len();
        match net::recv(&self.fd, space, RecvFlags::empty()) {
            Ok((0, _)) => {
                self.readable = false;
                Read::End
            }
            Ok((bytes, _)) => {
                // Less than there was space for: nothing is left, and more is told.
                self.readable = bytes == all || self.ended;
                Read::Some(bytes)
            }
            Err(Errno::INTR) => Read::Nothing,
            Err(Errno::AGAIN) => {
                self.readable = false;
                Read::Nothing
            }
            Err(_) => {
                self.readable = false;
                Read::Broken
            }
        }
    }

    pub(super) fn write<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]>) -> Wrote {
        let mut slices = [IoSlice::new(&[]); PARTS];
        let (mut count, mut all) = (0, 0);
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
            (count, all) = (count + 1, all + part.len());
        }
        let sent = match &slices[..count] {
            [one] => net::send(&self.fd, one, SendFlags::NOSIGNAL),
            several if all <= SHORT => {
                let mut short = [0; SHORT];
                let mut at = 0;
                for part in several {
                    short[at..at + part.len()].copy_from_slice(part);
                    at += part.len();
                }
                net::send(&self.fd, &short[..all], SendFlags::NOSIGNAL)
            }
            several => {
                let mut none = SendAncillaryBuffer::default();
                net::sendmsg(&self.fd, several, &mut none, SendFlags::NOSIGNAL)
            }
        };
        match sent {
            Ok(bytes) => {
                self.writable = bytes == all;
                Wrote::Some(bytes)
            }
            Err(Errno::INTR) => Wrote::Nothing,
            Err(Errno::AGAIN) => {
                self.writable = false;
                Wrote::Nothing
            }
            Err(_) => {
                self.writable = false;
                Wrote::Broken
            }
        }
    }

    /// Nothing more is written. One that is gone already need not hear it.
    pub(super) fn finish(&self) {
        let _ = net::shutdown(&self.fd, Shutdown::Write);
    }

    /// When it is closed the other side hears that it broke, not that it ended.
    pub(super) fn reset_on_close(&self) {
        let _ = sockopt::set_socket_linger(&self.fd, Some(Duration::ZERO));
    }
}
