//! A point in time as certificates know it: whole seconds of the wall clock.

use std::{
    fmt,
    ops::{Add, Sub},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Seconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Moment(pub u64);

impl Moment {
    /// What this host's clock says.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(since.map_or(0, |since| since.as_secs()))
    }

    /// The time from `earlier` to this; zero if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    pub(crate) fn date(self) -> OffsetDateTime {
        let seconds = i64::try_from(self.0).unwrap_or(i64::MAX);
        // Certificates end with the year 9999, and so do dates.
        OffsetDateTime::from_unix_timestamp(seconds)
            .unwrap_or(time::PrimitiveDateTime::MAX.assume_utc())
    }
}

impl From<UnixTime> for Moment {
    fn from(time: UnixTime) -> Self {
        Self(time.as_secs())
    }
}

impl From<Moment> for UnixTime {
    fn from(moment: Moment) -> Self {
        Self::since_unix_epoch(Duration::from_secs(moment.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;
    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time.as_secs()))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;
    fn sub(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(time.as_secs()))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.date().format(&Rfc3339) {
            Ok(text) => f.pad(&text),
            Err(_) => write!(f, "{} s after 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_dates() {
        assert_eq!(Moment(1_700_000_000).to_string(), "2023-11-14T22:13:20Z");
        assert_eq!(Moment(u64::MAX).to_string(), "9999-12-31T23:59:59.999999999Z");
        assert_eq!(Moment(5) - Duration::from_secs(9), Moment(0));
        assert_eq!(Moment(5).since(Moment(9)), Duration::ZERO);
    }
}
