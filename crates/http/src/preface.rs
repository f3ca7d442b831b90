//! Which protocol a client speaks, by the first bytes it sends.

use crate::chars::token_end;
use crate::head::{METHOD_BYTES, NO_METHOD};

/// What HTTP/2 begins with where it was not agreed on before (RFC 9113 section 3.4).
pub const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The record type of a handshake, and the version all of TLS and SSL 3 begin with.
const TLS: [u8; 2] = [0x16, 3];

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preface {
    /// More bytes are needed.
    More,
    /// Reads like a request line.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A handshake of TLS.
    Tls,
    /// Nothing of it: its bytes may be passed on, not understood.
    Neither,
}

/// Tells by all bytes that were received so far. 32 of them are always enough. Protocols in which
/// the server speaks first are told by nobody's waiting: that is up to the caller.
#[must_use]
pub fn tell(bytes: &[u8]) -> Preface {
    if HTTP2.starts_with(&bytes[..bytes.len().min(HTTP2.len())]) {
        return if bytes.len() < HTTP2.len() { Preface::More } else { Preface::Http2 };
    }
    if TLS.starts_with(&bytes[..bytes.len().min(TLS.len())]) {
        return if bytes.len() < TLS.len() { Preface::More } else { Preface::Tls };
    }
    // Clients of long ago send an empty line first (RFC 9112 section 2.2).
    let start = match bytes {
        [b'\r'] => return Preface::More,
        [b'\r', b'\n', ..] => 2,
        _ => 0,
    };
    let end = token_end(bytes, start);
    match bytes.get(end) {
        _ if end - start > METHOD_BYTES => Preface::Neither,
        None => Preface::More,
        Some(b' ') if end > start && &bytes[start..end] != NO_METHOD => Preface::Http1,
        Some(_) => Preface::Neither,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_by_their_first_bytes() {
        let told: &[(&[u8], Preface)] = &[
            (b"", Preface::More),
            (b"G", Preface::More),
            (b"GET", Preface::More),
            (b"GET ", Preface::Http1),
            (b"POST /x HTTP/1.1\r\n", Preface::Http1),
            (b"\r\nGET /", Preface::Http1),
            (b"P", Preface::More),
            (b"PRI ", Preface::More),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Preface::More),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", Preface::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Preface::Neither),
            (b"PRO /", Preface::Http1),
            (b"\x16", Preface::More),
            (b"\x16\x03\x01", Preface::Tls),
            (b"\x16\x02", Preface::Neither),
            (b"*1\r\n$4\r\nPING\r\n", Preface::Neither),
            (b"SSH-2.0-OpenSSH\r\n", Preface::Neither),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", Preface::Neither),
            (b" GET /", Preface::Neither),
            (b"\r\r", Preface::Neither),
        ];
        for (bytes, preface) in told {
            assert_eq!(tell(bytes), *preface, "{}", bytes.escape_ascii());
        }
        assert_eq!(tell(&[b'A'; 33]), Preface::Neither);
    }
}
