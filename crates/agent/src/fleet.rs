//! This host among others. The [`mirror`] holds what is known of services of other hosts. It does no
//! IO: time enters as an argument.

pub mod mirror;
