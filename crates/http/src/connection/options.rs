//! Fields for one hop alone.

use crate::Refused;
use crate::chars::{is_token, trim};
use crate::head::{Field, Fields, Known, Request, Version};

/// What a sender may not have the next hop take away: a request without its credentials or its
/// host is another one. Transfer-Encoding may be named: it is for one hop in any case.
const NEVER_OPTIONS: &[&str] = &[
    "authorization",
    "cache-control",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "set-cookie",
];

/// What Connection says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// No further message on this connection.
    pub close: bool,
    /// HTTP/1.0: further messages, please.
    pub keep_alive: bool,
    /// The field Upgrade is meant.
    pub upgrade: bool,
    /// Fields are named that are for this hop alone.
    named: bool,
}

impl Options {
    /// Of a head.
    ///
    /// # Errors
    /// It is no list of tokens, or names what may not be taken away.
    pub fn of(fields: &Fields, bytes: &[u8]) -> Result<Self, Refused> {
        let mut options = Self::default();
        for option in listed(fields, bytes) {
            if option.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = true;
            } else if is_token(option) && !is_one_of(NEVER_OPTIONS, option) {
                options.named = true;
            } else {
                return Err(Refused::BadConnection);
            }
        }
        Ok(options)
    }

    /// Whether further messages may follow (RFC 9112 section 9.3).
    #[must_use]
    pub fn persists(self, version: Version) -> bool {
        !self.close && (self.keep_alive || version == Version::Http11)
    }
}

/// Empty members are none (RFC 9110 section 5.6.1).
fn listed<'a>(fields: &Fields, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let members = fields
        .values(Known::Connection, bytes)
        .flat_map(|value| value.split(|byte| *byte == b',').map(trim));
    members.filter(|member| !member.is_empty())
}

fn is_one_of(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|one| name.eq_ignore_ascii_case(one.as_bytes()))
}

/// Whether a field is not to be passed on: it is for one hop by its kind, or Connection says so.
#[must_use]
pub fn is_for_one_hop(field: &Field, fields: &Fields, options: Options, bytes: &[u8]) -> bool {
    match field.known {
        Known::Connection
        | Known::KeepAlive
        | Known::ProxyConnection
        | Known::Te
        | Known::TransferEncoding
        | Known::Upgrade => true,
        _ if !options.named => false,
        _ => {
            let name = field.name.of(bytes);
            listed(fields, bytes).any(|option| option.eq_ignore_ascii_case(name))
        }
    }
}

/// Whether the client waits for a 100 before it sends its body (RFC 9110 section 10.1.1). HTTP/1.0
/// knows no such thing.
///
/// # Errors
/// It waits for something else.
pub fn expects_continue(head: &Request, bytes: &[u8]) -> Result<bool, Refused> {
    let mut expected = head.fields().values(Known::Expect, bytes);
    match (expected.next(), expected.next()) {
        (None, _) => Ok(false),
        _ if head.version() == Version::Http10 => Ok(false),
        (Some(value), None) if value.eq_ignore_ascii_case(b"100-continue") => Ok(true),
        _ => Err(Refused::BadExpect),
    }
}

/// The protocols that a client would rather speak (RFC 9110 section 7.8); none unless Connection
/// says that it means this hop. Which of them are passed on is up to the caller.
#[must_use]
pub fn upgrade<'a>(head: &Request, options: Options, bytes: &'a [u8]) -> Option<&'a [u8]> {
    let meant = options.upgrade && head.version() == Version::Http11;
    let mut values = head.fields().values(Known::Upgrade, bytes);
    values.next().filter(|value| meant && !value.is_empty())
}

/// Whether the sender takes trailers (RFC 9110 section 10.1.4); gRPC wants to hear so.
#[must_use]
pub fn takes_trailers(fields: &Fields, bytes: &[u8]) -> bool {
    let codings =
        fields.values(Known::Te, bytes).flat_map(|value| value.split(|byte| *byte == b','));
    codings.map(trim).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}
