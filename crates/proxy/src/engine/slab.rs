//! Places for connections, found by a key that is never given to another one: the kernel may tell
//! of a socket that was closed a moment ago.

/// Where something is, and which of those that were there it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) place: u32,
    pub(super) generation: u32,
}

impl Key {
    /// The greatest of generations: a bit of what the kernel keeps for us tells kinds apart.
    pub(super) const GENERATIONS: u32 = u32::MAX >> 1;
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<T>,
}

#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// How many places are taken.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, value: T) -> Key {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, value: None });
            self.places.len() as u32 - 1
        });
        let there = &mut self.places[place as usize];
        there.value = Some(value);
        Key { place, generation: there.generation }
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut T> {
        self.slot(key)?.as_mut()
    }

    /// Takes it out for a while; the place stays its own. It is put back with [`put`](Self::put),
    /// or its place is given up with [`remove`](Self::remove).
    pub(super) fn take(&mut self, key: Key) -> Option<T> {
        self.slot(key)?.take()
    }

    pub(super) fn put(&mut self, key: Key, value: T) {
        if let Some(slot) = self.slot(key) {
            *slot = Some(value);
        }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let value = self.slot(key)?.take();
        let generation = &mut self.places[key.place as usize].generation;
        *generation = (*generation + 1) & Key::GENERATIONS;
        self.free.push(key.place);
        value
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        let key = |(place, there): (usize, &Place<T>)| {
            let key = Key { place: place as u32, generation: there.generation };
            there.value.as_ref().map(|_| key)
        };
        self.places.iter().enumerate().filter_map(key).collect()
    }

    fn slot(&mut self, key: Key) -> Option<&mut Option<T>> {
        let place = self.places.get_mut(key.place as usize)?;
        (place.generation == key.generation).then_some(&mut place.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_one_thing_alone() {
        let mut slab = Slab::new();
        let (a, b) = (slab.insert('a'), slab.insert('b'));
        assert_eq!((slab.remove(a), slab.remove(a), slab.len()), (Some('a'), None, 1));
        let c = slab.insert('c');
        assert_eq!((c.place, slab.get(a).is_some()), (a.place, false));
        assert_eq!((slab.take(c), slab.get(c).is_some(), slab.len()), (Some('c'), false, 2));
        slab.put(c, 'C');
        assert_eq!((slab.get(c).copied(), slab.keys()), (Some('C'), vec![c, b]));
    }
}
