//! Which version of Sinew's data a store has, and the way to the newest.
//!
//! All of Sinew's keys begin with [`ROOT`]. Their version is a key of its own. A store with a newer
//! version is refused; one with an older is migrated, step by step, by one process at a time. A
//! migration that is interrupted goes on where it was.

mod migrate;

use bytes::Bytes;

pub use migrate::{Migration, migrate};

use super::{Compare, Entry, Op, Operand, Order, Range, Revision, Span, Store, Transaction};

/// What all of Sinew's keys begin with.
pub const ROOT: &str = "sinew/";
/// The version that this program reads and writes.
pub const VERSION: u32 = 1;
/// Its value is the version, in decimal.
pub const KEY: &str = "sinew/schema";
/// There while an import goes on, or after one was interrupted.
pub(super) const IMPORT: &str = "sinew/import";
/// There while a migration goes on: how far it has come.
pub(super) const MIGRATION: &str = "sinew/migration";

/// The steps from every version there was.
const MIGRATIONS: &[Migration] = &[];

/// Why a store cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] super::Error),
    /// It was written by a later Sinew.
    #[error(
        "the store has schema version {found}, and this program knows {known}: use the Sinew that \
         wrote it, or a later one"
    )]
    Newer {
        /// The store's.
        found: u32,
        /// This program's.
        known: u32,
    },
    /// There is no way from that version.
    #[error("there is no migration from schema version {found}")]
    NoMigration {
        /// The store's.
        found: u32,
    },
    /// There are keys below [`ROOT`], and no version.
    #[error(
        "the store has no schema version, and yet {key}: what begins with {ROOT} belongs to Sinew; \
         use another store, or delete it"
    )]
    Unversioned {
        /// One of them.
        key: String,
    },
    /// A key of this module has a value that it never writes.
    #[error("{key} is {value}: it was changed by something else; import an export")]
    Malformed {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// An import was begun and has not ended.
    #[error("an import into the store is not finished: wait for it, or repeat it")]
    Importing,
    /// A migration does not take what it found.
    #[error("migrating schema version {from}: {key}: {why}; nothing of it is lost")]
    Migration {
        /// The version that it comes from.
        from: u32,
        /// The entry.
        key: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Prepares a store for use: gives an empty one the version, migrates an older one.
///
/// # Errors
/// All of [`enum@Error`]. After one of the store's that [`super::Error::retry`] speaks for, it can
/// be called again.
pub async fn open(store: &dyn Store) -> Result<(), Error> {
    if let State::Empty = state(store).await? {
        let version = Op::put(KEY, VERSION.to_string());
        store.commit(Transaction::new().when(Compare::absent(KEY)).then(version)).await?;
    }
    migrate(store, VERSION, MIGRATIONS).await
}

/// What a store holds.
pub(super) enum State {
    /// Nothing below [`ROOT`].
    Empty,
    /// An import that is not finished. The revision of its mark.
    Importing(Revision),
    /// Data of that version.
    Version(u32),
}

/// Looks at a store.
pub(super) async fn state(store: &dyn Store) -> Result<State, Error> {
    let keys = [KEY, IMPORT].map(|key| Op::Range(Range::of(Span::key(key))));
    let first = Op::Range(Range::of(Span::prefix(ROOT)).limit(1));
    let look = keys.into_iter().chain([first]).fold(Transaction::new(), Transaction::then);
    let committed = store.commit(look).await?;
    let mut found = committed.responses.into_iter().map(|response| match response {
        super::Response::Range(mut ranged) => ranged.entries.pop(),
        super::Response::Put | super::Response::Deleted(_) => None,
    });
    let (version, import, first) = (found.next(), found.next(), found.next());
    if let Some(mark) = import.flatten() {
        return Ok(State::Importing(mark.mod_revision));
    }
    match (version.flatten(), first.flatten()) {
        (Some(version), _) => Ok(State::Version(number(&version)?)),
        (None, Some(other)) => Err(Error::Unversioned { key: super::error::text(&other.key) }),
        (None, None) => Ok(State::Empty),
    }
}

/// The version in use.
pub(super) async fn version(store: &dyn Store) -> Result<u32, Error> {
    match state(store).await? {
        State::Version(version) => Ok(version),
        State::Importing(_) => Err(Error::Importing),
        State::Empty => Ok(0),
    }
}

fn number(entry: &Entry) -> Result<u32, Error> {
    let text = std::str::from_utf8(&entry.value).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::Malformed { key: KEY, value: super::error::text(&entry.value) })
}

/// That the store has that version.
pub(super) fn is(version: u32) -> Compare {
    Compare::new(KEY, Order::Equal, Operand::Value(Bytes::from(version.to_string())))
}
