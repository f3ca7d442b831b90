//! The resolver of members: the kernel leads their queries for the host's name servers here.
//!
//! | asked for | answer |
//! |---|---|
//! | `orders.sinew.internal`, bare `orders` | A, AAAA: the service's addresses |
//! | `_http._tcp.orders.sinew.internal`, `_http._tcp.orders` | SRV: port `http`, with the addresses beside it |
//! | `sinew.internal` | SOA, NS |
//! | `1.0.64.127.in-addr.arpa` and the like in `ip6.arpa` | PTR: the service's name |
//! | a name of these without the asked type | no error, no data |
//! | any other name of `sinew.internal` or of the network's addresses | NXDOMAIN |
//! | everything else | what the host's own name servers say, byte for byte |
//!
//! Two forms of a service's name are known because programs differ: glibc appends the domain from
//! `LOCALDOMAIN`; pure Go and c-ares ask for the bare name. Other single labels are forwarded: the
//! host's name server may know them (a router's devices, systemd-resolved's own names), and its
//! policy is what a program met before it became a member. A known service's name is never
//! forwarded, whatever type is asked for.
//!
//! [`answer`] decides without IO; [`Resolver`] owns the sockets.

mod answer;
mod host;
mod reply;
mod resolver;
mod reverse;
mod upstream;
mod wire;
mod zone;

pub use answer::{Decision, Transport, answer};
pub use host::{HostConfig, follow_host, host_name_servers};
pub use resolver::{Error, Load, Lookups, Resolver};
pub use upstream::{Servers, Upstream};
pub use zone::{Zone, ZoneError};
