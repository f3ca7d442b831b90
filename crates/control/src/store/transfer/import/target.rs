//! The store that takes an export in.

use std::collections::HashMap;

use bytes::Bytes;

use super::{
    super::{
        super::{Compare, LeaseId, Op, Revision, Span, Store, Transaction},
        Error, Summary,
        line::{End, LeaseLine, Parsed, parse_lease},
    },
    Import, Lines,
};
use crate::store::{
    lineage,
    schema::{self, IMPORT, KEY, MIGRATION, ROOT, State, state},
};

/// Entries that one transaction takes.
const BATCH: usize = 100;

pub(super) struct Target<'a> {
    store: &'a dyn Store,
    options: Import,
    /// Of the export.
    schema: u32,
    /// The revision of this import's mark.
    mark: Revision,
    /// Leases of the export by what they are here.
    leases: HashMap<LeaseId, LeaseId>,
    batch: Vec<Op>,
    batch_bytes: usize,
    /// The version is put last.
    version: Option<Bytes>,
    /// The export has a mark of its lineage, which another one takes the place of.
    marked: bool,
    done: Summary,
}

impl<'a> Target<'a> {
    /// Marks the store, and empties it.
    pub(super) async fn begin(
        store: &'a dyn Store,
        options: Import,
        schema: u32,
    ) -> Result<Self, Error> {
        let untouched = match state(store).await {
            Ok(State::Importing(mark)) => Compare::unchanged(IMPORT, mark),
            Ok(State::Empty) => Compare::absent(IMPORT),
            Ok(State::Version(_)) | Err(schema::Error::Unversioned { .. }) if !options.replace => {
                return Err(Error::NotEmpty);
            }
            Ok(State::Version(_)) | Err(schema::Error::Unversioned { .. }) => {
                Compare::absent(IMPORT)
            }
            Err(error) => return Err(error.into()),
        };
        let begin =
            Transaction::new().when(untouched).then(Op::put(IMPORT, "")).then(Op::delete(KEY));
        let begun = store.commit(begin).await?;
        if !begun.succeeded {
            return Err(Error::Overtaken);
        }
        let target = Self {
            store,
            options,
            schema,
            mark: begun.revision,
            leases: HashMap::new(),
            batch: Vec::new(),
            batch_bytes: 0,
            version: None,
            marked: false,
            done: Summary::default(),
        };
        let before = Op::Delete(Span::range(ROOT, IMPORT));
        let after = Op::Delete(Span::prefix(ROOT).after(IMPORT.as_bytes()));
        target.commit(vec![before, after]).await?;
        Ok(target)
    }

    pub(super) async fn lease(&mut self, line: &LeaseLine, lines: &Lines<'_>) -> Result<(), Error> {
        let id = parse_lease(&line.id).map_err(|why| lines.wrong(why))?;
        let ttl = std::time::Duration::from_secs(line.ttl_s).max(self.options.least_ttl);
        let granted = self.store.grant(ttl).await?;
        self.leases.insert(id, granted.id);
        self.done.leases += 1;
        Ok(())
    }

    pub(super) async fn entry(&mut self, entry: Parsed, lines: &Lines<'_>) -> Result<(), Error> {
        let Parsed { key, value, lease } = entry;
        self.done.entries += 1;
        if key == KEY {
            self.version = Some(value);
            return Ok(());
        }
        if key == lineage::KEY {
            self.marked = true;
            return Ok(());
        }
        if !key.starts_with(ROOT.as_bytes()) || key == IMPORT || key == MIGRATION {
            return Err(lines.wrong(format!("its key does not belong into an export of {ROOT}")));
        }
        let here = lease.map(|lease| {
            let here = self.leases.get(&lease).copied();
            here.ok_or_else(|| lines.wrong(format!("its lease {lease} has no line before it")))
        });
        let lease = here.transpose()?;
        let bytes = key.len() + value.len();
        if self.batch.len() == BATCH || self.batch_bytes + bytes > Transaction::MAX_BYTES {
            self.flush().await?;
        }
        self.batch_bytes += bytes;
        self.batch.push(Op::Put { key, value, lease });
        Ok(())
    }

    /// Puts the version and takes the mark away, in one transaction.
    pub(super) async fn finish(mut self, end: &End, lines: &Lines<'_>) -> Result<Summary, Error> {
        let Summary { leases, entries, .. } = self.done;
        if *end != (End { leases, entries }) {
            return Err(self.truncated());
        }
        let version = self.version.take().filter(|version| *version == self.schema.to_string());
        let version = version.ok_or_else(|| lines.wrong("the export lacks its schema version"))?;
        self.flush().await?;
        for &lease in self.leases.values() {
            self.store.keep_alive(lease).await?;
        }
        // In one without, the next replica of control puts one.
        let lineage = self.marked.then(|| Op::put(lineage::KEY, lineage::fresh()));
        let last = [Op::put(KEY, version), Op::delete(IMPORT)];
        self.commit(last.into_iter().chain(lineage).collect()).await?;
        Ok(self.done)
    }

    /// An export that ends too early.
    pub(super) fn truncated(&self) -> Error {
        Error::Truncated { leases: self.done.leases, entries: self.done.entries }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        self.commit(batch).await
    }

    /// Changes the store, unless another import has begun.
    async fn commit(&self, ops: Vec<Op>) -> Result<(), Error> {
        let mine = Transaction::new().when(Compare::unchanged(IMPORT, self.mark));
        let committed = self.store.commit(ops.into_iter().fold(mine, Transaction::then)).await?;
        if committed.succeeded { Ok(()) } else { Err(Error::Overtaken) }
    }
}
