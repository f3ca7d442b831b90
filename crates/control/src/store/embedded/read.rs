//! Reading entries: as they are, and as they were.

use std::ops::Bound;

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable};

use super::{
    super::{Entry, Error, LeaseId, Range, Ranged, Revision, Span, model::End},
    tables::{KEYS, LEASE_KEYS, META, META_COMPACTED, META_REVISION, Record, VERSIONS, entry},
};

/// Why something was not done.
pub(super) enum Failure {
    /// It may not be.
    Refused(Error),
    /// The file failed.
    Storage(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Storage(error.into())
    }
}

/// Answers a range from a snapshot.
pub(super) fn range(snapshot: &ReadTransaction, range: &Range) -> Result<Ranged, Failure> {
    let meta = snapshot.open_table(META)?;
    let number = |name| Ok::<_, redb::Error>(meta.get(name)?.map_or(0, |number| number.value()));
    let revision = Revision(number(META_REVISION)?);
    let keys = snapshot.open_table(KEYS)?;
    let versions = snapshot.open_table(VERSIONS)?;
    let compacted = Revision(number(META_COMPACTED)?);
    if let Some(asked) = older(range) {
        check(asked, revision, compacted).map_err(Failure::Refused)?;
    }
    entries(&keys, &versions, range, revision)
}

/// The revision that is asked for.
pub(super) fn older(range: &Range) -> Option<Revision> {
    range.revision.filter(|revision| revision.0 > 0)
}

/// Whether a revision can be read.
pub(super) fn check(asked: Revision, now: Revision, compacted: Revision) -> Result<(), Error> {
    if asked > now {
        return Err(Error::FutureRevision { asked });
    }
    if asked < compacted {
        return Err(Error::Compacted { compacted_revision: Some(compacted) });
    }
    Ok(())
}

/// Entries of a range that may be read; `now` is the revision of the tables.
pub(super) fn entries(
    keys: &impl ReadableTable<&'static [u8], Record<'static>>,
    versions: &impl ReadableTable<(&'static [u8], u64), Record<'static>>,
    range: &Range,
    now: Revision,
) -> Result<Ranged, Failure> {
    let most = usize::try_from(range.limit).ok().filter(|&limit| limit > 0).unwrap_or(usize::MAX);
    let mut entries = match older(range) {
        Some(revision) if revision < now => then(versions, &range.span, revision, most)?,
        _ => current(keys, &range.span, most)?,
    };
    let more = entries.len() > most;
    entries.truncate(most);
    Ok(Ranged { revision: now, entries, more })
}

/// One more than `most`, to tell whether there are more.
fn current(
    keys: &impl ReadableTable<&'static [u8], Record<'static>>,
    span: &Span,
    most: usize,
) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for found in keys.range::<&[u8]>(span.bounds())?.take(most.saturating_add(1)) {
        let (key, record) = found?;
        entries.extend(entry(key.value(), record.value()));
    }
    Ok(entries)
}

/// Of every key its last version that is not later than the revision.
fn then(
    versions: &impl ReadableTable<(&'static [u8], u64), Record<'static>>,
    span: &Span,
    revision: Revision,
    most: usize,
) -> Result<Vec<Entry>, Failure> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut last: Option<(Bytes, Option<Entry>)> = None;
    for found in versions.range::<(&[u8], u64)>(version_bounds(span))? {
        let (at, record) = found?;
        let (key, modified) = at.value();
        if last.as_ref().is_some_and(|(last, _)| last != key) {
            entries.extend(last.take().and_then(|(_, entry)| entry));
            if entries.len() > most {
                return Ok(entries);
            }
        }
        if modified <= revision.0 {
            last = Some((Bytes::copy_from_slice(key), entry(key, record.value())));
        }
    }
    entries.extend(last.and_then(|(_, entry)| entry));
    Ok(entries)
}

type VersionBound<'a> = Bound<(&'a [u8], u64)>;

fn version_bounds(span: &Span) -> (VersionBound<'_>, VersionBound<'_>) {
    let start = span.start.as_ref();
    let end = match &span.end {
        End::Single => Bound::Included((start, u64::MAX)),
        End::Before(end) => Bound::Excluded((end.as_ref(), 0)),
        End::Open => Bound::Unbounded,
    };
    (Bound::Included((start, 0)), end)
}

/// The keys of a lease, in order.
pub(super) fn lease_keys(
    snapshot: &ReadTransaction,
    lease: LeaseId,
) -> Result<Vec<Bytes>, Failure> {
    keys_of(&snapshot.open_table(LEASE_KEYS)?, lease)
}

/// The same from the tables of the writer.
pub(super) fn keys_of(
    lease_keys: &impl ReadableTable<(u64, &'static [u8]), ()>,
    lease: LeaseId,
) -> Result<Vec<Bytes>, Failure> {
    let of_lease = (lease.0, &[][..])..(lease.0.saturating_add(1), &[][..]);
    let mut keys = Vec::new();
    for found in lease_keys.range::<(u64, &[u8])>(of_lease)? {
        keys.push(Bytes::copy_from_slice(found?.0.value().1));
    }
    Ok(keys)
}
