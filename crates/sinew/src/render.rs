//! How things look: pure functions from values to text.

pub(crate) mod explain;
pub(crate) mod flow;
pub(crate) mod palette;
pub(crate) mod service;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod time;
pub(crate) mod workload;
