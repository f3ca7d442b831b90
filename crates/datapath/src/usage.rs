//! How full the tables are.

/// Of which pairs of a caller and a service something is counted; callers fill it.
pub const EDGES: &str = "edges";
/// Open connections that found their place in the first table taken; callers fill it.
pub const SOCKETS: &str = "overflowed sockets";

/// How full a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// What it holds.
    pub name: &'static str,
    /// Entries in use.
    pub used: u32,
    /// Entries there can be.
    pub capacity: u32,
}
