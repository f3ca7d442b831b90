//! What the daemons of a host have in common: how callers come in by HTTP, who may, and how the
//! service manager is told.

mod group;
mod http;
mod notify;

pub use group::{group, sinew_group};
pub use http::{open, speak};
pub use notify::{READY, STOPPING, notify};
