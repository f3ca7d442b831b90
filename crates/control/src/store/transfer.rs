//! From one store to another, by way of a file.
//!
//! An export is lines of JSON: a header, leases and entries, and an end that counts them.
//!
//! ```json
//! {"header":{"format":1,"schema":1,"revision":4711}}
//! {"lease":{"id":"00000000000004d2","ttl_s":5}}
//! {"entry":{"key":"sinew/a","value":"text"}}
//! {"entry":{"key":"sinew/b","value_base64":"AP8=","lease":"00000000000004d2"}}
//! {"end":{"leases":1,"entries":2}}
//! ```
//!
//! It shows the store as it was at one revision. Revisions are not kept: the target has its own.
//! Leases are granted anew, so that what hosts have registered outlives the move until they come
//! back and register again.

mod export;
mod import;
mod line;

pub use export::export;
pub use import::{Import, import};

/// The version of the lines' format.
pub const FORMAT: u32 = 1;

/// What was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The revision that the export shows.
    pub revision: super::Revision,
    /// Leases that have keys.
    pub leases: u64,
    /// Keys with their values.
    pub entries: u64,
}

/// Why an export or import failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] super::Error),
    /// The store cannot be used as it is.
    #[error(transparent)]
    Schema(#[from] super::schema::Error),
    /// The file failed.
    #[error("the export cannot be read or written: {0}")]
    Io(#[from] std::io::Error),
    /// There is nothing to export.
    #[error("the store is empty: there is nothing to export")]
    Empty,
    /// A migration goes on in the store.
    #[error("the store's schema is being migrated: export it when that is done")]
    Migrating,
    /// A line is not what it has to be.
    #[error("line {line} of the export: {why}")]
    Line {
        /// From 1 on.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The export was written by a later Sinew.
    #[error("the export has format {found}, and this program knows {FORMAT}")]
    Format {
        /// The export's.
        found: u32,
    },
    /// The end is missing, or counts otherwise.
    #[error(
        "the export ends after {leases} leases and {entries} entries, and is not whole: export again"
    )]
    Truncated {
        /// Leases found.
        leases: u64,
        /// Entries found.
        entries: u64,
    },
    /// The target has data.
    #[error("the store is not empty: import into an empty one, or say that it is to be replaced")]
    NotEmpty,
    /// Another import into the same store is going on.
    #[error("another import into the store has begun since: only one can be")]
    Overtaken,
}
