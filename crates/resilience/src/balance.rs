//! Which of several backends gets a call.
//!
//! - [`p2c`]: the better of two drawn ones, by [`Load::cost`] (peak-EWMA) or by any other cost
//! - [`least`]: the best of all, by the same costs
//! - [`RoundRobin`]: in turn, by weight
//! - [`Ring`] and [`Maglev`]: the same backend for the same key
//! - [`ZoneSplit`]: the own zone first, without overloading it
//! - [`SlowStart`]: less for one that has just come
//! - [`Panic`]: all of them, when too few are healthy
//! - [`Outliers`]: not those that fail more than the others
//!
//! Backends are numbers, from 0 to how many there are; what they are and which of them may be
//! chosen is the caller's. A weight divides a cost.

mod choose;
mod hash;
mod load;
mod maglev;
mod outlier;
mod panic;
mod ring;
mod round_robin;
mod slow_start;
mod zone;

pub use choose::{least, p2c};
pub use hash::hash;
pub use load::Load;
pub use maglev::Maglev;
pub use outlier::{Answer, Ejected, Host, OutlierSettings, Outliers, Reason, SuccessRate};
pub use panic::Panic;
pub use ring::Ring;
pub use round_robin::RoundRobin;
pub use slow_start::SlowStart;
pub use zone::ZoneSplit;

/// A backend of a table: what it is called for ever, and how much it is to get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// A hash of its name or address, the same in all processes that are to choose alike.
    pub key: u64,
    /// Its share beside those of others, 1 to 1000; 0: nothing.
    pub weight: u32,
}

const MOST_WEIGHT: u32 = 1000;
