//! What is in force only in part: nothing fails for it, and somebody has to be told.

use std::{fmt, net::IpAddr};

use sinew_model::{NodeName, fleet::Network};

/// A part of what is wanted that is not in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notice {
    /// Another host is not on any network that this one is on: nothing gets to its instances.
    OffNetwork {
        /// Which.
        host: NodeName,
        /// Its own address.
        address: IpAddr,
    },
    /// A host has a slice and no address of the slice's family that would lead there.
    NoAddress {
        /// Which.
        host: NodeName,
        /// Its slice.
        slice: Network,
    },
    /// Somebody else has a route to the slice of another host.
    RouteTaken {
        /// Which.
        host: NodeName,
        /// Its slice.
        slice: Network,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OffNetwork { host, address } => write!(
                f,
                "host {host} at {address} is on no network of this host: its instances are not \
                 reached from here until one is joined, or the host tells another address"
            ),
            Self::NoAddress { host, slice } => {
                let family = if slice.address().is_ipv4() { "IPv4" } else { "IPv6" };
                write!(
                    f,
                    "host {host} has told no {family} address: its instances in {slice} are not \
                     reached from here"
                )
            }
            Self::RouteTaken { host, slice } => write!(
                f,
                "there is a route to {slice} that is not Sinew's: the instances of host {host} are \
                 not reached from here until it is removed"
            ),
        }
    }
}
