//! Heads as the next hop gets them.

use std::borrow::Cow;
use std::fmt::Write;
use std::net::SocketAddr;

use sinew_http::connection::{Begun, Options, Reply, is_for_one_hop, takes_trailers, upgrade};
use sinew_http::framing::{Asked, Framing, of_response};
use sinew_http::head::{Field, Form, Known, Method, Request, Response, Version};
use sinew_http::write::{Head, Invalid};
use sinew_resilience::draw::Draws;

use crate::fault::Fault;
use crate::route::Forwarded;
use crate::trace;

/// Both ends of a client's connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The client's.
    pub client: SocketAddr,
    /// The one it has connected to.
    pub local: SocketAddr,
}

/// What goes into requests beside what came.
pub(crate) struct Additions<'a> {
    pub(crate) peer: Peer,
    pub(crate) forwarded: Forwarded,
    pub(crate) draws: &'a mut Draws,
}

/// Told to whoever gets an answer that no upstream gave.
const FAULT: &[u8] = b"x-sinew-fault";

/// The protocol that a client would rather speak, where it may: HTTP/2 in a tunnel would pass all
/// rules by.
pub(crate) fn may_upgrade<'a>(head: &Request, begun: &Begun, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let is_h2c = |value: &[u8]| value.len() >= 3 && value[..3].eq_ignore_ascii_case(b"h2c");
    let wanted = upgrade(head, begun.options, bytes)?;
    let mut members = wanted.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let may = begun.framing == Framing::None && !members.any(is_h2c);
    Some(wanted).filter(|_| may)
}

/// Writes a request.
pub(crate) fn request(
    out: &mut Vec<u8>,
    head: &Request,
    bytes: &[u8],
    begun: &Begun,
    more: &mut Additions<'_>,
) -> Result<(), Invalid> {
    let mut onward = Head::request(out, head.method_at().of(bytes), &target(head, bytes))?;
    let authority = head.authority();
    if authority.is_empty() {
        onward.field(b"host", more.peer.local.to_string().as_bytes())?;
    } else {
        onward.field(b"host", authority.of(bytes))?;
    }
    let traced = fields(&mut onward, head, bytes, begun, more.forwarded)?;
    connection(&mut onward, head, bytes, begun)?;
    if !traced {
        onward.field(b"traceparent", &trace::begin(more.draws))?;
    }
    let mut address = Text { bytes: [0; 46], len: 0 };
    // An address is shorter than the space for it.
    let _ = write!(address, "{}", more.peer.client.ip().to_canonical());
    onward.field(b"x-forwarded-for", address.as_bytes())?;
    if more.forwarded == Forwarded::Replace
        || head.fields().named("x-forwarded-proto", bytes).next().is_none()
    {
        onward.field(b"x-forwarded-proto", b"http")?;
    }
    onward.field(b"via", via(head.version()))?;
    onward.end(begun.framing);
    Ok(())
}

/// In the form that servers want (RFC 9112 section 3.2.1).
fn target<'a>(head: &Request, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    let Form::Absolute { path, .. } = head.form() else { return head.target().of(bytes).into() };
    match path.of(bytes) {
        [] if head.method() == Method::Options => b"*".into(),
        [] => b"/".into(),
        query @ [b'?', ..] => [b"/", query].concat().into(),
        path => path.into(),
    }
}

fn via(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"1.0 sinew",
        Version::Http11 => b"1.1 sinew",
    }
}

/// All that is for the upstream as well. Whether it is traced.
fn fields(
    onward: &mut Head<'_>,
    head: &Request,
    bytes: &[u8],
    begun: &Begun,
    forwarded: Forwarded,
) -> Result<bool, Invalid> {
    // Two of them are none (W3C Trace Context section 3.2.2).
    let mut parents = head.fields().named("traceparent", bytes);
    let traced =
        matches!((parents.next(), parents.next()), (Some(one), None) if trace::is_valid(one));
    for field in head.fields().list() {
        let name = field.name.of(bytes);
        let dropped = match field.known {
            Known::Host | Known::ContentLength => true,
            Known::Expect => !begun.expects_continue,
            _ if is_for_one_hop(field, head.fields(), begun.options, bytes) => true,
            Known::Other if is_forwarded(name) => forwarded == Forwarded::Replace,
            Known::Other if !traced => {
                name.eq_ignore_ascii_case(b"traceparent")
                    || name.eq_ignore_ascii_case(b"tracestate")
            }
            _ => false,
        };
        if !dropped {
            onward.field(name, field.value.of(bytes))?;
        }
    }
    Ok(traced)
}

