//! Loads, pins and reconciles the kernel programs and maps.
