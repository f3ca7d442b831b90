//! Where a message ends (RFC 9112 section 6), or why nobody can tell.
//!
//! The RFC lets a recipient repair some of what is wrong: equal lengths told twice, a length beside
//! a coding. Nothing is repaired here. Two hops that repair differently are what smuggling needs,
//! and programs that are right send none of it.

use crate::Refused;
use crate::chars::trim;
use crate::head::{Fields, Known, Method, Request, Response, Version};

/// Greater lengths are negative numbers to many programs.
const LENGTH_MOST: u64 = i64::MAX as u64;
/// Of a Content-Length: those of [`LENGTH_MOST`]. Leading zeros count.
const DIGITS_MOST: usize = 19;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    #[default]
    None,
    /// After so many bytes.
    Length(u64),
    /// In chunks, of which the last is empty.
    Chunked,
    /// Where the connection ends. Of responses alone.
    UntilClose,
    /// No messages follow any more: bytes both ways, after CONNECT or a change of protocol. Of
    /// responses alone.
    Tunnel,
}

/// What of a request decides how its response is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// A response with a body, if it has one.
    #[default]
    Body,
    /// The head alone: HEAD.
    Head,
    /// A tunnel: CONNECT.
    Connect,
    /// Another protocol, if the server likes: Upgrade.
    Upgrade,
}

/// The body of a request.
///
/// # Errors
/// It can be read in two ways, or in none.
pub fn of_request(head: &Request, bytes: &[u8]) -> Result<Framing, Refused> {
    let framing = told(head.fields(), head.version(), bytes)?.unwrap_or_default();
    match (head.method(), framing) {
        // What follows these would be read as a tunnel, or sent back.
        (Method::Connect | Method::Trace, Framing::Chunked | Framing::Length(1..)) => {
            Err(Refused::UnwantedBody)
        }
        _ => Ok(framing),
    }
}

/// The body of a response to what was asked.
///
/// # Errors
/// It can be read in two ways, or in none.
pub fn of_response(head: &Response, bytes: &[u8], asked: Asked) -> Result<Framing, Refused> {
    let status = head.status();
    if asked == Asked::Connect && (200..300).contains(&status) {
        return Ok(Framing::Tunnel);
    }
    let told = told(head.fields(), head.version(), bytes)?;
    match status {
        101 if asked != Asked::Upgrade => Err(Refused::UnwantedSwitch),
        100..200 | 204 if !matches!(told, None | Some(Framing::Length(0))) => {
            Err(Refused::UnwantedBody)
        }
        101 => Ok(Framing::Tunnel),
        100..200 | 204 | 304 => Ok(Framing::None),
        _ if asked == Asked::Head => Ok(Framing::None),
        _ => Ok(told.unwrap_or(Framing::UntilClose)),
    }
}

/// What the fields say, whatever the message is.
fn told(fields: &Fields, version: Version, bytes: &[u8]) -> Result<Option<Framing>, Refused> {
    match (fields.has(Known::ContentLength), fields.has(Known::TransferEncoding)) {
        (false, false) => Ok(None),
        (true, true) => Err(Refused::LengthAndCoding),
        (true, false) => length(fields.values(Known::ContentLength, bytes)).map(Some),
        (false, true) if version == Version::Http10 => Err(Refused::CodingBefore11),
        (false, true) => coding(fields.values(Known::TransferEncoding, bytes)).map(Some),
    }
}

fn length<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<Framing, Refused> {
    let digits = values.next().unwrap_or_default();
    if values.next().is_some() || digits.contains(&b',') {
        return Err(Refused::LengthTwice);
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Refused::BadLength);
    }
    if digits.len() > DIGITS_MOST {
        return Err(Refused::LengthTooGreat);
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    if number > LENGTH_MOST { Err(Refused::LengthTooGreat) } else { Ok(Framing::Length(number)) }
}

/// One `chunked`, and nothing else: no other coding could be undone here, and a coding that is
/// passed on undone is read in two ways.
fn coding<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<Framing, Refused> {
    let (mut chunked, mut others) = (0, 0);
    let mut last_is_chunked = false;
    for coding in values.flat_map(|value| value.split(|byte| *byte == b',')) {
        let coding = trim(coding);
        if coding.is_empty() {
            return Err(Refused::BadCoding);
        }
        last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
        *(if last_is_chunked { &mut chunked } else { &mut others }) += 1;
    }
    match (chunked, others) {
        (1, 0) => Ok(Framing::Chunked),
        (1, _) if last_is_chunked => Err(Refused::UnknownCoding),
        _ => Err(Refused::BadCoding),
    }
}
