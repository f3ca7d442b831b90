//! Replicas of control on the network, and agents that are wire alone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "common/etcd.rs"]
mod cluster;
#[path = "serve/duty.rs"]
mod duty;
#[path = "serve/etcd.rs"]
mod etcd;
#[path = "serve/faults.rs"]
mod faults;
#[path = "serve/join.rs"]
mod join;
#[path = "serve/sessions.rs"]
mod sessions;
#[path = "serve/store.rs"]
mod store;
#[path = "serve/world.rs"]
mod world;