/// Whether it tells who the client is. Programs behind CGI and its like cannot tell `_` from `-`.
fn is_forwarded(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"x-forwarded-";
    let same = |a: &[u8], b: &[u8]| {
        let dash = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        a.len() == b.len() && a.iter().map(dash).eq(b.iter().copied())
    };
    match name.first() {
        Some(b'x' | b'X') => {
            same(name, b"x-real-ip") || name.get(..PREFIX.len()).is_some_and(|p| same(p, PREFIX))
        }
        Some(b'f' | b'F') => same(name, b"forwarded"),
        _ => false,
    }
}

/// What holds for the next hop alone.
fn connection(
    onward: &mut Head<'_>,
    head: &Request,
    bytes: &[u8],
    begun: &Begun,
) -> Result<(), Invalid> {
    let te = takes_trailers(head.fields(), bytes);
    if te {
        onward.field(b"te", b"trailers")?;
    }
    match (may_upgrade(head, begun, bytes), te) {
        (Some(protocol), te) => {
            onward.field(b"upgrade", protocol)?;
            onward.field(b"connection", if te { b"upgrade, te" } else { b"upgrade" })
        }
        (None, true) => onward.field(b"connection", b"te"),
        (None, false) => Ok(()),
    }
}

/// Writes a final response. `to_head`: it answers HEAD, and tells of a body that does not follow.
pub(crate) fn response(
    out: &mut Vec<u8>,
    head: &Response,
    bytes: &[u8],
    options: Options,
    reply: Reply,
    to_head: Option<Version>,
) -> Result<(), Invalid> {
    let mut onward = Head::response(out, head.status(), head.reason().of(bytes))?;
    passed(&mut onward, head, bytes, options)?;
    if reply.framing == Framing::Tunnel && head.status() == 101 {
        for protocol in head.fields().values(Known::Upgrade, bytes) {
            onward.field(b"upgrade", protocol)?;
        }
        onward.field(b"connection", b"upgrade")?;
    }
    if let Some(words) = reply.connection {
        onward.field(b"connection", words.as_bytes())?;
    }
    let told = to_head.map(|version| (version, of_response(head, bytes, Asked::Body)));
    onward.end(match told {
        Some((_, Ok(Framing::Length(length)))) => Framing::Length(length),
        Some((Version::Http11, Ok(Framing::Chunked))) => Framing::Chunked,
        _ => reply.framing,
    });
    Ok(())
}

/// Writes an interim response.
pub(crate) fn interim(
    out: &mut Vec<u8>,
    head: &Response,
    bytes: &[u8],
    options: Options,
) -> Result<(), Invalid> {
    let mut onward = Head::response(out, head.status(), head.reason().of(bytes))?;
    passed(&mut onward, head, bytes, options)?;
    onward.end(Framing::None);
    Ok(())
}

fn passed(
    onward: &mut Head<'_>,
    head: &Response,
    bytes: &[u8],
    options: Options,
) -> Result<(), Invalid> {
    let all = head.fields();
    let hop = |field: &Field| {
        field.known == Known::ContentLength || is_for_one_hop(field, all, options, bytes)
    };
    for field in all.list().iter().filter(|field| !hop(field)) {
        onward.field(field.name.of(bytes), field.value.of(bytes))?;
    }
    Ok(())
}

/// Writes the head of an answer that no upstream gave; `body_bytes` of text follow unless it
/// answers HEAD.
pub(crate) fn fault(
    out: &mut Vec<u8>,
    fault: Fault,
    reply: Reply,
    body_bytes: u64,
) -> Result<(), Invalid> {
    let mut head = Head::response(out, fault.status(), fault.reason().as_bytes())?;
    head.field(b"content-type", b"text/plain; charset=utf-8")?;
    let told = format!("{}; {}", fault.whose().as_str(), fault.code());
    head.field(FAULT, told.as_bytes())?;
    if let Fault::Open(Some(left)) = fault {
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        head.field(b"retry-after", seconds.to_string().as_bytes())?;
    }
    if let Some(words) = reply.connection {
        head.field(b"connection", words.as_bytes())?;
    }
    head.end(Framing::Length(body_bytes));
    Ok(())
}

/// Space for an address as text.
struct Text {
    bytes: [u8; 46],
    len: usize,
}

impl Text {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
