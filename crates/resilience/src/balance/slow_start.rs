//! Less for a backend that has just come.

use std::time::Duration;

use crate::invalid::{Invalid, check};
use crate::time::Time;

/// For a while a backend gets a part of its weight that grows to the whole, so that it can warm up:
/// (age / window)^(1 / aggression), as Envoy has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    window: Duration,
    exponent: f64,
    least: f64,
}

impl SlowStart {
    /// Over so long. An aggression of 1 grows evenly, a greater one faster at first; 0.1 to 10.
    /// The part is never less than `least`, above 0 up to 1.
    ///
    /// # Errors
    /// A number out of its range.
    pub fn new(window: Duration, aggression: f64, least: f64) -> Result<Self, Invalid> {
        check(!window.is_zero(), "window", &window, "a time above 0")?;
        check((0.1..=10.0).contains(&aggression), "aggression", &aggression, "0.1 to 10")?;
        check(least > 0.0 && least <= 1.0, "least", &least, "a share above 0, up to 1")?;
        Ok(Self { window, exponent: 1.0 / aggression, least })
    }

    /// The part of its weight that a backend gets now, given since when it is healthy.
    #[must_use]
    pub fn part(&self, now: Time, since: Time) -> f64 {
        let age = now - since;
        if age >= self.window {
            return 1.0;
        }
        let share = age.as_secs_f64() / self.window.as_secs_f64();
        share.powf(self.exponent).max(self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_from_the_least_to_the_whole() {
        let at = |s| Time::ORIGIN + Duration::from_secs(s);
        let even = SlowStart::new(Duration::from_secs(100), 1.0, 0.1).unwrap();
        let part = |s| even.part(at(s), at(0));
        assert_eq!([part(0), part(5), part(25), part(100), part(900)], [0.1, 0.1, 0.25, 1.0, 1.0]);
        let eager = SlowStart::new(Duration::from_secs(100), 2.0, 0.1).unwrap();
        assert_eq!(eager.part(at(35), at(10)), 0.5);
        assert_eq!(SlowStart::new(Duration::ZERO, 1.0, 0.1).unwrap_err().field, "window");
    }
}
