//! This host among others. The [`mirror`] holds what is known of services of other hosts, and
//! [`last_good`] keeps it on disk; the [`link`] leads to control. Mirror and link do no IO: time and
//! randomness enter as arguments.

pub mod last_good;
pub mod link;
pub mod mirror;
