//! Time and randomness for the cores.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::rand::{GetRandomFlags, getrandom};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use sinew_identity::Moment;
use tokio::time::Instant;

use crate::session::Now;

/// Counts from when it was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic: self.0.elapsed(), wall }
    }

    /// When that time of [`Now::monotonic`] is.
    pub(super) fn at(self, monotonic: Duration) -> Instant {
        self.0 + monotonic
    }
}

pub(super) fn moment() -> Moment {
    Moment::now()
}

pub(crate) fn for_tls() -> Arc<dyn TimeProvider> {
    Arc::new(DefaultTimeProvider)
}

/// Any number: what is asked for here does not have to be secret.
pub(super) fn random() -> u32 {
    let mut bytes = [0; 4];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(_) => u32::from_ne_bytes(bytes),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos(),
    }
}

/// From 0 to 1.
pub(super) fn unit() -> f64 {
    f64::from(random()) / f64::from(u32::MAX)
}
