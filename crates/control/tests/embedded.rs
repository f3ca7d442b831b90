//! The embedded store's file: what survives, what is refused, what is bounded.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "embedded/crash.rs"]
mod crash;
#[path = "embedded/file.rs"]
mod file;
#[path = "embedded/full.rs"]
mod full;
#[path = "embedded/history.rs"]
mod history;
