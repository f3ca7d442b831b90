//! From one version to the next.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{
    super::{Compare, Entry, Op, Range, Span, Store, Transaction, error::text},
    Error, KEY, MIGRATION, State, is, state,
};

/// Entries that one transaction migrates.
const BATCH: u64 = 32;

/// A step from a version to the next.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// The version that it comes from.
    pub from: u32,
    /// The prefix of the keys that it looks at.
    pub prefix: &'static str,
    /// What becomes of an entry: at most three operations, on this key or on keys that no other
    /// entry leads to. An entry is changed once, but a new one in the prefix may be looked at too.
    pub change: fn(&Entry) -> Result<Vec<Op>, String>,
}

/// How far a migration has come.
#[derive(Serialize, Deserialize)]
struct Place {
    from: u32,
    /// The last key that is done, in Base64.
    after: String,
}

/// Takes a store from its version to another, with the steps that there are.
///
/// Several processes may do so at once: they help each other.
///
/// # Errors
/// All of [`enum@Error`].
pub async fn migrate(store: &dyn Store, to: u32, migrations: &[Migration]) -> Result<(), Error> {
    loop {
        let found = match state(store).await? {
            State::Version(found) => found,
            State::Importing(_) => return Err(Error::Importing),
            // It has been emptied since.
            State::Empty => return Err(Error::NoMigration { found: 0 }),
        };
        if found > to {
            return Err(Error::Newer { found, known: to });
        }
        if found == to {
            return Ok(());
        }
        let step = migrations.iter().find(|migration| migration.from == found);
        step_by_step(store, step.ok_or(Error::NoMigration { found })?).await?;
    }
}

/// Does a step until the store has the next version, whoever gave it.
async fn step_by_step(store: &dyn Store, migration: &Migration) -> Result<(), Error> {
    tracing::info!(from = migration.from, "migrating the store's schema");
    loop {
        let place = store.range(Range::of(Span::key(MIGRATION))).await?.entries.pop();
        let (after, mark) = match place {
            None => (None, Compare::absent(MIGRATION)),
            Some(entry) => {
                let after = after(&entry, migration.from)?;
                (after, Compare::unchanged(MIGRATION, entry.mod_revision))
            }
        };
        let prefix = Span::prefix(migration.prefix);
        let rest = after.map_or_else(|| prefix.clone(), |after| prefix.after(&after));
        let ranged = store.range(Range::of(rest).limit(BATCH)).await?;
        let next = Transaction::new().when(is(migration.from)).when(mark);
        let done = ranged.entries.is_empty();
        let next = match ranged.entries.last() {
            Some(last) => batch(next, migration, &ranged.entries)?.then(mark_at(migration, last)),
            None => next
                .then(Op::put(KEY, (migration.from + 1).to_string()))
                .then(Op::delete(MIGRATION)),
        };
        // Where it does not succeed somebody else was faster, or an entry has changed.
        let succeeded = store.commit(next).await?.succeeded;
        if (done && succeeded) || (!succeeded && has_moved_on(store, migration.from).await?) {
            return Ok(());
        }
    }
}

fn batch(
    mut next: Transaction,
    migration: &Migration,
    entries: &[Entry],
) -> Result<Transaction, Error> {
    for entry in entries {
        next = next.when(Compare::unchanged(entry.key.clone(), entry.mod_revision));
        let changes = (migration.change)(entry).map_err(|why| Error::Migration {
            from: migration.from,
            key: text(&entry.key),
            why,
        })?;
        next = changes.into_iter().fold(next, Transaction::then);
    }
    Ok(next)
}

fn mark_at(migration: &Migration, last: &Entry) -> Op {
    let place = Place { from: migration.from, after: STANDARD.encode(&last.key) };
    // Numbers and text are always written.
    Op::put(MIGRATION, serde_json::to_vec(&place).unwrap_or_default())
}

fn after(entry: &Entry, from: u32) -> Result<Option<Vec<u8>>, Error> {
    let malformed = || Error::Malformed { key: MIGRATION, value: text(&entry.value) };
    let place: Place = serde_json::from_slice(&entry.value).map_err(|_| malformed())?;
    if place.from != from {
        return Err(malformed());
    }
    STANDARD.decode(place.after).map(Some).map_err(|_| malformed())
}

async fn has_moved_on(store: &dyn Store, from: u32) -> Result<bool, Error> {
    Ok(!matches!(state(store).await?, State::Version(version) if version == from))
}
