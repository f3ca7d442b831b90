//! The layout of the file.

use bytes::Bytes;
use redb::{Table, TableDefinition, TableError, WriteTransaction};

use super::super::{Entry, LeaseId, Revision};

/// Of the layout below. A file with another is refused.
pub(super) const FORMAT: u64 = 1;

/// A key's create revision, mod revision, version, lease (0: none) and value. Version 0: deleted.
pub(super) type Record<'a> = (u64, u64, u64, u64, &'a [u8]);

/// Keys as they are.
pub(super) const KEYS: TableDefinition<&[u8], Record<'static>> = TableDefinition::new("keys");
/// Keys as they were made by a revision: what the history consists of.
pub(super) const VERSIONS: TableDefinition<(&[u8], u64), Record<'static>> =
    TableDefinition::new("versions");
/// The keys that a revision changed, numbered.
pub(super) const HISTORY: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("history");
/// Seconds that leases live.
pub(super) const LEASES: TableDefinition<u64, u64> = TableDefinition::new("leases");
/// The keys of leases.
pub(super) const LEASE_KEYS: TableDefinition<(u64, &[u8]), ()> = TableDefinition::new("lease_keys");
/// Single numbers.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

pub(super) const META_FORMAT: &str = "format";
pub(super) const META_REVISION: &str = "revision";
/// Older revisions may not be read, nor this one be watched.
pub(super) const META_COMPACTED: &str = "compacted";

/// All tables, for the writer.
pub(super) struct Tables<'t> {
    pub(super) keys: Table<'t, &'static [u8], Record<'static>>,
    pub(super) versions: Table<'t, (&'static [u8], u64), Record<'static>>,
    pub(super) history: Table<'t, (u64, u32), &'static [u8]>,
    pub(super) leases: Table<'t, u64, u64>,
    pub(super) lease_keys: Table<'t, (u64, &'static [u8]), ()>,
    pub(super) meta: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            keys: transaction.open_table(KEYS)?,
            versions: transaction.open_table(VERSIONS)?,
            history: transaction.open_table(HISTORY)?,
            leases: transaction.open_table(LEASES)?,
            lease_keys: transaction.open_table(LEASE_KEYS)?,
            meta: transaction.open_table(META)?,
        })
    }
}

/// The entry of a record; none where it tells of a deletion.
pub(super) fn entry(key: &[u8], record: Record<'_>) -> Option<Entry> {
    let (create, modified, version, lease, value) = record;
    (version > 0).then(|| Entry {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        create_revision: Revision(create),
        mod_revision: Revision(modified),
        version,
        lease: (lease > 0).then_some(LeaseId(lease)),
    })
}

/// The record of an entry.
pub(super) fn record(entry: &Entry) -> Record<'_> {
    let lease = entry.lease.map_or(0, |lease| lease.0);
    let Entry { create_revision, mod_revision, version, value, .. } = entry;
    (create_revision.0, mod_revision.0, *version, lease, value)
}

/// The record of a deletion.
pub(super) const fn tombstone(revision: Revision) -> Record<'static> {
    (0, revision.0, 0, 0, &[])
}
