//! What agents and the control plane say to each other.
//!
//! [`FromAgent`] and [`FromControl`] are what a session carries, in the model's types: whatever is
//! decoded has been checked ([`bounds`]). `sinew/v1/fleet.proto` is the protocol's source, and
//! [`wire`] its messages.

mod agent;
pub mod bounds;
mod codec;
mod control;
mod convert;
mod error;
mod hosts;
mod join;
mod placement;
mod read;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod wire;

pub use agent::{FromAgent, Hello, Report, ServiceReport};
pub use codec::{FrameCodec, Path};
pub use control::{Catalog, FromControl, Held, Lineage, Reported, Welcome};
pub use error::{DecodeError, Error, Subject};
pub use hosts::{Hosts, Zones};
pub use join::{Certificate, Join, Renew};
pub use placement::{Assigned, Assignment, Placed};

/// The version of the protocol that this program speaks.
pub const PROTOCOL: u32 = 1;

/// Where the control plane listens for agents unless somebody says otherwise.
pub const PORT: u16 = 7443;

/// Whether programs of that version and of this understand each other: one version either way.
#[must_use]
pub const fn speaks(version: u32) -> bool {
    version > 0 && version.abs_diff(PROTOCOL) <= 1
}
