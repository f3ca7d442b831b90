//! The store in etcd, with real members that are killed, frozen, cut off, full, secured, and
//! restored from a backup.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "etcd/access.rs"]
mod access;
#[path = "common/etcd.rs"]
mod cluster;
#[path = "etcd/counter.rs"]
mod counter;
#[path = "etcd/data.rs"]
mod data;
#[path = "etcd/faults.rs"]
mod faults;
