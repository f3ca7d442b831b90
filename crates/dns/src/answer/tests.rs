//! Tables of queries and what becomes of them, and any bytes at all.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{MessageType, Query};
use proptest::prelude::*;
use sinew_model::{PortName, Protocol, ServiceName};

use super::*;

fn zone() -> Zone {
    let mut zone = Zone::new("sinew.internal").unwrap();
    let port = |name: &str, number, protocol| (PortName::new(name).unwrap(), number, protocol);
    let http = vec![port("http", 80, Protocol::Tcp), port("stats", 8125, Protocol::Udp)];
    let mut insert = |name: &str, last: u8, ports| {
        let address6 = Ipv6Addr::new(0xfd12, 0x3456, 0x789a, 0, 0, 0, 0, last.into());
        let name = ServiceName::new(name).unwrap();
        zone.insert(&name, Ipv4Addr::new(127, 64, 0, last), address6, ports).unwrap();
    };
    insert("orders", 1, http);
    insert("dev", 2, Vec::new());
    zone
}

fn query(name: &str, asked: RecordType) -> Message {
    let mut query = Message::new(0x1234, MessageType::Query, OpCode::Query);
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(Name::from_ascii(name).unwrap(), asked));
    query
}

fn ask(query: &Message, transport: Transport) -> Option<Message> {
    match answer(&zone(), &query.to_vec().unwrap(), transport) {
        Decision::Reply(bytes) => Some(Message::from_vec(&bytes).unwrap()),
        Decision::Forward => None,
        Decision::Drop => panic!("dropped {query:?}"),
    }
}

/// A reply as one line: the code, then each section's records.
fn line(reply: &Message) -> String {
    let section = |records: &[Record]| {
        records.iter().map(|r| format!(" {} {} {}", r.name, r.record_type(), r.data)).collect()
    };
    let sections: Vec<String> =
        [&reply.answers, &reply.authorities, &reply.additionals].map(|s| section(s)).into();
    format!("{:?}:{}", reply.metadata.response_code, sections.join(" |"))
}

const SOA: &str = "sinew.internal. SOA sinew.internal. nobody.invalid. 3 3600 1200 604800 1";

#[test]
fn names_of_the_zone() {
    use RecordType::{A, AAAA, ANY, HTTPS, MX, NS, PTR, SRV};
    let soa = |apex: &str| format!("| {}", SOA.replace("sinew.internal.", &format!("{apex}.")));
    let rows = [
        ("orders.sinew.internal.", A, "NoError: orders.sinew.internal. A 127.64.0.1 | |".into()),
        (
            "orders.sinew.internal.",
            AAAA,
            "NoError: orders.sinew.internal. AAAA fd12:3456:789a::1 | |".into(),
        ),
        (
            "OrDeRs.sInEw.internal.",
            ANY,
            "NoError: OrDeRs.sInEw.internal. A 127.64.0.1 \
             OrDeRs.sInEw.internal. AAAA fd12:3456:789a::1 | |"
                .into(),
        ),
        ("orders.", A, "NoError: orders. A 127.64.0.1 | |".into()),
        ("ORDERS.", AAAA, "NoError: ORDERS. AAAA fd12:3456:789a::1 | |".into()),
        ("orders.sinew.internal.", MX, format!("NoError: {} |", soa("sinew.internal"))),
        ("orders.sinew.internal.", HTTPS, format!("NoError: {} |", soa("sinew.internal"))),
        ("orders.", MX, format!("NoError: {} |", soa("orders"))),
        ("nosuch.sinew.internal.", A, format!("NXDomain: {} |", soa("sinew.internal"))),
        ("a.orders.sinew.internal.", A, format!("NXDomain: {} |", soa("sinew.internal"))),
        (
            "_http._tcp.orders.sinew.internal.",
            SRV,
            "NoError: _http._tcp.orders.sinew.internal. SRV 0 0 80 orders.sinew.internal. | | \
             orders.sinew.internal. A 127.64.0.1 orders.sinew.internal. AAAA fd12:3456:789a::1"
                .into(),
        ),
        (
            "_stats._UDP.orders.",
            SRV,
            "NoError: _stats._UDP.orders. SRV 0 0 8125 orders.sinew.internal. | | \
             orders.sinew.internal. A 127.64.0.1 orders.sinew.internal. AAAA fd12:3456:789a::1"
                .into(),
        ),
        ("_http._tcp.orders.sinew.internal.", A, format!("NoError: {} |", soa("sinew.internal"))),
        ("_tcp.orders.sinew.internal.", SRV, format!("NoError: {} |", soa("sinew.internal"))),
        ("_tcp.dev.sinew.internal.", SRV, format!("NXDomain: {} |", soa("sinew.internal"))),
        (
            "_http._udp.orders.sinew.internal.",
            SRV,
            format!("NXDomain: {} |", soa("sinew.internal")),
        ),
        ("_nope._tcp.orders.", SRV, format!("NXDomain: {} |", soa("orders"))),
        ("sinew.internal.", RecordType::SOA, format!("NoError: {SOA} | |")),
        ("sinew.internal.", NS, "NoError: sinew.internal. NS sinew.internal. | |".into()),
        ("sinew.internal.", ANY, format!("NoError: {SOA} sinew.internal. NS sinew.internal. | |")),
        ("sinew.internal.", A, format!("NoError: {} |", soa("sinew.internal"))),
        (
            "1.0.64.127.in-addr.arpa.",
            PTR,
            "NoError: 1.0.64.127.in-addr.arpa. PTR orders.sinew.internal. | |".into(),
        ),
        ("9.0.64.127.in-addr.arpa.", PTR, format!("NXDomain: {} |", soa("64.127.in-addr.arpa"))),
        ("1.0.80.127.in-addr.arpa.", PTR, format!("NXDomain: {} |", soa("80.127.in-addr.arpa"))),
        ("0.64.127.in-addr.arpa.", PTR, format!("NoError: {} |", soa("64.127.in-addr.arpa"))),
    ];
    for (name, asked, wanted) in rows {
        let reply = ask(&query(name, asked), Transport::Udp).expect(name);
        assert_eq!(line(&reply), wanted, "{name} {asked}");
        let metadata = reply.metadata;
        assert_eq!(metadata.id, 0x1234);
        assert!(metadata.authoritative && metadata.recursion_available);
        assert!(metadata.recursion_desired && !metadata.authentic_data && !metadata.truncation);
        assert!(reply.queries[0].name().eq_case(&Name::from_ascii(name).unwrap()), "case is kept");
        assert_eq!(reply.edns, None, "the client sent none");
        let ttls: Vec<u32> = reply.all_sections().map(|r| r.ttl).collect();
        assert!(ttls.iter().all(|t| *t == TTL || *t == NEGATIVE_TTL), "{ttls:?}");
    }
}

