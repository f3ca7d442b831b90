//! Out of a store.

use std::collections::HashSet;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::{
    super::{
        self as store, Entry, LeaseId, Range, Span, Store,
        schema::{self, IMPORT, MIGRATION, ROOT},
    },
    Error, FORMAT, Summary,
    line::{End, EntryLine, Header, LeaseLine, Line},
};

/// Entries that are read at a time.
const PAGE: u64 = 500;

/// Writes all that begins with [`ROOT`], as it is at one revision.
///
/// # Errors
/// Those of the store, among them [`store::Error::Compacted`] when the history of that revision went
/// before all was read: export again. [`Error::Empty`], [`Error::Migrating`], [`Error::Io`].
pub async fn export(
    store: &dyn Store,
    out: &mut (dyn AsyncWrite + Send + Unpin),
) -> Result<Summary, Error> {
    let schema = schema::version(store).await?;
    if schema == 0 {
        return Err(Error::Empty);
    }
    let migration = store.range(Range::of(Span::key(MIGRATION))).await?;
    if !migration.entries.is_empty() {
        return Err(Error::Migrating);
    }
    let revision = migration.revision;
    let header = Header { format: FORMAT, schema, revision: revision.0 };
    write(out, &Line::Header(header)).await?;
    let mut exported = Summary { revision, ..Summary::default() };
    let (mut rest, mut leases) = (Some(Span::prefix(ROOT)), Leases::default());
    while let Some(span) = rest.take() {
        let page = store.range(Range::of(span.clone()).at(revision).limit(PAGE)).await?;
        for entry in page.entries.iter().filter(|entry| entry.key != IMPORT) {
            if leases.keep(store, entry, out, &mut exported).await? {
                write(out, &Line::Entry(EntryLine::new(entry))).await?;
                exported.entries += 1;
            }
        }
        rest = page.entries.last().filter(|_| page.more).map(|last| span.after(&last.key));
    }
    let end = End { leases: exported.leases, entries: exported.entries };
    write(out, &Line::End(end)).await?;
    out.flush().await?;
    Ok(exported)
}

#[derive(Default)]
struct Leases {
    written: HashSet<LeaseId>,
    ended: HashSet<LeaseId>,
}

impl Leases {
    /// Writes the lease of an entry before it; false where the lease has ended, and the entry has
    /// gone with it.
    async fn keep(
        &mut self,
        store: &dyn Store,
        entry: &Entry,
        out: &mut (dyn AsyncWrite + Send + Unpin),
        exported: &mut Summary,
    ) -> Result<bool, Error> {
        let Some(lease) = entry.lease.filter(|lease| !self.written.contains(lease)) else {
            return Ok(true);
        };
        if self.ended.contains(&lease) {
            return Ok(false);
        }
        match store.time_to_live(lease).await {
            Ok(status) => {
                let line = LeaseLine { id: lease.to_string(), ttl_s: status.ttl.as_secs() };
                write(out, &Line::Lease(line)).await?;
                exported.leases += 1;
                self.written.insert(lease);
                Ok(true)
            }
            Err(store::Error::LeaseNotFound { .. }) => {
                self.ended.insert(lease);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

async fn write(out: &mut (dyn AsyncWrite + Send + Unpin), line: &Line) -> Result<(), Error> {
    let mut text = serde_json::to_vec(line).map_err(std::io::Error::from)?;
    text.push(b'\n');
    Ok(out.write_all(&text).await?)
}
