//! Whether instances are well: the verdict (pure) and the checks (not).

mod tracker;

pub use tracker::Tracker;
