//! Which backends are on which other host, kept as they are placed: who asks for one of each host
//! does not look through all.

use std::collections::{BTreeSet, HashMap};

/// Indices of backends by the number of their host.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Elsewhere(HashMap<u32, BTreeSet<u32>>);

impl Elsewhere {
    /// A backend was on that host, and is on this one; 0: on none, or here.
    pub(super) fn moved(&mut self, backend: u32, from: u32, to: u32) {
        if from == to {
            return;
        }
        if let Some(backends) = self.0.get_mut(&from) {
            backends.remove(&backend);
            if backends.is_empty() {
                self.0.remove(&from);
            }
        }
        if to != 0 {
            self.0.entry(to).or_default().insert(backend);
        }
    }

    /// All hosts, each with its backends.
    pub(super) fn hosts(&self) -> impl Iterator<Item = (u32, impl Iterator<Item = u32>)> {
        self.0.iter().map(|(node, backends)| (*node, backends.iter().copied()))
    }
}
