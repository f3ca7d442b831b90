//! The agent of a host: supervises, reconciles, serves the API.
