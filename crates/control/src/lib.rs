//! The control plane of many hosts.
//!
//! All that it must not lose lies in a [`store`]; a process of the control plane keeps nothing else,
//! so any number of them may run over one store.

pub mod store;
