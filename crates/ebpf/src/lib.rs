//! What the kernel programs decide, apart from how they look it up: pure, so that the same code
//! runs in the kernel and under property tests on the host.
#![no_std]

pub mod choice;
#[cfg(test)]
mod model;
pub mod outlier;
pub mod suspicion;
