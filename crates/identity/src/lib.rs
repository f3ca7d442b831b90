//! Who a host is in a network of many: names, certificates, join tokens and mutual TLS.
//!
//! Every host and every replica of the control plane has a key of its own and a short-lived
//! certificate with a SPIFFE id ([`Identity`]) from the network's own authority ([`Root`]). A host
//! gets its first one for a [`Token`], which also tells it which authority to believe, and each later
//! one for the one before. Nothing here reads a clock, a store or the network: `now` and randomness
//! come in, and the connections are the callers'.
//!
//! # When a certificate expires
//! A host renews at two thirds of a certificate's life and raises an alarm at four fifths
//! ([`Life::due`]): with a day of life that leaves eight hours in which control may be away unseen,
//! and nearly five in which somebody is told.
//!
//! What stops when it expires all the same:
//! - New connections to control are refused ([`Refusal::Expired`]), and so is renewal, which needs a
//!   valid certificate. Who holds a session open has to end it with the certificate that it came
//!   with ([`Peer::life`] says when).
//! - So changes are no longer exchanged: the host neither tells of its endpoints nor learns of others'.
//!
//! What goes on:
//! - Running traffic and new connections between programs: the kernel uses no certificates. Names,
//!   health checks, ejection of failing endpoints, supervision: all of it is the host's own.
//! - What the host knew stays, also over a restart of the agent.
//! - Other hosts keep what they know of this one until control declares it dead for want of a session.
//!
//! What heals it: joining again with a fresh token. A host that was withdrawn needs the same.

pub mod certificate;
pub mod file;
mod identity;
mod key;
mod life;
mod moment;
mod refusal;
mod root;
mod secret;
pub mod tls;
pub mod token;
mod trust;

pub use certificate::{Certificate, Fingerprint, Serial};
pub use identity::{Identity, IdentityError, Role};
pub use key::{Key, KeyError};
pub use life::{Due, Life};
pub use moment::Moment;
pub use refusal::{Refusal, RefusedByPeer, RoleKind};
pub use root::{IssueError, Root, SKEW};
pub use rustls::pki_types::CertificateDer;
pub use secret::Secret;
pub use token::Token;
pub use trust::{Peer, Trust, Usage};