#[test]
fn reverse_of_the_ula() {
    let name = Name::from("fd12:3456:789a::1".parse::<Ipv6Addr>().unwrap()).to_ascii();
    let reply = ask(&query(&name, RecordType::PTR), Transport::Udp).unwrap();
    assert_eq!(reply.answers[0].data.to_string(), "orders.sinew.internal.");
    let name = Name::from("fd12:3456:789a:1::1".parse::<Ipv6Addr>().unwrap()).to_ascii();
    let reply = ask(&query(&name, RecordType::PTR), Transport::Udp).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(reply.authorities[0].name.to_ascii(), "a.9.8.7.6.5.4.3.2.1.d.f.ip6.arpa.");
}

#[test]
fn names_of_others() {
    for name in [
        ".",
        "example.com.",
        "internal.",
        "xsinew.internal.",
        "orders.sinew.internal.corp.example.",
        "nosuch.",
        "www.dev.",
        "_x.www.dev.",
        "_a._b._c.dev.",
        "orders.corp.example.",
        "1.0.0.127.in-addr.arpa.",
        "1.0.64.10.in-addr.arpa.",
        "in-addr.arpa.",
    ] {
        assert!(ask(&query(name, RecordType::A), Transport::Udp).is_none(), "{name}");
    }
}

#[test]
fn a_service_leaves_with_its_addresses() {
    let mut zone = zone();
    let name = ServiceName::new("orders").unwrap();
    let code = |zone: &Zone, name: &str, asked| {
        let bytes = query(name, asked).to_vec().unwrap();
        match answer(zone, &bytes, Transport::Udp) {
            Decision::Reply(b) => Some(Message::from_vec(&b).unwrap().metadata.response_code),
            _ => None,
        }
    };
    let snapshot = zone.clone();
    assert!(zone.remove(&name) && !zone.remove(&name));
    let reverse = ("1.0.64.127.in-addr.arpa.", RecordType::PTR);
    assert_eq!(code(&zone, "orders.sinew.internal.", RecordType::A), Some(ResponseCode::NXDomain));
    assert_eq!(code(&zone, reverse.0, reverse.1), Some(ResponseCode::NXDomain));
    assert_eq!(code(&zone, "orders.", RecordType::A), None);
    assert_eq!(code(&snapshot, "orders.", RecordType::A), Some(ResponseCode::NoError));
}

