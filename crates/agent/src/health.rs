//! Whether instances are well: the verdict (pure) and the checks (not).

mod probe;
mod tracker;

pub use probe::{Target, run};
pub use tracker::Tracker;
