//! Making replies: their head, their size, and those for queries that nobody answered.

use hickory_proto::op::{Message, Metadata, ResponseCode};

use crate::{
    upstream::Failure,
    wire::{self, HEADER_BYTES, Head},
};

/// An empty reply.
pub(crate) fn to(head: &Head) -> Message {
    let mut reply = bare(&head.metadata);
    reply.add_query(head.question.clone());
    reply
}

/// A reply to a query whose question could not be read.
pub(crate) fn refusal(metadata: &Metadata, code: ResponseCode) -> Vec<u8> {
    let mut reply = bare(metadata);
    reply.metadata.response_code = code;
    encode(reply, u16::MAX)
}

/// A reply to a query that no name server answered.
pub(crate) fn failure(query: &[u8], failure: Failure) -> Option<Vec<u8>> {
    let head = wire::head(query).ok()?;
    let mut reply = to(&head);
    // Without a name server a single label exists nowhere, and saying so ends the client's search
    // at once; SERVFAIL would make it a temporary failure. Without SOA, so that nobody keeps it.
    let nowhere = failure == Failure::NoServer && head.question.name().num_labels() == 1;
    reply.metadata.response_code =
        if nowhere { ResponseCode::NXDomain } else { ResponseCode::ServFail };
    Some(encode(reply, u16::MAX))
}

fn bare(metadata: &Metadata) -> Message {
    let mut reply = Message::response(metadata.id, metadata.op_code);
    reply.metadata = Metadata::response_from_request(metadata);
    reply.metadata.recursion_available = true;
    reply
}

/// The bytes of `reply`, at most `limit_bytes` of them: additional records are left out first,
/// silently; then the whole answer, and the client is told to come by TCP (RFC 2181 section 9).
pub(crate) fn encode(mut reply: Message, limit_bytes: u16) -> Vec<u8> {
    let fits = |bytes: &Vec<u8>| bytes.len() <= usize::from(limit_bytes);
    if let Some(bytes) = reply.to_vec().ok().filter(fits) {
        return bytes;
    }
    reply.additionals.clear();
    if let Some(bytes) = reply.to_vec().ok().filter(fits) {
        return bytes;
    }
    let short = reply.truncate();
    short.to_vec().ok().filter(fits).unwrap_or_else(|| header(&reply.metadata))
}

/// A header alone: the last resort, when even the question cannot be written back.
fn header(metadata: &Metadata) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    wire::set_id(&mut bytes, metadata.id);
    bytes[2] = 0x80 | u8::from(metadata.op_code) << 3;
    bytes[3] = 0x80 | ResponseCode::ServFail.low();
    bytes
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::{
        op::{OpCode, Query},
        rr::{Name, RData, Record, RecordType, rdata::A},
    };

    use super::*;

    fn name() -> Name {
        Name::from_ascii("orders.sinew.internal.").unwrap()
    }

    fn addresses(count: u8) -> Vec<Record> {
        let data = |n| RData::A(A(Ipv4Addr::new(127, 64, 0, n)));
        (0..count).map(|n| Record::from_rdata(name(), 5, data(n))).collect()
    }

    fn reply() -> Message {
        let mut reply = Message::response(7, OpCode::Query);
        reply.add_query(Query::query(name(), RecordType::A));
        reply
    }

    #[test]
    fn additional_records_go_silently() {
        let mut full = reply();
        full.answers = addresses(2);
        full.additionals = addresses(100);
        let cut = Message::from_vec(&encode(full, 512)).unwrap();
        assert_eq!((cut.answers.len(), cut.additionals.len()), (2, 0));
        assert!(!cut.metadata.truncation);
    }

    #[test]
    fn answers_that_do_not_fit_are_truncated() {
        let mut full = reply();
        full.answers = addresses(100);
        let whole = Message::from_vec(&encode(full.clone(), u16::MAX)).unwrap();
        assert_eq!(whole.answers.len(), 100);
        let bytes = encode(full, 512);
        assert!(bytes.len() <= 512);
        let cut = Message::from_vec(&bytes).unwrap();
        assert!(cut.metadata.truncation && cut.answers.is_empty());
        assert_eq!(cut.queries.len(), 1);
    }

    #[test]
    fn failures() {
        let query = |name: &str| {
            let mut query = Message::query();
            query.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
            query.to_vec().unwrap()
        };
        let code = |name, why| {
            let reply = Message::from_vec(&failure(&query(name), why).unwrap()).unwrap();
            assert!(reply.authorities.is_empty());
            reply.metadata.response_code
        };
        assert_eq!(code("nosuch.", Failure::NoServer), ResponseCode::NXDomain);
        assert_eq!(code("nosuch.", Failure::NoAnswer), ResponseCode::ServFail);
        assert_eq!(code("example.com.", Failure::NoServer), ResponseCode::ServFail);
    }
}
