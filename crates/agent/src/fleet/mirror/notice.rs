//! What somebody should know of the mirror, in words.

use std::fmt;

use sinew_model::ServiceName;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Endpoints are missing without a reason, and stay in use.
    Suspected {
        /// Of which service.
        service: ServiceName,
        /// How many more.
        count: usize,
    },
    /// Endpoints of dead hosts stay in use because too many went at once.
    Parked {
        /// Of which service.
        service: ServiceName,
        /// How many more.
        count: usize,
    },
    /// Endpoints were removed on control's word alone.
    Released {
        /// Of which service.
        service: ServiceName,
        /// How many.
        count: usize,
        /// How many more wait.
        left: usize,
    },
    /// So many are out that this is doubted: all are routed to.
    Panic {
        /// Of which service.
        service: ServiceName,
        /// How many are out.
        out: usize,
        /// Of how many.
        of: usize,
    },
    /// Only those that are well are routed to again.
    Calm {
        /// Of which service.
        service: ServiceName,
    },
    /// A declared capacity is nearly used up.
    NearlyFull {
        /// Endpoints of other hosts.
        used: usize,
        /// How many there can be.
        holds: usize,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suspected { service, count } => write!(
                f,
                "{count} endpoints of {service} are missing from what control tells, without a reason; they stay in use"
            ),
            Self::Parked { service, count } => write!(
                f,
                "{count} endpoints of {service} on hosts declared dead stay in use: too many went at once"
            ),
            Self::Released { service, count, left } => write!(
                f,
                "{count} endpoints of {service} are removed on control's word, {left} more wait"
            ),
            Self::Panic { service, out, of } => write!(
                f,
                "{out} of {of} remote endpoints of {service} are unhealthy or dead, which is doubtful; all are routed to"
            ),
            Self::Calm { service } => {
                write!(f, "only healthy remote endpoints of {service} are routed to again")
            }
            Self::NearlyFull { used, holds } => {
                write!(f, "{used} of at most {holds} endpoints of other hosts are in use")
            }
        }
    }
}
