//! The agent of a host: supervises, reconciles, serves the API.

pub mod alloc;
mod capacity;
mod core;
mod datapath;
mod health;
mod intent;
mod key;
mod launch;
mod refusal;
mod store;
