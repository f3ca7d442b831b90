//! What differs between what was applied last and what is wanted: with tens of thousands of things,
//! a change costs what it changes. What is the same allocation is not looked at.

use std::{collections::BTreeMap, sync::Arc};

/// The way from one set to another.
#[derive(Debug)]
pub(crate) struct Delta<T> {
    /// What there was is not known: `came` is all there shall be.
    pub whole: bool,
    /// What is gone, or replaced.
    pub left: Vec<T>,
    /// What is new, or replaces something.
    pub came: Vec<T>,
}

/// What was applied last. A new one knows nothing: whoever asks it for the way to what is wanted is
/// told all of it, and compares with what the maps hold.
#[derive(Debug)]
pub(crate) struct Applied<K, T>(Option<BTreeMap<K, Arc<T>>>);

impl<K, T> Default for Applied<K, T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: Ord + Copy, T> Applied<K, T> {
    /// The way from here to `wanted`.
    pub(crate) fn to(&self, wanted: &BTreeMap<K, Arc<T>>) -> Delta<Arc<T>> {
        let Some(applied) = &self.0 else {
            return Delta {
                whole: true,
                left: Vec::new(),
                came: wanted.values().cloned().collect(),
            };
        };
        let mut delta = Delta { whole: false, left: Vec::new(), came: Vec::new() };
        let (mut old, mut new) = (applied.iter().peekable(), wanted.iter().peekable());
        loop {
            let (was, is) = (old.peek(), new.peek());
            let order = match (was, is) {
                (None, None) => return delta,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
            };
            let was = if order.is_le() { old.next() } else { None };
            let is = if order.is_ge() { new.next() } else { None };
            if let (Some((_, was)), Some((_, is))) = (was, is)
                && Arc::ptr_eq(was, is)
            {
                continue;
            }
            delta.left.extend(was.map(|(_, was)| was.clone()));
            delta.came.extend(is.map(|(_, is)| is.clone()));
        }
    }

    /// Went this way.
    pub(crate) fn reach(&mut self, delta: &Delta<Arc<T>>, key: impl Fn(&T) -> K) {
        let applied = self.0.get_or_insert_default();
        for left in &delta.left {
            applied.remove(&key(left));
        }
        for came in &delta.came {
            applied.insert(key(came), came.clone());
        }
    }
}
