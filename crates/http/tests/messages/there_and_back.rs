//! What is written is read as it was meant, and nothing else can be written.

use proptest::prelude::*;
use sinew_http::Limits;
use sinew_http::body::{ChunkHead, LAST_CHUNK, NO_TRAILERS};
use sinew_http::framing::{Asked, Framing};
use sinew_http::write::Head;

use crate::judge::{Message, Verdict, request, response};

type Texts = Vec<(Vec<u8>, Vec<u8>)>;

fn fields() -> impl Strategy<Value = Texts> {
    let name = "x-[a-z0-9!#$%&'*+.^_`|~-]{0,12}".prop_map(String::into_bytes);
    let value = prop::collection::vec(prop_oneof![32..127_u8, 128..=255_u8, Just(9)], 0..40);
    prop::collection::vec((name, value), 0..8)
}

fn trimmed(fields: &Texts) -> Texts {
    let white = |byte: &u8| matches!(byte, b' ' | b'\t');
    let trim = |value: &[u8]| {
        let start = value.iter().position(|byte| !white(byte)).unwrap_or(value.len());
        let end = value.iter().rposition(|byte| !white(byte)).map_or(start, |at| at + 1);
        value[start..end].to_vec()
    };
    fields.iter().map(|(name, value)| (name.clone(), trim(value))).collect()
}

fn chunked(out: &mut Vec<u8>, body: &[u8], size: usize) {
    for data in body.chunks(size) {
        out.extend_from_slice(ChunkHead::new(data.len()).unwrap().as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(LAST_CHUNK);
    out.extend_from_slice(NO_TRAILERS);
}

fn taken(verdict: Verdict) -> Message {
    match verdict {
        Verdict::Taken(message) => message,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn requests_come_back(fields in fields(), body: Vec<u8>, size in 1_usize..50, chunks: bool) {
        let mut out = b"before".to_vec();
        let mut head = Head::request(&mut out, b"POST", b"/x?y=\"z\"").unwrap();
        head.field(b"host", b"orders:80").unwrap();
        for (name, value) in &fields {
            head.field(name, value).unwrap();
        }
        let framing = if chunks { Framing::Chunked } else { Framing::Length(body.len() as u64) };
        let len = head.end(framing);
        prop_assert_eq!(out.len(), b"before".len() + len);
        if chunks { chunked(&mut out, &body, size) } else { out.extend_from_slice(&body) }
        let out = &out[b"before".len()..];
        let message = taken(request(out, &[out.len()], Limits::default()));
        prop_assert_eq!(message.framing, framing);
        prop_assert_eq!(message.used, out.len());
        prop_assert_eq!(message.body, body);
        prop_assert_eq!(&message.fields[1..=fields.len()], &trimmed(&fields)[..]);
    }

    #[test]
    fn responses_come_back(fields in fields(), body: Vec<u8>, status in 200_u16..600) {
        prop_assume!(![204, 304].contains(&status));
        let mut out = Vec::new();
        let mut head = Head::response(&mut out, status, b"").unwrap();
        for (name, value) in &fields {
            head.field(name, value).unwrap();
        }
        head.end(Framing::Length(body.len() as u64));
        out.extend_from_slice(&body);
        let message = taken(response(&out, &[out.len()], Asked::Body));
        prop_assert_eq!(message.body, body);
        prop_assert_eq!(&message.fields[..fields.len()], &trimmed(&fields)[..]);
    }

    #[test]
    fn nobody_writes_a_field_of_his_own(name: Vec<u8>, value: Vec<u8>) {
        let mut out = Vec::new();
        let mut head = Head::response(&mut out, 200, b"OK").unwrap();
        let written = head.field(&name, &value);
        head.end(Framing::Length(0));
        let message = taken(response(&out, &[out.len()], Asked::Body));
        prop_assert_eq!(message.used, out.len());
        prop_assert_eq!(message.fields.len(), if written.is_ok() { 2 } else { 1 });
    }
}

#[test]
fn what_would_end_its_line_is_not_written() {
    let mut out = b"before".to_vec();
    for wrong in ["a\r\nb", "a\rb", "a\nb", "a\0b"] {
        let wrong = wrong.as_bytes();
        assert!(Head::request(&mut out, wrong, b"/").is_err());
        assert!(Head::request(&mut out, b"GET", wrong).is_err());
        assert!(Head::response(&mut out, 200, wrong).is_err());
        let mut head = Head::response(&mut out, 200, b"").unwrap();
        assert!(head.field(wrong, b"").is_err());
        assert!(head.field(b"x", wrong).is_err());
        assert!(head.field(b"Content-Length", b"5").is_err());
    }
    assert_eq!(out, b"before", "what was not ended is taken back");
}
