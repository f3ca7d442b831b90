//! Between the store's words and etcd's.

use bytes::Bytes;

use super::{
    super::{
        Committed, Compare, Entry, Event, LeaseId, Op, Operand, Order, Range, Ranged, Response,
        Revision, Span, Transaction, model::End,
    },
    wire,
};

/// What etcd calls the key after all keys, and the first.
const ZERO: &[u8] = b"\0";

pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn revision(number: i64) -> Revision {
    Revision(unsigned(number))
}

pub(super) fn header_revision(header: Option<&wire::Header>) -> Revision {
    revision(header.map_or(0, |header| header.revision))
}

/// `key` and `range_end`.
pub(super) fn span(span: &Span) -> (Bytes, Bytes) {
    let zero = Bytes::from_static(ZERO);
    let start = if span.start.is_empty() { zero.clone() } else { span.start.clone() };
    let end = match &span.end {
        End::Single => Bytes::new(),
        End::Before(end) => end.clone(),
        End::Open => zero,
    };
    (start, end)
}

pub(super) fn range(range: &Range) -> wire::RangeRequest {
    let (key, range_end) = span(&range.span);
    let revision = signed(range.revision.unwrap_or_default().0);
    wire::RangeRequest { key, range_end, limit: signed(range.limit), revision }
}

pub(super) fn ranged(response: wire::RangeResponse, revision: Revision) -> Ranged {
    let entries = response.kvs.into_iter().map(entry).collect();
    Ranged { revision, entries, more: response.more }
}

fn entry(kv: wire::KeyValue) -> Entry {
    Entry {
        key: kv.key,
        value: kv.value,
        create_revision: revision(kv.create_revision),
        mod_revision: revision(kv.mod_revision),
        version: unsigned(kv.version),
        lease: lease(kv.lease),
    }
}

pub(super) fn lease(id: i64) -> Option<LeaseId> {
    (id > 0).then(|| LeaseId(unsigned(id)))
}

/// The revision of an event beside it.
pub(super) fn event(event: wire::Event) -> Option<(Revision, Event)> {
    let kv = event.kv?;
    let revision = revision(kv.mod_revision);
    let deleted = event.kind == 1;
    Some((revision, if deleted { Event::Delete(kv.key) } else { Event::Put(entry(kv)) }))
}

pub(super) fn transaction(transaction: &Transaction) -> wire::TxnRequest {
    wire::TxnRequest {
        compare: transaction.compares.iter().map(compare).collect(),
        success: transaction.then.iter().map(op).collect(),
        failure: transaction.otherwise.iter().map(op).collect(),
    }
}

fn compare(compare: &Compare) -> wire::Compare {
    let result = match compare.order {
        Order::Equal => 0,
        Order::Greater => 1,
        Order::Less => 2,
        Order::NotEqual => 3,
    };
    let (target, with) = match &compare.operand {
        Operand::Version(version) => (0, wire::Target::Version(signed(*version))),
        Operand::Create(revision) => (1, wire::Target::CreateRevision(signed(revision.0))),
        Operand::Mod(revision) => (2, wire::Target::ModRevision(signed(revision.0))),
        Operand::Value(value) => (3, wire::Target::Value(value.clone())),
    };
    wire::Compare { result, target, key: compare.key.clone(), with: Some(with) }
}

fn op(op: &Op) -> wire::Request {
    let request = match op {
        Op::Put { key, value, lease } => wire::RequestOp::Put(wire::PutRequest {
            key: key.clone(),
            value: value.clone(),
            lease: lease.map_or(0, |lease| signed(lease.0)),
        }),
        Op::Delete(span) => wire::RequestOp::DeleteRange(deletion(span)),
        Op::Range(asked) => wire::RequestOp::Range(range(asked)),
    };
    wire::Request { request: Some(request) }
}

pub(super) fn deletion(deleted: &Span) -> wire::DeleteRangeRequest {
    let (key, range_end) = span(deleted);
    wire::DeleteRangeRequest { key, range_end }
}

pub(super) fn deleted(response: &wire::DeleteRangeResponse) -> Committed {
    let revision = header_revision(response.header.as_ref());
    let responses = vec![Response::Deleted(unsigned(response.deleted))];
    Committed { succeeded: true, revision, responses }
}

pub(super) fn committed(response: wire::TxnResponse) -> Committed {
    let revision = header_revision(response.header.as_ref());
    let answer = |response: wire::Response| match response.response {
        Some(wire::ResponseOp::Range(answer)) => Response::Range(ranged(answer, revision)),
        Some(wire::ResponseOp::DeleteRange(answer)) => Response::Deleted(unsigned(answer.deleted)),
        // An empty message is not on the wire.
        Some(wire::ResponseOp::Put(_)) | None => Response::Put,
    };
    let responses = response.responses.into_iter().map(answer).collect();
    Committed { succeeded: response.succeeded, revision, responses }
}
