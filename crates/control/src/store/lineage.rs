//! In what the store's revisions count. A store that is restored as it was before counts some of its
//! revisions twice, and they mean other things then. Whoever remembers revisions remembers with them
//! the mark that the store bore, and that is another one from then on: an import puts a new mark, and
//! so does who finds that somebody was told of revisions that are yet to come.

use bytes::Bytes;
use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use super::{Compare, Entry, Error, Op, Range, Span, Store, Transaction};

/// Where the mark is.
pub const KEY: &str = "sinew/config/lineage";

/// The mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredLineage {
    /// By chance, another one each time.
    pub id: String,
}

/// A mark that no store bears.
pub(super) fn fresh() -> Bytes {
    let mut random = [0; 16];
    // It is asked for rarely, and what the kernel gives without waiting is enough.
    while !matches!(getrandom(&mut random, GetRandomFlags::empty()), Ok(16)) {}
    let id = random.iter().map(|byte| format!("{byte:02x}")).collect();
    // Text is always written.
    serde_json::to_vec(&StoredLineage { id }).unwrap_or_default().into()
}

async fn there(store: &dyn Store) -> Result<Option<Entry>, Error> {
    Ok(store.range(Range::of(Span::key(KEY))).await?.entries.pop())
}

/// Gives a store that bears no mark one.
///
/// # Errors
/// As the store does.
pub async fn open(store: &dyn Store) -> Result<(), Error> {
    if there(store).await?.is_none() {
        let put = Transaction::new().when(Compare::absent(KEY)).then(Op::put(KEY, fresh()));
        store.commit(put).await?;
    }
    Ok(())
}

/// Puts another mark in the place of `known`; whether it was there still, and nobody was faster.
///
/// # Errors
/// As the store does.
pub async fn renew(store: &dyn Store, known: &str) -> Result<bool, Error> {
    let is_known = |entry: &Entry| {
        serde_json::from_slice(&entry.value).is_ok_and(|mark: StoredLineage| mark.id == known)
    };
    let Some(entry) = there(store).await?.filter(is_known) else { return Ok(false) };
    let unchanged = Compare::unchanged(KEY, entry.mod_revision);
    let put = Transaction::new().when(unchanged).then(Op::put(KEY, fresh()));
    Ok(store.commit(put).await?.succeeded)
}
