//! How many connections each user has, so that none takes the places of all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::refusal::Refusal;

/// Connections of one user other than root. Streams hold one each.
const PER_USER: usize = 128;

/// Connections held, by user.
#[derive(Clone, Debug, Default)]
pub(super) struct Quota(Arc<Mutex<HashMap<u32, usize>>>);

/// A connection that is counted while this lives.
#[derive(Debug)]
pub(super) struct Place {
    quota: Quota,
    uid: u32,
}

impl Quota {
    /// # Errors
    /// When the user has all that one may have. Root always gets one.
    pub(super) fn take(&self, uid: u32) -> Result<Place, Refusal> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.entry(uid).or_default();
        if uid != 0 && *own >= PER_USER {
            return Err(Refusal::TooManyCalls { uid, most: PER_USER });
        }
        *own += 1;
        Ok(Place { quota: self.clone(), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.quota.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = held.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                held.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_and_root_any() {
        let quota = Quota::default();
        let mut held: Vec<_> = (0..PER_USER).map(|_| quota.take(7).unwrap()).collect();
        assert!(quota.take(7).is_err());
        assert!(quota.take(8).is_ok(), "others are not concerned");
        let root: Vec<_> = (0..=PER_USER).map(|_| quota.take(0).unwrap()).collect();
        held.pop();
        assert!(quota.take(7).is_ok(), "a place that is left is free again");
        drop((held, root));
        assert!(quota.0.lock().unwrap().is_empty());
    }
}
