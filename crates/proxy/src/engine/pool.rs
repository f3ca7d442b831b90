//! Connections to upstreams that wait for their next request. The one that was used last goes
//! first: it is the least likely to have been closed by now, and those that are too many grow old.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use sinew_resilience::Time;

use super::slab::Key;

/// Of one backend and thread: more would wait for a peak that does not come.
const MOST: usize = 256;
/// Servers close those that nobody uses after a minute or so; better before than just then.
const IDLE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: HashMap<SocketAddr, Vec<(Key, Time)>>,
    len: usize,
}

impl Pool {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn take(&mut self, address: &SocketAddr) -> Option<Key> {
        let (key, _) = self.idle.get_mut(address)?.pop()?;
        self.len -= 1;
        Some(key)
    }

    /// Keeps one; it may be another one that has to go for it.
    pub(super) fn put(&mut self, address: SocketAddr, key: Key, now: Time) -> Option<Key> {
        let idle = self.idle.entry(address).or_default();
        let goes = (idle.len() >= MOST).then(|| idle.remove(0).0);
        idle.push((key, now));
        self.len += usize::from(goes.is_none());
        goes
    }

    /// It was closed by the other side.
    pub(super) fn forget(&mut self, address: &SocketAddr, key: Key) {
        let Some(idle) = self.idle.get_mut(address) else { return };
        if let Some(at) = idle.iter().rposition(|(other, _)| *other == key) {
            idle.remove(at);
            self.len -= 1;
        }
    }

    /// Those that nobody has used for long.
    pub(super) fn old(&mut self, now: Time) -> Vec<Key> {
        let mut old = Vec::new();
        self.idle.retain(|_, idle| {
            let count = idle.partition_point(|(_, since)| now - *since >= IDLE);
            old.extend(idle.drain(..count).map(|(key, _)| key));
            !idle.is_empty()
        });
        self.len -= old.len();
        old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(place: u32) -> Key {
        Key { place, generation: 0 }
    }

    #[test]
    fn the_last_one_goes_first_and_the_first_ones_grow_old() {
        let (mut pool, here) = (Pool::default(), SocketAddr::from(([127, 0, 0, 1], 80)));
        let there = SocketAddr::from(([127, 0, 0, 2], 80));
        let at = |s| Time::ORIGIN + Duration::from_secs(s);
        for place in 0..3 {
            assert_eq!(pool.put(here, key(place), at(u64::from(place) * 10)), None);
        }
        pool.put(there, key(9), at(0));
        assert_eq!((pool.take(&here), pool.len()), (Some(key(2)), 3));
        pool.forget(&here, key(7));
        let mut old = pool.old(at(31));
        old.sort_by_key(|key| key.place);
        assert_eq!((old, pool.len()), (vec![key(0), key(9)], 1));
        pool.forget(&here, key(1));
        assert_eq!((pool.take(&here), pool.len()), (None, 0));
    }

    #[test]
    fn one_that_is_too_many_goes() {
        let (mut pool, here) = (Pool::default(), SocketAddr::from(([127, 0, 0, 1], 80)));
        for place in 0..MOST as u32 {
            assert_eq!(pool.put(here, key(place), Time::ORIGIN), None);
        }
        assert_eq!(pool.put(here, key(999), Time::ORIGIN), Some(key(0)));
        assert_eq!(pool.len(), MOST);
    }
}
