//! The decision about one query, without IO.

use hickory_proto::{
    op::{Edns, Message, OpCode, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, NS, PTR, SOA, SRV},
    },
};

use crate::{
    reply,
    wire::{self, Head, Unreadable},
    zone::{Node, Place, Service, Zone},
};

/// Seconds that an answer may be kept. A name keeps its address for ever; this is for the day when
/// the network is removed from the host.
const TTL: u32 = 5;
/// Seconds that "no such name" may be kept: services appear at any moment.
const NEGATIVE_TTL: u32 = 1;
/// Largest datagram of ours: what fits every network, as of DNS Flag Day 2020.
const PAYLOAD_BYTES: u16 = 1232;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: the answer is cut to what the client takes.
    Udp,
    /// On a connection: the answer may have 65535 bytes.
    Tcp,
}

/// What becomes of a query.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is answered with these bytes.
    Reply(Vec<u8>),
    /// It is not ours: the host's name servers are asked.
    Forward,
    /// It is no query: silence.
    Drop,
}

/// Decides about the query in `bytes`.
#[must_use]
pub fn answer(zone: &Zone, bytes: &[u8], transport: Transport) -> Decision {
    let head = match wire::head(bytes) {
        Ok(head) => head,
        Err(Unreadable::Silence) => return Decision::Drop,
        Err(Unreadable::Refuse(metadata, code)) => {
            return Decision::Reply(reply::refusal(&metadata, code));
        }
    };
    let Some(place) = zone.find(head.question.name()) else { return Decision::Forward };
    let Ok(query) = Message::from_vec(bytes) else {
        return Decision::Reply(reply::refusal(&head.metadata, ResponseCode::FormErr));
    };
    let mut reply = reply::to(&head);
    reply.edns = query.edns.as_ref().map(our_edns);
    match refusal(&head, query.edns.as_ref()) {
        Some(code) => reply.metadata.response_code = code,
        None => fill(&mut reply, &head, &place, zone.serial()),
    }
    let limit = match transport {
        Transport::Udp => query.max_payload().min(PAYLOAD_BYTES),
        Transport::Tcp => u16::MAX,
    };
    Decision::Reply(reply::encode(reply, limit))
}

fn our_edns(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD_BYTES).set_dnssec_ok(asked.flags().dnssec_ok);
    edns
}

/// Why a query about our names is not looked at.
fn refusal(head: &Head, edns: Option<&Edns>) -> Option<ResponseCode> {
    let class = head.question.query_class();
    match head.question.query_type() {
        _ if edns.is_some_and(|e| e.version() > 0) => Some(ResponseCode::BADVERS),
        _ if head.metadata.op_code != OpCode::Query => Some(ResponseCode::NotImp),
        _ if !matches!(class, DNSClass::IN | DNSClass::ANY) => Some(ResponseCode::Refused),
        RecordType::AXFR | RecordType::IXFR => Some(ResponseCode::Refused),
        _ => None,
    }
}

fn fill(reply: &mut Message, head: &Head, place: &Place<'_>, serial: u32) {
    reply.metadata.authoritative = true;
    reply.answers = answers(head.question.name(), head.question.query_type(), place, serial);
    if let Node::Port(service, _) = place.node
        && !reply.answers.is_empty()
    {
        reply.additionals = addresses(&service.name, service, RecordType::ANY);
    }
    if reply.answers.is_empty() {
        reply.authorities = vec![soa(&place.apex, serial)];
    }
    if matches!(place.node, Node::Missing) {
        reply.metadata.response_code = ResponseCode::NXDomain;
    }
}

/// ANY gets every record of the name (RFC 8482 section 4.1 allows it, and there are at most two).
fn answers(name: &Name, asked: RecordType, place: &Place<'_>, serial: u32) -> Vec<Record> {
    let asks = |t| asked == t || asked == RecordType::ANY;
    match &place.node {
        Node::Apex => {
            let ns = || record(name, TTL, RData::NS(NS(place.apex.clone())));
            let soa = asks(RecordType::SOA).then(|| soa(name, serial));
            soa.into_iter().chain(asks(RecordType::NS).then(ns)).collect()
        }
        Node::Service(service) => addresses(name, service, asked),
        Node::Port(service, port) if asks(RecordType::SRV) => {
            vec![record(name, TTL, RData::SRV(SRV::new(0, 0, *port, service.name.clone())))]
        }
        Node::Pointer(service) if asks(RecordType::PTR) => {
            vec![record(name, TTL, RData::PTR(PTR(service.name.clone())))]
        }
        Node::Port(..) | Node::Pointer(_) | Node::Empty | Node::Missing => Vec::new(),
    }
}

fn addresses(owner: &Name, service: &Service, asked: RecordType) -> Vec<Record> {
    [RData::A(A(service.address4)), RData::AAAA(AAAA(service.address6))]
        .into_iter()
        .filter(|data| asked == RecordType::ANY || data.record_type() == asked)
        .map(|data| record(owner, TTL, data))
        .collect()
}

fn record(owner: &Name, ttl: u32, data: RData) -> Record {
    Record::from_rdata(owner.clone(), ttl, data)
}

/// The zone names itself as its server, as locally served zones do (RFC 6303 section 3).
fn soa(apex: &Name, serial: u32) -> Record {
    let nobody = Name::from_labels([b"nobody".as_slice(), b"invalid"]).unwrap_or_default();
    let soa = SOA::new(apex.clone(), nobody, serial, 3600, 1200, 604_800, NEGATIVE_TTL);
    record(apex, NEGATIVE_TTL, RData::SOA(soa))
}

#[cfg(test)]
mod tests;
