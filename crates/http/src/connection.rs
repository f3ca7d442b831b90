//! What holds for one connection and not for the way as a whole (RFC 9110 section 7.6, RFC 9112
//! section 9), and what comes next on it.
//!
//! [`Server`] follows the connection of a client, [`Client`] the one to an upstream. They see no
//! bytes: the caller tells what was read and written, and asks what to do. One request is under way
//! at a time; what a client sends ahead waits in its buffer.

mod client;
mod options;
mod server;
#[cfg(test)]
mod tests;

pub use client::{Client, Closed, Received, Sending};
pub use options::{Options, expects_continue, is_for_one_hop, takes_trailers, upgrade};
pub use server::{Begun, Close, Reading, Reply, Server, Writing};
