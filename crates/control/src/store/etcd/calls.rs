//! The calls.

use std::time::Duration;

use super::{
    super::{
        Committed, Error, Lease, LeaseId, LeaseStatus, Op, Range, Ranged, Revision, Span,
        Transaction, lease::seconds,
    },
    client::{Client, Method, Repeat},
    convert::{self, signed},
    wire,
};

const fn method(name: &'static str, path: &'static str, repeat: Repeat) -> Method {
    Method { name, path, repeat }
}

const RANGE: Method = method("range", "/etcdserverpb.KV/Range", Repeat::Reads);
const COMMIT: Method = method("commit", "/etcdserverpb.KV/Txn", Repeat::Never);
const DELETE: Method = method("commit", "/etcdserverpb.KV/DeleteRange", Repeat::Never);
const GREET: Method = method("greet", "/etcdserverpb.KV/Txn", Repeat::Reads);
const COMPACT: Method = method("compact", "/etcdserverpb.KV/Compact", Repeat::Never);
// A second lease ends by itself: nobody keeps it alive.
const GRANT: Method = method("grant", "/etcdserverpb.Lease/LeaseGrant", Repeat::Harmless);
const REVOKE: Method = method("revoke", "/etcdserverpb.Lease/LeaseRevoke", Repeat::Never);
const TIME_TO_LIVE: Method =
    method("time_to_live", "/etcdserverpb.Lease/LeaseTimeToLive", Repeat::Reads);

/// A sole member that was killed answers, when it has just started, from what it then knew to be
/// committed, and has its last entries still to take from its log: etcd's raft spares such a member
/// the round by which others make sure (`raft.go`, `MsgReadIndex` of a singleton). So what seems to
/// have gone back is asked for again.
const REPLAY: [Duration; 3] =
    [Duration::from_millis(50), Duration::from_millis(100), Duration::from_millis(200)];

/// What cannot be missing.
fn nothing(call: &'static str) -> Error {
    Error::Refused { call, why: "it says that a lease is not found, and none was named".to_owned() }
}

impl Client {
    /// Asks for nothing.
    pub(super) async fn greet(&self) -> Result<(), Error> {
        let request = wire::TxnRequest::default();
        let _answer: wire::TxnResponse = self.call(GREET, &request, nothing(GREET.name)).await?;
        Ok(())
    }

    pub(super) async fn range(&self, range: &Range) -> Result<Ranged, Error> {
        let before = self.seen();
        let request = convert::range(range);
        let mut pauses = REPLAY.into_iter();
        let (answer, revision) = loop {
            let answer = self.call(RANGE, &request, nothing(RANGE.name)).await;
            let answer: wire::RangeResponse =
                answer.map_err(|error| future(error, range.revision))?;
            match (self.saw(answer.header.as_ref(), before), pauses.next()) {
                (Err(Error::Rewound { .. }), Some(pause)) => tokio::time::sleep(pause).await,
                (revision, _) => break (answer, revision?),
            }
        };
        Ok(convert::ranged(answer, revision))
    }

    /// The revision now, asked for by reading what is to be read anyhow: rights may be narrow.
    pub(super) async fn revision(&self, span: &Span) -> Result<Revision, Error> {
        Ok(self.range(&Range::of(span.clone()).limit(1)).await?.revision)
    }

    pub(super) async fn commit(&self, transaction: &Transaction) -> Result<Committed, Error> {
        if let (true, [Op::Delete(span)]) = (transaction.compares.is_empty(), &transaction.then[..])
        {
            return self.delete(span).await;
        }
        let before = self.seen();
        let request = convert::transaction(transaction);
        let lease = first_lease(transaction);
        let missing = lease.map_or_else(|| nothing(COMMIT.name), not_found);
        let answer = self.call(COMMIT, &request, missing).await;
        let answer: wire::TxnResponse =
            answer.map_err(|error| future(error, first_revision(transaction)))?;
        self.saw(answer.header.as_ref(), before)?;
        Ok(convert::committed(answer))
    }

    /// A full etcd may refuse transactions that only delete; not this.
    async fn delete(&self, span: &Span) -> Result<Committed, Error> {
        let before = self.seen();
        let request = convert::deletion(span);
        let answer = self.call(DELETE, &request, nothing(DELETE.name)).await;
        let answer: wire::DeleteRangeResponse = answer?;
        self.saw(answer.header.as_ref(), before)?;
        Ok(convert::deleted(&answer))
    }

    pub(super) async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let request = wire::CompactionRequest { revision: signed(revision.0) };
        let answer = self.call(COMPACT, &request, nothing(COMPACT.name)).await;
        let _answer: wire::CompactionResponse =
            answer.map_err(|error| future(error, Some(revision)))?;
        Ok(())
    }

    pub(super) async fn grant(&self, ttl: Duration) -> Result<Lease, Error> {
        let request = wire::LeaseGrantRequest { ttl: signed(seconds(ttl)) };
        let answer: wire::LeaseGrantResponse =
            self.call(GRANT, &request, nothing(GRANT.name)).await?;
        let id = convert::lease(answer.id).ok_or_else(|| Error::Refused {
            call: GRANT.name,
            why: format!("it grants a lease {}", answer.id),
        })?;
        Ok(Lease { id, ttl: whole_seconds(answer.ttl) })
    }

    pub(super) async fn revoke(&self, lease: LeaseId) -> Result<Revision, Error> {
        let request = wire::LeaseRequest { id: signed(lease.0) };
        let answer: wire::LeaseRevokeResponse =
            self.call(REVOKE, &request, not_found(lease)).await?;
        Ok(convert::header_revision(answer.header.as_ref()))
    }

    pub(super) async fn time_to_live(&self, lease: LeaseId) -> Result<LeaseStatus, Error> {
        let request = wire::LeaseTimeToLiveRequest { id: signed(lease.0), keys: true };
        let answer: wire::LeaseTimeToLiveResponse =
            self.call(TIME_TO_LIVE, &request, not_found(lease)).await?;
        if answer.ttl < 0 {
            return Err(not_found(lease));
        }
        let mut keys = answer.keys;
        keys.sort_unstable();
        let (ttl, remaining) = (whole_seconds(answer.granted_ttl), whole_seconds(answer.ttl));
        Ok(LeaseStatus { ttl, remaining, keys })
    }
}

pub(super) fn whole_seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

pub(super) const fn not_found(lease: LeaseId) -> Error {
    Error::LeaseNotFound { lease }
}

/// etcd does not say which revision it has not reached.
fn future(error: Error, asked: Option<Revision>) -> Error {
    match error {
        Error::FutureRevision { .. } => Error::FutureRevision { asked: asked.unwrap_or_default() },
        other => other,
    }
}

fn ops(transaction: &Transaction) -> impl Iterator<Item = &Op> {
    transaction.then.iter().chain(&transaction.otherwise)
}

/// etcd does not say which lease is gone.
fn first_lease(transaction: &Transaction) -> Option<LeaseId> {
    ops(transaction).find_map(|op| if let Op::Put { lease, .. } = op { *lease } else { None })
}

fn first_revision(transaction: &Transaction) -> Option<Revision> {
    ops(transaction).find_map(|op| if let Op::Range(range) = op { range.revision } else { None })
}
