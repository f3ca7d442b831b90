//! A proxy of a few lines over what a client sends in one go. The upstream has to see as many
//! requests as were answered, with the bodies that were meant, whatever was tried.

use proptest::prelude::*;
use sinew_http::Limits;
use sinew_http::body::{ChunkHead, Decoder, LAST_CHUNK, Piece, may_be_trailer};
use sinew_http::connection::{Begun, Reading, Server, Writing, is_for_one_hop};
use sinew_http::framing::Framing;
use sinew_http::head::{Known, Progress, Request};
use sinew_http::write::Head;

use crate::judge::Message;
use crate::naive::{message, read};

struct Passed {
    to_upstream: Vec<u8>,
    bodies: Vec<Vec<u8>>,
    closed: bool,
}

/// All that can be passed on of it, each request answered as soon as it is whole.
fn pass(bytes: &[u8]) -> Passed {
    let mut passed = Passed { to_upstream: vec![], bodies: vec![], closed: false };
    let (mut server, mut head, mut at) = (Server::new(), Request::default(), 0);
    while server.reading() == Reading::Head && server.writing() == Writing::Idle {
        head.restart();
        let here = &bytes[at..];
        let Ok(Progress::Done(len)) = head.read(here) else { break };
        let Ok(begun) = server.request(&head, here) else { break };
        let mut whole = Vec::new();
        write(&mut whole, &head, here, begun);
        let Some((used, body)) = pass_body(&mut whole, &here[len..], begun.framing) else { break };
        at += len + used;
        passed.to_upstream.extend(whole);
        passed.bodies.push(body);
        server.body_read();
        server.respond(Framing::Length(0)).unwrap();
    }
    passed.closed = matches!(server.writing(), Writing::Close(_));
    passed
}

fn write(out: &mut Vec<u8>, head: &Request, bytes: &[u8], begun: Begun) {
    let (method, target) = (head.method_at().of(bytes), head.target().of(bytes));
    let mut onward = Head::request(out, method, target).unwrap();
    let host = head.authority();
    onward.field(b"host", if host.is_empty() { b"a" } else { host.of(bytes) }).unwrap();
    for field in head.fields().list() {
        let hop = is_for_one_hop(field, head.fields(), begun.options, bytes);
        if !hop && !matches!(field.known, Known::Host | Known::ContentLength | Known::Expect) {
            onward.field(field.name.of(bytes), field.value.of(bytes)).unwrap();
        }
    }
    onward.end(begun.framing);
}

/// How many bytes it took, and the body; none while it is not whole.
fn pass_body(out: &mut Vec<u8>, bytes: &[u8], framing: Framing) -> Option<(usize, Vec<u8>)> {
    let (mut decoder, mut at) = (Decoder::new(framing, Limits::default()), 0);
    let (mut body, chunked) = (Vec::new(), framing == Framing::Chunked);
    loop {
        let here = &bytes[at..];
        match decoder.next(here).ok()? {
            Piece::More(_) => return None,
            Piece::Data(data) => {
                let chunk = ChunkHead::new(data.len()).filter(|_| chunked);
                out.extend_from_slice(chunk.as_ref().map_or(b"", ChunkHead::as_bytes));
                out.extend_from_slice(&here[data.clone()]);
                out.extend_from_slice(if chunked { b"\r\n" } else { b"" });
                body.extend_from_slice(&here[data.clone()]);
                at += data.end;
            }
            Piece::End { trailers, used } => {
                if chunked {
                    out.extend_from_slice(LAST_CHUNK);
                    let section = &here[trailers];
                    for field in decoder.trailers().unwrap().list() {
                        let name = field.name.of(section);
                        if may_be_trailer(name) {
                            let field = [name, b": ", field.value.of(section), b"\r\n"];
                            out.extend(field.concat());
                        }
                    }
                    out.extend_from_slice(b"\r\n");
                }
                return Some((at + used, body));
            }
        }
    }
}

fn all_naively(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Ok(message) = read(bytes) {
        bytes = &bytes[message.used..];
        messages.push(message);
    }
    assert_eq!(bytes.escape_ascii().to_string(), "", "nothing else goes to the upstream");
    messages
}

fn check(bytes: &[u8]) -> Passed {
    let passed = pass(bytes);
    let seen: Vec<Vec<u8>> = all_naively(&passed.to_upstream).into_iter().map(|m| m.body).collect();
    assert_eq!(seen, passed.bodies, "{}", bytes.escape_ascii());
    passed
}

#[test]
fn requests_sent_ahead_are_passed_on_one_by_one() {
    let one = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let two =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let passed = check([one, two, one, last, one].concat().as_bytes());
    assert_eq!(passed.bodies, [b"".as_slice(), b"hello", b"", b""]);
    assert!(passed.closed, "nothing is read behind `close`");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_upstream_sees_what_was_answered(
        messages in prop::collection::vec(message(), 1..4),
        at: prop::sample::Index,
        byte: Option<u8>,
    ) {
        let mut bytes = messages.concat();
        if let Some(byte) = byte {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        check(&bytes);
    }
}

#[test]
fn the_upstream_sees_no_more_of_the_corpus() {
    let cases = crate::corpus::requests();
    for case in &cases {
        let passed = check(&case.bytes);
        let taken = !case.expected.starts_with("refused") && !case.expected.starts_with("more");
        assert_eq!(passed.bodies.len(), usize::from(taken), "{}", case.why);
    }
    let right: Vec<&[u8]> = cases.iter().map(|case| case.bytes.as_slice()).collect();
    sinew_fuzz::each(&right, |bytes| drop(check(bytes)));
}
