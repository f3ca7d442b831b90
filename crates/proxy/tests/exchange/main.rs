//! Whole exchanges over a network of the test's own: what clients and upstreams get of each other,
//! however their bytes are cut and in whatever order things happen.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod conversations;
mod corpus;
mod faults;
mod naive;
mod sim;
mod tunnels;
