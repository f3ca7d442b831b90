//! This host among others. The [`mirror`] holds what is known of services of other hosts, and
//! [`last_good`] keeps it on disk. The mirror does no IO: time enters as an argument.

pub mod last_good;
pub mod mirror;
