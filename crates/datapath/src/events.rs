//! Events of the programs, from their ring.

use std::{
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use aya::maps::{Map, MapData, RingBuf};
use sinew_abi as abi;
use sinew_model::Protocol;

use crate::{Error, layout::unmapped};

/// Something happened in the kernel.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// An instance listens.
    Listening {
        /// The agent's number of the instance.
        instance: u64,
        /// Address it listens on.
        address: IpAddr,
        /// Port.
        port: u16,
    },
    /// An instance bound a declared port: it serves it (UDP), or may listen soon (TCP).
    Bound {
        /// The agent's number of the instance.
        instance: u64,
        /// Address it bound.
        address: IpAddr,
        /// Port.
        port: u16,
        /// Protocol.
        protocol: Protocol,
    },
    /// A connection ended or was refused, and was sampled.
    Flow(Flow),
}

/// A connection that ended or was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// When it began, monotonic nanoseconds; when it ended, if its caller came from outside.
    pub at_ns: u64,
    /// One of [`sinew_abi::verdict`].
    pub verdict: u32,
    /// The agent's number of the caller's instance; 0: none, or not told for this verdict. When the
    /// caller is [`sinew_abi::OUTSIDE`], that of the instance that served it.
    pub instance: u64,
    /// Number of the caller's service; 0: none; or [`sinew_abi::OUTSIDE`].
    pub source: u32,
    /// Number of the service called; 0: none.
    pub destination: u32,
    /// Address asked for.
    pub address: IpAddr,
    /// Port asked for.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Backend taken.
    pub backend: Option<FlowBackend>,
    /// Connect time, microseconds.
    pub connect_us: u32,
    /// Life, microseconds.
    pub duration_us: u64,
    /// Bytes sent by the caller.
    pub sent_bytes: u64,
    /// Bytes received by the caller.
    pub received_bytes: u64,
}

/// A backend's place in the kernel's table, and which of those that were there it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowBackend {
    /// Index of the place.
    pub index: u32,
    /// Raised with every backend that gets the place.
    pub generation: u32,
}

/// The ring; its descriptor is readable while events wait.
pub struct Events {
    ring: RingBuf<MapData>,
}

impl Events {
    pub(crate) fn open(maps: &Path) -> Result<Self, Error> {
        let fail = |e: &dyn std::fmt::Display| {
            Error::system("open the event ring", std::io::Error::other(e.to_string()))
        };
        let data = MapData::from_pin(maps.join("EVENTS")).map_err(|e| fail(&e))?;
        let ring = RingBuf::try_from(Map::RingBuf(data)).map_err(|e| fail(&e))?;
        Ok(Self { ring })
    }

    /// Hands over every waiting event.
    pub fn drain(&mut self, mut take: impl FnMut(Event)) {
        while let Some(item) = self.ring.next() {
            if let Some(event) = read(&item).and_then(|raw| translate(&raw)) {
                take(event);
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsRawFd;
        // SAFETY: the ring owns the descriptor for as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

fn read(bytes: &[u8]) -> Option<abi::Event> {
    // SAFETY: long enough, and any bytes are a valid event.
    (bytes.len() >= size_of::<abi::Event>())
        .then(|| unsafe { bytes.as_ptr().cast::<abi::Event>().read_unaligned() })
}

fn translate(raw: &abi::Event) -> Option<Event> {
    let (address, port) = (unmapped(&raw.addr), u16::from_be(raw.port));
    let protocol = match raw.protocol {
        abi::protocol::TCP => Protocol::Tcp,
        abi::protocol::UDP => Protocol::Udp,
        // MPTCP announces itself by a number of its own at bind().
        _ => Protocol::Tcp,
    };
    match raw.kind {
        abi::event::LISTEN => Some(Event::Listening { instance: raw.instance, address, port }),
        abi::event::BIND => Some(Event::Bound { instance: raw.instance, address, port, protocol }),
        abi::event::FLOW => Some(Event::Flow(Flow {
            at_ns: raw.at_ns,
            verdict: raw.verdict,
            instance: raw.instance,
            source: raw.source,
            destination: raw.destination,
            address,
            port,
            protocol,
            backend: (raw.backend != abi::NONE)
                .then_some(FlowBackend { index: raw.backend, generation: raw.generation }),
            connect_us: raw.connect_us,
            duration_us: raw.duration_us,
            sent_bytes: raw.sent_bytes,
            received_bytes: raw.received_bytes,
        })),
        _ => None,
    }
}
