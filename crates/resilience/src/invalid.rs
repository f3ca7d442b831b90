//! A setting that cannot be.

use std::fmt;

/// A setting out of its range. Nothing was made; the caller's configuration is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The setting's name.
    pub field: &'static str,
    /// What it was set to.
    pub value: String,
    /// What it has to be.
    pub expected: &'static str,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}: give {}", self.field, self.value, self.expected)
    }
}

impl std::error::Error for Invalid {}

/// Fails unless a setting is as expected.
pub(crate) fn check(
    holds: bool,
    field: &'static str,
    value: &dyn fmt::Debug,
    expected: &'static str,
) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid { field, value: format!("{value:?}"), expected }) }
}
