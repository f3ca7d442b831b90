//! Heads to send. A value that would end its line is refused: whoever can put CR LF into a field
//! writes a message of his own (RFC 9110 section 5.5).
//!
//! A head is whole or not there: what was begun and not ended is taken back out of the buffer.

use std::fmt;
use std::io::Write;

use crate::chars::{is_token, is_value, target_end};
use crate::framing::Framing;
use crate::head::{Known, Version};

/// What cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The method is no token.
    Method,
    /// The target holds spaces, control characters or what is not ASCII, or is empty.
    Target,
    /// The status is not three digits.
    Status,
    /// The reason holds control characters.
    Reason,
    /// The name of a field is no token.
    Name,
    /// The value of a field holds control characters.
    Value,
    /// Content-Length and Transfer-Encoding are written by [`Head::end`] alone.
    Framing,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "the method is no token",
            Self::Target => "the target is empty or holds what no target may",
            Self::Status => "the status is not one of three digits",
            Self::Reason => "the reason holds control characters",
            Self::Name => "the name of a field is no token",
            Self::Value => "the value of a field holds control characters",
            Self::Framing => "Content-Length and Transfer-Encoding are written at its end",
        })
    }
}

impl std::error::Error for Invalid {}

/// A head that is being written.
#[derive(Debug)]
pub struct Head<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    ended: bool,
}

impl<'a> Head<'a> {
    /// A request's, behind what the buffer holds. Of HTTP/1.1: a proxy tells its own version (RFC
    /// 9110 section 2.5).
    ///
    /// # Errors
    /// One of them cannot be written.
    pub fn request(out: &'a mut Vec<u8>, method: &[u8], target: &[u8]) -> Result<Self, Invalid> {
        if !is_token(method) {
            return Err(Invalid::Method);
        }
        if target.is_empty() || target_end(target, 0) != target.len() {
            return Err(Invalid::Target);
        }
        let mut head = Self::begin(out);
        head.put(&[method, b" ", target, b" ", Version::Http11.as_str().as_bytes(), b"\r\n"]);
        Ok(head)
    }

    /// A response's, of HTTP/1.1, behind what the buffer holds.
    ///
    /// # Errors
    /// One of them cannot be written.
    pub fn response(out: &'a mut Vec<u8>, status: u16, reason: &[u8]) -> Result<Self, Invalid> {
        if !(100..1000).contains(&status) {
            return Err(Invalid::Status);
        }
        if !is_value(reason) {
            return Err(Invalid::Reason);
        }
        let digit = |of: u16| b'0' + (status / of % 10) as u8;
        let mut head = Self::begin(out);
        let digits = [digit(100), digit(10), digit(1)];
        head.put(&[Version::Http11.as_str().as_bytes(), b" ", &digits, b" ", reason, b"\r\n"]);
        Ok(head)
    }

    fn begin(out: &'a mut Vec<u8>) -> Self {
        Self { start: out.len(), out, ended: false }
    }

    /// One field.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> Result<(), Invalid> {
        if !is_token(name) {
            return Err(Invalid::Name);
        }
        if matches!(Known::of(name), Known::ContentLength | Known::TransferEncoding) {
            return Err(Invalid::Framing);
        }
        if !is_value(value) {
            return Err(Invalid::Value);
        }
        self.put(&[name, b": ", value, b"\r\n"]);
        Ok(())
    }

    /// The field that tells where the body ends, and the empty line. No such field for a body that
    /// ends with its connection, for tunnels, and for none: a request without one has none. How
    /// many bytes the head takes.
    pub fn end(mut self, framing: Framing) -> usize {
        match framing {
            Framing::Length(length) => {
                // Writing into a vector cannot fail.
                let _ = write!(self.out, "content-length: {length}\r\n");
            }
            Framing::Chunked => self.put(&[b"transfer-encoding: chunked\r\n"]),
            Framing::None | Framing::UntilClose | Framing::Tunnel => {}
        }
        self.put(&[b"\r\n"]);
        self.ended = true;
        self.out.len() - self.start
    }

    fn put(&mut self, parts: &[&[u8]]) {
        self.out.reserve(parts.iter().map(|part| part.len()).sum());
        for part in parts {
            self.out.extend_from_slice(part);
        }
    }
}

impl Drop for Head<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.out.truncate(self.start);
        }
    }
}
