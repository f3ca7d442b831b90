//! Answers kept for the time when there are no new ones.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::invalid::{Invalid, check};
use crate::time::Time;

/// How much a [`StaleCache`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Entries, 1 to 16777216.
    pub entries: usize,
    /// Bytes of all entries together, by what is said of each when it is put.
    pub bytes: u64,
}

/// The last good answers by key: so many, and so many bytes. When it is full, the entry that was
/// put or read longest ago makes room.
///
/// It has one owner; put it under a lock to share it. All operations take the same time whatever
/// it holds.
#[derive(Debug)]
pub struct StaleCache<K, V> {
    settings: CacheSettings,
    places: HashMap<K, usize>,
    entries: Vec<Entry<K, V>>,
    /// Entries in a ring, by when they were used; this is the latest, whose `earlier` leads back.
    latest: Option<usize>,
    bytes: u64,
}

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    bytes: u64,
    at: Time,
    earlier: usize,
    later: usize,
}

impl<K: Clone + Eq + Hash, V> StaleCache<K, V> {
    /// An empty cache.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn new(settings: CacheSettings) -> Result<Self, Invalid> {
        let CacheSettings { entries, bytes } = settings;
        check((1..=1 << 24).contains(&entries), "entries", &entries, "1 to 16777216")?;
        check(bytes > 0, "bytes", &bytes, "at least 1")?;
        let (places, entries) = (HashMap::new(), Vec::new());
        Ok(Self { settings, places, entries, latest: None, bytes: 0 })
    }

    /// Keeps an answer that takes so many bytes, in the place of an older one of its key. One that
    /// is greater than the whole cache is not kept, and the older one is dropped.
    pub fn put(&mut self, now: Time, key: K, value: V, bytes: u64) {
        self.remove(&key);
        if bytes > self.settings.bytes {
            return;
        }
        while self.entries.len() >= self.settings.entries
            || self.bytes + bytes > self.settings.bytes
        {
            let Some(latest) = self.latest else { return };
            self.remove_at(self.entries[latest].later);
        }
        let place = self.entries.len();
        self.bytes += bytes;
        self.places.insert(key.clone(), place);
        self.entries.push(Entry { key, value, bytes, at: now, earlier: place, later: place });
        self.link(place);
    }

    /// The last answer of a key, and how old it is, if it is no older than this.
    pub fn get(&mut self, now: Time, key: &K, max_age: Duration) -> Option<(&V, Duration)> {
        let place = *self.places.get(key)?;
        let age = now - self.entries[place].at;
        if age > max_age {
            return None;
        }
        self.unlink(place);
        self.link(place);
        Some((&self.entries[place].value, age))
    }

    /// Drops the answer of a key.
    pub fn remove(&mut self, key: &K) {
        if let Some(place) = self.places.get(key) {
            self.remove_at(*place);
        }
    }

    /// How many entries it holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many bytes it holds, by what was said of each.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn remove_at(&mut self, place: usize) {
        self.unlink(place);
        let removed = self.entries.swap_remove(place);
        self.places.remove(&removed.key);
        self.bytes -= removed.bytes;
        // The last one has taken its place.
        let moved = self.entries.len();
        if place < moved {
            self.places.insert(self.entries[place].key.clone(), place);
            let (earlier, later) = (self.entries[place].earlier, self.entries[place].later);
            if earlier == moved {
                (self.entries[place].earlier, self.entries[place].later) = (place, place);
            } else {
                self.entries[earlier].later = place;
                self.entries[later].earlier = place;
            }
            if self.latest == Some(moved) {
                self.latest = Some(place);
            }
        }
    }

    /// Takes an entry out of the ring.
    fn unlink(&mut self, place: usize) {
        let (earlier, later) = (self.entries[place].earlier, self.entries[place].later);
        self.entries[earlier].later = later;
        self.entries[later].earlier = earlier;
        if self.latest == Some(place) {
            self.latest = (earlier != place).then_some(earlier);
        }
    }

    /// Puts an entry into the ring as the latest.
    fn link(&mut self, place: usize) {
        let latest = self.latest.unwrap_or(place);
        let earliest = if latest == place { place } else { self.entries[latest].later };
        self.entries[place].earlier = latest;
        self.entries[place].later = earliest;
        self.entries[latest].later = place;
        self.entries[earliest].earlier = place;
        self.latest = Some(place);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Put { key: u8, bytes: u64 },
        Get { key: u8 },
        Remove { key: u8 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..12_u8, 0..50_u64).prop_map(|(key, bytes)| Step::Put { key, bytes }),
            4 => (0..12_u8).prop_map(|key| Step::Get { key }),
            1 => (0..12_u8).prop_map(|key| Step::Remove { key }),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_list_in_the_order_of_use(
            entries in 1..6_usize, bytes in 1..100_u64, steps in prop::collection::vec((0..4_u64, step()), 0..300),
        ) {
            let mut cache = StaleCache::new(CacheSettings { entries, bytes }).unwrap();
            // The latest is the last: key, value, bytes, when.
            let mut list: Vec<(u8, usize, u64, u64)> = Vec::new();
            let mut now = 0;
            for (value, (after, step)) in steps.into_iter().enumerate() {
                now += after;
                let time = Time::from_ns(now);
                match step {
                    Step::Put { key, bytes: size } => {
                        cache.put(time, key, value, size);
                        list.retain(|entry| entry.0 != key);
                        if size <= bytes {
                            list.push((key, value, size, now));
                        }
                        while list.len() > entries || list.iter().map(|entry| entry.2).sum::<u64>() > bytes {
                            list.remove(0);
                        }
                    }
                    Step::Get { key } => {
                        let found = cache.get(time, &key, Duration::from_nanos(20));
                        let at = list.iter().position(|entry| entry.0 == key && now - entry.3 <= 20);
                        let naive = at.map(|at| list.remove(at));
                        list.extend(naive);
                        let naive = naive.map(|entry| (entry.1, Duration::from_nanos(now - entry.3)));
                        prop_assert_eq!(found.map(|(value, age)| (*value, age)), naive);
                    }
                    Step::Remove { key } => {
                        cache.remove(&key);
                        list.retain(|entry| entry.0 != key);
                    }
                }
                prop_assert_eq!(cache.len(), list.len());
                prop_assert_eq!(cache.bytes(), list.iter().map(|entry| entry.2).sum::<u64>());
                prop_assert_eq!(cache.is_empty(), list.is_empty());
            }
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let named = |settings| StaleCache::<u8, u8>::new(settings).unwrap_err().field;
        assert_eq!(named(CacheSettings { entries: 0, bytes: 1 }), "entries");
        assert_eq!(named(CacheSettings { entries: 1, bytes: 0 }), "bytes");
    }
}
