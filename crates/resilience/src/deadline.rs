//! Deadlines: how long an answer is still wanted, told to whoever is called onward.
//!
//! A time-out of each hop alone lets work go on for callers that have long gone. A deadline is set
//! once, where the call begins; each hop passes on what is left, less a margin for its own part.

use std::fmt;
use std::time::Duration;

use crate::time::Time;

/// The moment after which nobody wants the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Time);

/// The deadline is over: whatever is still done is for nobody. Not to be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// For how long.
    pub since: Duration,
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the deadline was over {:?} ago", self.since)
    }
}

impl std::error::Error for Expired {}

impl Deadline {
    /// So long after this moment.
    #[must_use]
    pub fn after(now: Time, timeout: Duration) -> Self {
        Self(now + timeout)
    }

    /// The moment itself.
    #[must_use]
    pub fn at(self) -> Time {
        self.0
    }

    /// The sooner of this and what another hop or a route allows.
    #[must_use]
    pub fn within(self, now: Time, timeout: Duration) -> Self {
        self.min(Self::after(now, timeout))
    }

    /// What is left.
    ///
    /// # Errors
    /// Nothing is.
    pub fn left(self, now: Time) -> Result<Duration, Expired> {
        if now < self.0 { Ok(self.0 - now) } else { Err(Expired { since: now - self.0 }) }
    }

    /// What may be told to the next hop: what is left, less a margin to pass its answer back.
    ///
    /// # Errors
    /// Nothing would be left of it.
    pub fn onward(self, now: Time, margin: Duration) -> Result<Duration, Expired> {
        Self(Time::from_ns(self.0.as_ns().saturating_sub(crate::time::ns(margin)))).left(now)
    }
}

/// Reads gRPC's `grpc-timeout`: up to eight digits and a unit (`H`, `M`, `S`, `m`, `u` or `n`).
#[must_use]
pub fn parse_grpc(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// A duration as gRPC's `grpc-timeout` has it: in the finest unit that eight digits can tell,
/// rounded down, since who is called may not take longer than is left. Longer than 99999999 hours
/// is that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grpc(pub Duration);

impl fmt::Display for Grpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: u128 = 99_999_999;
        let units: [(u128, char); 6] = [
            (1, 'n'),
            (1_000, 'u'),
            (1_000_000, 'm'),
            (1_000_000_000, 'S'),
            (60_000_000_000, 'M'),
            (3_600_000_000_000, 'H'),
        ];
        let ns = self.0.as_nanos();
        let told = units.iter().map(|(unit, name)| (ns / unit, name));
        let (number, unit) =
            told.clone().find(|(number, _)| *number <= MOST).unwrap_or((MOST, &'H'));
        write!(f, "{number}{unit}")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Time = Time::from_ns(1_000_000_000);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn each_hop_passes_on_what_is_left() {
        let deadline = Deadline::after(NOW, ms(100));
        assert_eq!(deadline.left(NOW + ms(30)), Ok(ms(70)));
        assert_eq!(deadline.onward(NOW + ms(30), ms(5)), Ok(ms(65)));
        assert_eq!(deadline.left(NOW + ms(103)), Err(Expired { since: ms(3) }));
        assert!(deadline.onward(NOW + ms(96), ms(5)).is_err());
    }

    #[test]
    fn a_route_may_only_shorten_it() {
        let deadline = Deadline::after(NOW, ms(100));
        assert_eq!(deadline.within(NOW, ms(20)), Deadline::after(NOW, ms(20)));
        assert_eq!(deadline.within(NOW, ms(200)), deadline);
    }

    #[test]
    fn what_grpc_does_not_send_is_none() {
        for value in ["", "S", "1", "123456789S", "-1S", "1s", "1 S", "1.5S"] {
            assert_eq!(parse_grpc(value.as_bytes()), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn grpc_is_told_no_more_than_is_left_and_next_to_all_of_it(ns: u64) {
            let left = Duration::from_nanos(ns);
            let told = Grpc(left).to_string();
            let heard = parse_grpc(told.as_bytes()).unwrap();
            prop_assert!(heard <= left, "{} for {:?}", told, left);
            prop_assert!(left - heard <= left / 60, "{} for {:?}", told, left);
        }
    }
}