#[test]
fn edns_and_sizes() {
    let mut asked = query("orders.sinew.internal.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096).set_dnssec_ok(true);
    asked.set_edns(edns.clone());
    let reply = ask(&asked, Transport::Udp).unwrap();
    let ours = reply.edns.as_ref().unwrap();
    assert_eq!((ours.version(), ours.max_payload()), (0, PAYLOAD_BYTES));
    assert!(ours.flags().dnssec_ok, "copied (RFC 3225)");

    edns.set_version(1);
    asked.set_edns(edns);
    let reply = ask(&asked, Transport::Udp).unwrap();
    assert_eq!(reply.edns.unwrap().rcode_high(), ResponseCode::BADVERS.high());
    assert!(reply.answers.is_empty());
}

#[test]
fn what_is_refused() {
    let name = "orders.sinew.internal.";
    let code = |q: &Message| ask(q, Transport::Tcp).map(|r| r.metadata.response_code);
    assert_eq!(code(&query("sinew.internal.", RecordType::AXFR)), Some(ResponseCode::Refused));
    let mut chaos = query(name, RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&chaos), Some(ResponseCode::Refused));
    let mut update = query(name, RecordType::SOA);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(&update), Some(ResponseCode::NotImp));
    update.queries[0].set_name(Name::from_ascii("corp.example.").unwrap());
    assert_eq!(code(&update), None, "an update of another's zone is forwarded");

    let mut two = query(name, RecordType::A);
    two.add_query(two.queries[0].clone());
    assert_eq!(code(&two), Some(ResponseCode::FormErr));
    two.queries.clear();
    assert_eq!(code(&two), Some(ResponseCode::FormErr));
    two.metadata.op_code = OpCode::Status;
    assert_eq!(code(&two), Some(ResponseCode::NotImp));
}

#[test]
fn malformed() {
    let whole = query("orders.sinew.internal.", RecordType::A).to_vec().unwrap();
    for end in 0..whole.len() {
        match answer(&zone(), &whole[..end], Transport::Udp) {
            Decision::Drop => assert!(end < 12, "{end}"),
            Decision::Reply(reply) => {
                assert!(end >= 12);
                let reply = Message::from_vec(&reply).unwrap().metadata;
                assert_eq!((reply.id, reply.response_code), (0x1234, ResponseCode::FormErr));
            }
            Decision::Forward => panic!("forwarded {end} bytes"),
        }
    }
    let mut promised = whole.clone();
    promised[11] = 1;
    let Decision::Reply(reply) = answer(&zone(), &promised, Transport::Udp) else { panic!() };
    assert_eq!(Message::from_vec(&reply).unwrap().metadata.response_code, ResponseCode::FormErr);
    let mut response = whole;
    response[2] |= 0x80;
    assert_eq!(answer(&zone(), &response, Transport::Udp), Decision::Drop);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        check(&bytes)?;
    }

    /// Most bytes alone never reach the names: damage real queries instead.
    #[test]
    fn damaged_queries(
        name in prop_oneof![
            Just("orders.sinew.internal."), Just("_http._tcp.orders."), Just("1.0.64.127.in-addr.arpa.")
        ],
        asked in any::<u16>(),
        edns in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut message = query(name, RecordType::from(asked));
        if edns {
            message.set_edns(Edns::new());
        }
        let mut bytes = message.to_vec().unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.extend(tail);
        check(&bytes)?;
    }
}

/// What holds for all bytes: no panic, and a reply is a bounded, readable response to its query.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    for transport in [Transport::Udp, Transport::Tcp] {
        if let Decision::Reply(reply) = answer(&zone(), bytes, transport) {
            let message = Message::from_vec(&reply);
            prop_assert!(message.is_ok(), "{reply:?}");
            prop_assert_eq!(&reply[..2], &bytes[..2]);
            prop_assert_eq!(reply[2] & 0x80, 0x80);
            prop_assert!(transport == Transport::Tcp || reply.len() <= PAYLOAD_BYTES.into());
        }
    }
    Ok(())
}

#[test]
fn broken_queries_get_an_answer_or_none() {
    use crate::wire;
    let queries = [
        query("orders.sinew.internal.", RecordType::A),
        query("orders.", RecordType::AAAA),
        query("_http._tcp.orders.sinew.internal.", RecordType::SRV),
        query("1.0.64.127.in-addr.arpa.", RecordType::PTR),
        query("example.org.", RecordType::MX),
    ]
    .map(|query| query.to_vec().unwrap());
    let replies = ["orders.sinew.internal.", "dev.sinew.internal."]
        .map(|name| ask(&query(name, RecordType::A), Transport::Udp).unwrap().to_vec().unwrap());
    let right: Vec<&[u8]> = queries.iter().chain(&replies).map(Vec::as_slice).collect();
    let zone = zone();
    sinew_fuzz::each(&right, |bytes| {
        for transport in [Transport::Udp, Transport::Tcp] {
            if let Decision::Reply(reply) = answer(&zone, bytes, transport) {
                assert_eq!(reply[..2], bytes[..2], "the id is the query's");
                Message::from_vec(&reply).unwrap();
            }
        }
        // What an upstream answers is as little to be trusted.
        wire::is_reply(&queries[0], bytes);
        wire::is_reply(bytes, &replies[0]);
        wire::response_code(bytes);
        let _ = wire::head(bytes);
        let mut stream = bytes.to_vec();
        while wire::unframe(&mut stream).is_some() {}
    });
}
