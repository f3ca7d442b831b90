//! Forgetting.
//!
//! That a revision is compacted is noted at once; what that makes superfluous goes bit by bit, so
//! that no writer waits for it.

use bytes::Bytes;
use redb::ReadableTable as _;

use super::{
    super::{Error, Revision},
    apply::State,
    read::Failure,
    tables::META_COMPACTED,
};

/// Changes that one transaction of the writer sweeps, besides twice those that it makes: more than
/// come, and so few that nobody notices the wait.
const SWEEP: usize = 128;

impl State<'_> {
    /// Notes that what was superseded before `revision` may go.
    pub(super) fn compact(&mut self, revision: Revision) -> Result<(), Failure> {
        if revision > self.position.revision {
            return Err(Failure::Refused(Error::FutureRevision { asked: revision }));
        }
        if revision <= self.position.compacted {
            let compacted_revision = Some(self.position.compacted);
            return Err(Failure::Refused(Error::Compacted { compacted_revision }));
        }
        Ok(self.note_compacted(revision)?)
    }

    fn note_compacted(&mut self, revision: Revision) -> Result<(), redb::Error> {
        self.changed = true;
        self.tables.meta.insert(META_COMPACTED, revision.0)?;
        self.position.compacted = revision;
        Ok(())
    }

    /// Compacts when much more history is there than is to be kept.
    pub(super) fn bound_history(&mut self, revisions: u64) -> Result<(), redb::Error> {
        let kept = self.position.revision.0 - self.position.compacted.0;
        if kept > revisions.saturating_add(revisions / 8) {
            self.note_compacted(Revision(self.position.revision.0 - revisions))?;
        }
        Ok(())
    }

    /// Sweeps a bit of what is superfluous, and says whether some may be left.
    pub(super) fn sweep(&mut self) -> Result<bool, redb::Error> {
        let compacted = ..=(self.position.compacted.0, u32::MAX);
        let made: usize = self.batches.iter().map(|batch| batch.events.len()).sum();
        let most = SWEEP + 2 * made;
        let mut swept: Vec<((u64, u32), Bytes)> = Vec::with_capacity(most);
        for found in self.tables.history.range(compacted)?.take(most) {
            let (at, key) = found?;
            swept.push((at.value(), Bytes::copy_from_slice(key.value())));
        }
        self.changed |= !swept.is_empty();
        for (at, key) in &swept {
            self.forget_before(key, at.0)?;
            self.tables.history.remove(at)?;
        }
        Ok(swept.len() == most)
    }

    /// Forgets versions of a key that a compacted one has superseded, and a compacted deletion.
    fn forget_before(&mut self, key: &[u8], revision: u64) -> Result<(), redb::Error> {
        let versions = &mut self.tables.versions;
        let mut superseded = Vec::new();
        for found in versions.range((key, 0)..(key, revision))? {
            superseded.push(found?.0.value().1);
        }
        let deleted = versions.get((key, revision))?.is_some_and(|found| found.value().2 == 0);
        superseded.extend(deleted.then_some(revision));
        for revision in superseded {
            versions.remove((key, revision))?;
        }
        Ok(())
    }
}
