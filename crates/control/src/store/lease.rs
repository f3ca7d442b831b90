//! Leases: keys that go unless their owner is heard of.

use std::{fmt, time::Duration};

use bytes::Bytes;

/// The number of a lease, unique over the life of a store. Never 0; at most 63 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    /// As `etcdctl` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A lease as it was granted or renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// To be named in puts.
    pub id: LeaseId,
    /// It ends so long after it was granted or last kept alive; whole seconds. Not before: a store
    /// that restarts, or changes its leader, starts the time of every lease anew.
    pub ttl: Duration,
}

/// What is left of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseStatus {
    /// What was granted.
    pub ttl: Duration,
    /// Until it ends; whole seconds in etcd.
    pub remaining: Duration,
    /// In order.
    pub keys: Vec<Bytes>,
}

/// Whole seconds, at least one: what stores count in.
pub(super) fn seconds(ttl: Duration) -> u64 {
    let whole = ttl.as_secs();
    let rounded = if ttl.subsec_nanos() > 0 { whole.saturating_add(1) } else { whole };
    rounded.clamp(1, MAX_TTL_S)
}

/// etcd's limit.
const MAX_TTL_S: u64 = 9_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_seconds_are_rounded_up() {
        assert_eq!(seconds(Duration::ZERO), 1);
        assert_eq!(seconds(Duration::from_millis(1_001)), 2);
        assert_eq!(seconds(Duration::from_secs(5)), 5);
        assert_eq!(seconds(Duration::MAX), MAX_TTL_S);
    }
}
