//! What somebody should know of the link, in words.

use std::{fmt, time::Duration};

use sinew_model::ServiceName;
use sinew_proto::Welcome;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// There is no session; what is known stays in use.
    Lost {
        /// Of the replica.
        address: String,
        /// Why.
        why: String,
    },
    /// The clocks differ.
    ClockSkew {
        /// The replica.
        control: String,
        /// By how much at least.
        by: Duration,
        /// Whether this host's is the later one.
        ahead: bool,
    },
    /// Control did not do all that a report says.
    Held {
        /// Of which service.
        service: ServiceName,
        /// What, and why not.
        reason: String,
    },
}

impl Notice {
    /// Compares the clocks, when the answer to a greeting `took` so long: what it may have been
    /// under way is no difference.
    pub(super) fn clock_skew(
        own: Duration,
        took: Duration,
        welcome: &Welcome,
        threshold: Duration,
    ) -> Option<Self> {
        let theirs = welcome.wall_clock;
        let ahead = own > theirs;
        let difference = own.abs_diff(theirs);
        let by = if ahead { difference.saturating_sub(took) } else { difference };
        let control = welcome.control.clone();
        (by > threshold).then_some(Self::ClockSkew { control, by, ahead })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { address, why } => {
                write!(f, "no session with control at {address}: {why}; what is known stays in use")
            }
            Self::ClockSkew { control, by, ahead } => {
                let direction = if *ahead { "ahead of" } else { "behind" };
                write!(
                    f,
                    "this host's clock is {by:?} {direction} that of control {control}: certificates may seem expired; set the clocks by NTP"
                )
            }
            Self::Held { service, reason } => {
                write!(f, "control did not take all that was reported of {service}: {reason}")
            }
        }
    }
}
