//! Several hosts: real agents and a real control plane, in network namespaces at a bridge. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod alone;
mod calls;
mod leave;
mod placed;
mod world;
mod zones;
