//! Whether instances are well: the verdict (pure) and the checks (not).

mod probe;
mod tracker;

pub(crate) use probe::{Target, run};
pub(crate) use tracker::Tracker;
