//! What a certificate's age asks for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Moment;

/// From when to when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Its first second.
    pub not_before: Moment,
    /// Its last second.
    pub not_after: Moment,
}

/// What to do about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing, until then.
    Fine {
        /// When to look again.
        renew_at: Moment,
    },
    /// Renew it.
    Renew,
    /// Renew it, and tell people that this has failed for long.
    Alarm {
        /// Time until it expires.
        left: Duration,
    },
    /// It holds no more: join again with a fresh token.
    Expired {
        /// For so long.
        by: Duration,
    },
    /// It does not hold yet: this host's clock is behind.
    NotYetValid {
        /// By so much at least.
        by: Duration,
    },
}

impl Life {
    /// What is due at `now`. `jitter` of 0 to 1 is this certificate's own, chosen once: it has up to a
    /// twentieth of the life renewed earlier, so that hosts that joined at once do not renew at once.
    #[must_use]
    pub fn due(&self, now: Moment, jitter: f64) -> Due {
        let whole = self.not_after.since(self.not_before);
        let early = whole.mul_f64(jitter.clamp(0.0, 1.0) / 20.0);
        let renew_at = self.not_before + (whole * 2 / 3).saturating_sub(early);
        if now > self.not_after {
            Due::Expired { by: now.since(self.not_after) }
        } else if now < self.not_before {
            Due::NotYetValid { by: self.not_before.since(now) }
        } else if now >= self.not_before + whole * 4 / 5 {
            Due::Alarm { left: self.not_after.since(now) }
        } else if now >= renew_at {
            Due::Renew
        } else {
            Due::Fine { renew_at }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: Life = Life { not_before: Moment(1_000_000), not_after: Moment(1_086_400) };

    #[test]
    fn a_day_is_renewed_after_sixteen_hours_and_alarmed_at_four_fifths() {
        let at = |seconds: u64| DAY.due(Moment(1_000_000 + seconds), 0.0);
        assert_eq!(at(0), Due::Fine { renew_at: Moment(1_057_600) });
        assert_eq!(at(57_599), Due::Fine { renew_at: Moment(1_057_600) });
        assert_eq!(at(57_600), Due::Renew);
        assert_eq!(at(69_119), Due::Renew);
        assert_eq!(at(69_120), Due::Alarm { left: Duration::from_secs(17_280) });
        assert_eq!(at(86_400), Due::Alarm { left: Duration::ZERO });
        assert_eq!(at(86_401), Due::Expired { by: Duration::from_secs(1) });
        let early = DAY.due(Moment(999_940), 0.0);
        assert_eq!(early, Due::NotYetValid { by: Duration::from_secs(60) });
    }

    fn rank(due: Due) -> u8 {
        match due {
            Due::NotYetValid { .. } => 0,
            Due::Fine { .. } => 1,
            Due::Renew => 2,
            Due::Alarm { .. } => 3,
            Due::Expired { .. } => 4,
        }
    }

    proptest! {
        #[test]
        fn it_only_grows_worse(
            start in 0_u64..1 << 40, life in 0_u64..1 << 30, jitter in -1.0_f64..2.0,
            times in proptest::collection::vec(0_u64..1 << 41, 2..20),
        ) {
            let life = Life { not_before: Moment(start), not_after: Moment(start + life) };
            let mut times = times;
            times.sort_unstable();
            let ranks: Vec<u8> =
                times.into_iter().map(|now| rank(life.due(Moment(now), jitter))).collect();
            prop_assert!(ranks.is_sorted(), "{ranks:?}");
        }

        #[test]
        fn who_waits_until_it_is_due_finds_it_due(
            life in 60_u64..1 << 30, jitter in 0.0_f64..=1.0,
        ) {
            let certificate = Life { not_before: Moment(0), not_after: Moment(life) };
            let Due::Fine { renew_at } = certificate.due(Moment(0), jitter) else {
                return Err(TestCaseError::fail("new, and not fine"));
            };
            prop_assert_eq!(certificate.due(renew_at, jitter), Due::Renew);
            prop_assert!(renew_at.0 >= life * 6 / 10 && renew_at.0 <= life * 2 / 3);
        }
    }
}
