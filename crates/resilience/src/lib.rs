//! What keeps one slow or broken service from taking its callers down with it.
//!
//! Every rule here is a core without IO: it opens no socket, reads no clock, starts no task and
//! draws no random number. The time is passed in as a [`Time`], chance as a `u64`; so whatever a
//! rule does can be replayed. All of it may be shared between threads; what lies on the path of
//! every request takes no lock and allocates nothing.
//!
//! - [`breaker`]: calls nobody for a while when calls fail or are slow
//! - [`limit`]: how many calls may be under way, fixed or found out, divided between callers, with a
//!   short queue
//! - [`rate`]: how often something may happen, for one or for many keys
//! - [`deadline`]: until when an answer is wanted
//! - [`retry`]: tries again what may be, within a budget and a deadline
//! - [`hedge`]: a second try beside a first one that is late
//! - [`shed`]: the least important calls go first
//! - [`fallback`]: what to answer instead
//! - [`balance`]: which backend gets a call
//!
//! With the feature `tower` they are also layers for services of that crate.
//!
//! Below them: [`window`] (counts of the last seconds or calls) and [`histogram`] (percentiles
//! that can be merged).
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on fails"))]

pub mod balance;
pub mod breaker;
pub mod deadline;
pub mod draw;
pub mod fallback;
pub mod hedge;
pub mod histogram;
mod invalid;
pub mod limit;
pub mod rate;
pub mod retry;
pub mod shed;
mod sync;
mod time;
#[cfg(feature = "tower")]
pub mod tower;
pub mod window;

pub use invalid::Invalid;
pub use time::{Clock, Time};
