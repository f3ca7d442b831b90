//! This host among others.
//!
//! [`joined`] says which network it is in, and [`credentials`] as whom. [`member`] holds what is known
//! of the others: the [`mirror`] of their services, their [`hosts`] and [`names`]; [`last_good`] keeps
//! all of it on disk, and the [`link`] leads to control. None of these does IO while it works: time
//! and randomness enter as arguments. [`session`] is the task around them; [`wire`], [`call`] and
//! [`dial`] are its connections. [`news`] is what the heart of the agent is told.

mod call;
mod credentials;
mod dial;
mod doubts;
mod entry;
mod hosts;
mod joined;
pub mod last_good;
pub(crate) mod leave;
pub mod link;
mod list;
mod member;
pub mod mirror;
mod names;
mod news;
pub(crate) mod placed;
mod session;
mod status;
mod wire;

pub use credentials::CredentialsFailed;
pub use entry::EnterError;
pub(crate) use entry::{Fleet, enter};
pub use joined::{JoinError, JoinOptions, control_address};
pub(crate) use member::Run;
pub(crate) use news::{Around, News, Remote, RemoteEndpoint, node_number};
pub(crate) use session::Tell;
pub(crate) use status::Status as FleetStatus;
