//! What a request does to the tables.

use bytes::Bytes;
use redb::ReadableTable as _;

use super::{
    super::{
        Batch, Committed, Compare, Entry, Error, Event, LeaseId, Op, Operand, Order, Response,
        Revision, Span, Transaction,
    },
    history::Position,
    read::{self, Failure},
    tables::{Tables, entry, record, tombstone},
};

/// The tables, and where in the history they are.
pub(super) struct State<'t> {
    pub(super) tables: Tables<'t>,
    pub(super) position: Position,
    /// What has changed since the tables were opened.
    pub(super) batches: Vec<Batch>,
    /// Whether anything has, leases and history included.
    pub(super) changed: bool,
}

impl State<'_> {
    /// Does a checked transaction. A refused one changes nothing.
    pub(super) fn commit(&mut self, transaction: &Transaction) -> Result<Committed, Failure> {
        let mut succeeded = true;
        for compare in &transaction.compares {
            succeeded = succeeded && holds(compare, self.get(&compare.key)?.as_ref());
        }
        let ops = if succeeded { &transaction.then } else { &transaction.otherwise };
        self.check(ops)?;
        let mut changes = Changes { revision: self.position.revision.next(), events: Vec::new() };
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(self.operate(op, &mut changes)?);
        }
        self.finish(changes);
        let revision = self.position.revision;
        for response in &mut responses {
            if let Response::Range(ranged) = response {
                ranged.revision = revision;
            }
        }
        Ok(Committed { succeeded, revision, responses })
    }

    /// Makes a lease.
    pub(super) fn grant(&mut self, lease: LeaseId, ttl_s: u64) -> Result<(), Failure> {
        self.changed = true;
        self.tables.leases.insert(lease.0, ttl_s)?;
        Ok(())
    }

    /// Whether there is such a lease.
    pub(super) fn has_lease(&self, lease: LeaseId) -> Result<bool, Failure> {
        Ok(self.tables.leases.get(lease.0)?.is_some())
    }

    /// Ends a lease and deletes its keys.
    pub(super) fn revoke(&mut self, lease: LeaseId) -> Result<Revision, Failure> {
        if self.tables.leases.remove(lease.0)?.is_none() {
            return Err(Failure::Refused(Error::LeaseNotFound { lease }));
        }
        self.changed = true;
        let mut changes = Changes { revision: self.position.revision.next(), events: Vec::new() };
        for key in read::keys_of(&self.tables.lease_keys, lease)? {
            self.delete(&Span::key(key), &mut changes)?;
        }
        self.finish(changes);
        Ok(self.position.revision)
    }

    fn finish(&mut self, changes: Changes) {
        let Changes { revision, events } = changes;
        if !events.is_empty() {
            self.changed = true;
            self.position.revision = revision;
            self.batches.push(Batch { revision, events });
        }
    }

    fn get(&self, key: &[u8]) -> Result<Option<Entry>, Failure> {
        let found = self.tables.keys.get(key)?;
        Ok(found.and_then(|found| entry(key, found.value())))
    }

    fn check(&self, ops: &[Op]) -> Result<(), Failure> {
        let Position { revision, compacted } = self.position;
        for op in ops {
            match op {
                Op::Put { lease: Some(lease), .. } if !self.has_lease(*lease)? => {
                    return Err(Failure::Refused(Error::LeaseNotFound { lease: *lease }));
                }
                Op::Range(range) => {
                    let asked = read::older(range);
                    asked
                        .map_or(Ok(()), |asked| read::check(asked, revision, compacted))
                        .map_err(Failure::Refused)?;
                }
                Op::Put { .. } | Op::Delete(_) => {}
            }
        }
        Ok(())
    }

    fn operate(&mut self, op: &Op, changes: &mut Changes) -> Result<Response, Failure> {
        match op {
            Op::Put { key, value, lease } => {
                self.put(key, value, *lease, changes)?;
                Ok(Response::Put)
            }
            Op::Delete(span) => Ok(Response::Deleted(self.delete(span, changes)?)),
            Op::Range(range) => {
                let Tables { keys, versions, .. } = &self.tables;
                let ranged = read::entries(keys, versions, range, changes.now())?;
                Ok(Response::Range(ranged))
            }
        }
    }

    fn put(
        &mut self,
        key: &Bytes,
        value: &Bytes,
        lease: Option<LeaseId>,
        changes: &mut Changes,
    ) -> Result<(), Failure> {
        let before = self.get(key)?;
        let entry = Entry {
            key: key.clone(),
            value: value.clone(),
            create_revision: before.as_ref().map_or(changes.revision, |old| old.create_revision),
            mod_revision: changes.revision,
            version: before.as_ref().map_or(0, |old| old.version) + 1,
            lease,
        };
        let old = before.and_then(|old| old.lease);
        if let Some(old) = old.filter(|&old| lease != Some(old)) {
            self.tables.lease_keys.remove((old.0, key.as_ref()))?;
        }
        if let Some(new) = lease.filter(|&new| old != Some(new)) {
            self.tables.lease_keys.insert((new.0, key.as_ref()), ())?;
        }
        self.tables.keys.insert(key.as_ref(), record(&entry))?;
        self.tables.versions.insert((key.as_ref(), changes.revision.0), record(&entry))?;
        self.tables.history.insert(changes.next(), key.as_ref())?;
        changes.events.push(Event::Put(entry));
        Ok(())
    }

    fn delete(&mut self, span: &Span, changes: &mut Changes) -> Result<u64, Failure> {
        let mut deleted = Vec::new();
        for found in self.tables.keys.range::<&[u8]>(span.bounds())? {
            let (key, record) = found?;
            deleted.push((Bytes::copy_from_slice(key.value()), record.value().3));
        }
        let number = deleted.len() as u64;
        for (key, lease) in deleted {
            self.tables.keys.remove(key.as_ref())?;
            if lease > 0 {
                self.tables.lease_keys.remove((lease, key.as_ref()))?;
            }
            let at = (key.as_ref(), changes.revision.0);
            self.tables.versions.insert(at, tombstone(changes.revision))?;
            self.tables.history.insert(changes.next(), key.as_ref())?;
            changes.events.push(Event::Delete(key));
        }
        Ok(number)
    }
}

/// What one transaction has changed so far.
struct Changes {
    /// That its changes bear.
    revision: Revision,
    events: Vec<Event>,
}

impl Changes {
    /// Where in the history the next change belongs.
    fn next(&self) -> (u64, u32) {
        (self.revision.0, u32::try_from(self.events.len()).unwrap_or(u32::MAX))
    }

    /// The revision of the tables, as a range within the transaction sees them.
    fn now(&self) -> Revision {
        if self.events.is_empty() { Revision(self.revision.0 - 1) } else { self.revision }
    }
}

fn holds(compare: &Compare, found: Option<&Entry>) -> bool {
    let number = |of: fn(&Entry) -> u64| found.map_or(0, of);
    let ordering = match &compare.operand {
        Operand::Value(value) => match found {
            Some(entry) => entry.value.cmp(value),
            None => return false,
        },
        Operand::Version(version) => number(|entry| entry.version).cmp(version),
        Operand::Create(revision) => number(|entry| entry.create_revision.0).cmp(&revision.0),
        Operand::Mod(revision) => number(|entry| entry.mod_revision.0).cmp(&revision.0),
    };
    match compare.order {
        Order::Equal => ordering.is_eq(),
        Order::NotEqual => ordering.is_ne(),
        Order::Greater => ordering.is_gt(),
        Order::Less => ordering.is_lt(),
    }
}
