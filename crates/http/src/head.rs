//! Heads of messages: the first line and the fields, read as they come.
//!
//! A head is read where it lies. [`Request::read`] and [`Response::read`] get all that was received
//! of a head so far, go on where they stopped, and tell parts of it as [`crate::Span`]s. So a head
//! that comes byte by byte costs no more than one that comes at once, and how it was cut changes
//! nothing of what is said about it. Only the table of fields is kept, from one head to the next.

mod fields;
mod request;
mod response;

pub use fields::{Field, Fields, Known};
pub use request::{Form, Method, Request};
pub(crate) use request::{METHOD_BYTES, NO_METHOD};
pub use response::Response;

use crate::Refused;

/// How far a head was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All that is there is right so far. Call again with more behind it.
    More,
    /// The head is whole, and so many bytes long. What follows is the body.
    Done(usize),
}

/// The version of a message. Others are refused: none exists that begins in this way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Without chunks, and for one message a connection unless both agree.
    Http10,
    /// RFC 9112.
    #[default]
    Http11,
}

const VERSION: &[u8] = b"HTTP/1.1";

impl Version {
    /// As heads have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }

    /// The version that `bytes` begin with; none while that is not seen.
    fn read(bytes: &[u8]) -> Result<Option<Self>, Refused> {
        let Some(version) = bytes.first_chunk::<8>() else {
            let begun = VERSION.starts_with(&bytes[..bytes.len().min(5)]);
            return if begun { Ok(None) } else { Err(Refused::BadVersion) };
        };
        match version {
            b"HTTP/1.1" => Ok(Some(Self::Http11)),
            b"HTTP/1.0" => Ok(Some(Self::Http10)),
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                Err(Refused::UnsupportedVersion)
            }
            _ => Err(Refused::BadVersion),
        }
    }
}

/// The place behind the end of a line that is at `at`; none while that is not seen. Both bytes
/// are wanted: who takes one alone sees lines where others see none.
fn line_end(bytes: &[u8], at: usize, otherwise: Refused) -> Result<Option<usize>, Refused> {
    match (bytes.get(at), bytes.get(at + 1)) {
        (Some(b'\r'), Some(b'\n')) => Ok(Some(at + 2)),
        (None, _) | (Some(b'\r'), None) => Ok(None),
        (Some(b'\r'), _) => Err(Refused::BareCr),
        (Some(b'\n'), _) => Err(Refused::BareLf),
        _ => Err(otherwise),
    }
}
