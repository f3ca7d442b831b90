//! The engine over sockets of this host's loopback.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod requests;
mod server;
mod states;
