//! Which tombstones are forgotten: those that are old, and the oldest of a service that has too many.
//!
//! Who was told of a service before what is swept gets it whole, so nothing that is gone comes back.
//! Sweeping changes nothing that anybody sees, and is no entry of the history.

use sinew_model::ServiceName;

use crate::{
    records::{Key, StoredSweep, write as encode},
    registry::{Grave, Registry},
    session::{Now, milliseconds},
    store::{Compare, Op, Revision, Transaction},
};

/// Tombstones of one write.
const MAX_OPS: usize = 100;

/// What to sweep of a service; `None`: nothing.
#[must_use]
pub fn sweep(service: &ServiceName, now: Now, registry: &Registry) -> Option<Transaction> {
    let limits = registry.config().limits();
    let now_ms = milliseconds(now.wall);
    let age = |grave: &Grave<'_>| now_ms.saturating_sub(grave.stored.at_ms);
    let mut graves: Vec<_> = registry.graves(service).collect();
    graves.sort_by_key(|grave| grave.generation);
    let most = usize::try_from(limits.service_tombstones).unwrap_or(usize::MAX);
    let surplus = graves.len().saturating_sub(most);
    let counts = |grave: &Grave<'_>| {
        // The cap of removals goes by it.
        grave.stored.capped && age(grave) < limits.removal_interval_ms
    };
    let old =
        |index: usize, grave: &Grave<'_>| age(grave) >= limits.tombstone_life_ms || index < surplus;
    let swept = graves.into_iter().enumerate();
    let swept = swept.filter(|(index, grave)| old(*index, grave) && !counts(grave));
    let swept: Vec<_> = swept.map(|(_, grave)| grave).take(MAX_OPS).collect();
    let newest = swept.iter().map(|grave| grave.generation).max()?;
    let sweep = StoredSweep { generation: newest.max(registry.swept(service)) };
    let put = Op::put(Key::Swept(service.clone()).bytes(), encode(&sweep));
    let delete = |all: Transaction, grave: &Grave<'_>| {
        let key = Key::Tombstone(service.clone(), grave.key.clone()).bytes();
        all.when(Compare::unchanged(key.clone(), Revision(grave.generation.0)))
            .then(Op::delete(key))
    };
    Some(swept.iter().fold(Transaction::new().then(put), delete))
}
