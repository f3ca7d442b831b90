//! Requests from clients to backends.
//!
//! - [`exchange`]: one client's connection and the upstream connections that its requests go to;
//!   without IO: it is told what was read and written, and says what to do
//! - [`engine`]: exchanges over sockets, a thread a processor
//! - [`route`]: what holds for requests of one kind: backends, times, limits, failure handling
//! - [`fault`]: what is answered where no upstream did, and whose fault it is
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on fails"))]

pub mod engine;
pub mod exchange;
pub mod fault;
mod onward;
pub mod route;
mod trace;
