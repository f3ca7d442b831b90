//! One message as the shell of a proxy would read it, out of bytes that come in pieces.

use sinew_http::body::{Decoder, Piece};
use sinew_http::connection::{Options, expects_continue};
use sinew_http::framing::{Asked, Framing, of_request, of_response};
use sinew_http::head::{Fields, Progress, Request, Response};
use sinew_http::{Limits, Refused};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    More,
    Refused(Refused),
    Taken(Message),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) framing: Framing,
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of it: what follows is the next one's.
    pub(crate) used: usize,
}

/// `ends`: how much there is each time something has come.
pub(crate) fn request(bytes: &[u8], ends: &[usize], limits: Limits) -> Verdict {
    let mut head = Request::new(limits);
    // As a connection does that has read another one before.
    let _ = head.read(b"PUT /old HTTP/1.1\r\nHost: old\r\nContent-Length: 7\r\n\r\n");
    head.restart();
    assert!(head.fields().list().is_empty());
    let read = |bytes: &[u8]| match head.read(bytes)? {
        Progress::More => Ok(None),
        Progress::Done(len) => {
            let framing = of_request(&head, bytes)?;
            Options::of(head.fields(), bytes)?;
            expects_continue(&head, bytes)?;
            Ok(Some((len, framing, owned(head.fields(), bytes))))
        }
    };
    whole(bytes, ends, limits, read).unwrap_or_else(Verdict::Refused)
}

pub(crate) fn response(bytes: &[u8], ends: &[usize], asked: Asked) -> Verdict {
    let limits = Limits::default();
    let mut head = Response::new(limits);
    let read = |bytes: &[u8]| match head.read(bytes)? {
        Progress::More => Ok(None),
        Progress::Done(len) => {
            let framing = of_response(&head, bytes, asked)?;
            Options::of(head.fields(), bytes)?;
            Ok(Some((len, framing, owned(head.fields(), bytes))))
        }
    };
    whole(bytes, ends, limits, read).unwrap_or_else(Verdict::Refused)
}

type Owned = Vec<(Vec<u8>, Vec<u8>)>;

fn owned(fields: &Fields, bytes: &[u8]) -> Owned {
    let list = fields.list().iter();
    list.map(|field| (field.name.of(bytes).to_vec(), field.value.of(bytes).to_vec())).collect()
}

fn whole(
    bytes: &[u8],
    ends: &[usize],
    limits: Limits,
    mut head: impl FnMut(&[u8]) -> Result<Option<(usize, Framing, Owned)>, Refused>,
) -> Result<Verdict, Refused> {
    let mut ends = ends.iter().copied().peekable();
    let (used, framing, fields) = loop {
        let Some(end) = ends.peek() else { return Ok(Verdict::More) };
        match head(&bytes[..*end])? {
            Some(read) => break read,
            None => ends.next(),
        };
    };
    let mut message = Message { framing, fields, body: vec![], trailers: vec![], used };
    let mut decoder = Decoder::new(framing, limits);
    for end in ends {
        loop {
            let here = &bytes[message.used..end];
            match decoder.next(here)? {
                Piece::More(used) => {
                    message.used += used;
                    break;
                }
                Piece::Data(data) => {
                    message.body.extend_from_slice(&here[data.clone()]);
                    message.used += data.end;
                }
                Piece::End { trailers, used } => {
                    if let Some(fields) = decoder.trailers() {
                        message.trailers = owned(fields, &here[trailers]);
                    }
                    message.used += used;
                    return Ok(Verdict::Taken(message));
                }
            }
        }
    }
    Ok(if decoder.closed().is_ok() { Verdict::Taken(message) } else { Verdict::More })
}
