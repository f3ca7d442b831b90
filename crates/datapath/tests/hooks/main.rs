//! Every hook with real programs, in network namespaces and cgroups of their own.
//!
//! Needs root. Each test runs in a thread that has moved to its own network namespace.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "test code"
)]

mod adopted;
mod choice;
mod deaths;
mod families;
mod fleet;
mod full;
mod hosts;
mod kernels;
mod listeners;
#[path = "../../../ebpf/src/model.rs"]
mod model;
mod near;
mod outside;
mod pins;
mod publish;
mod reach;
mod reaping;
mod reconcile;
mod source;
mod suspects;
mod tcp;
mod udp;
mod world;
mod zones;
