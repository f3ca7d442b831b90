//! HTTP/1 as a proxy needs it: strict, without IO and without copies.
//!
//! Nothing here opens a socket, reads a clock or waits. The caller owns the bytes; what is read
//! out of them is told as [`Span`]s of its buffer, so that they can be passed on where they lie.
//! Whatever two programs could read in two ways is [`Refused`]: a request that one hop takes for
//! one and the next for two is how requests are smuggled past rules (RFC 9112 section 11).
//!
//! - [`preface`]: which protocol the first bytes of a connection speak
//! - [`head`]: request and status lines with their fields (RFC 9112 sections 2 to 5)
//! - [`framing`]: where a message ends (RFC 9112 section 6)
//! - [`body`]: the bytes of a body out of what was received, and chunks to send (section 7)
//! - [`connection`]: what holds for one hop alone, and what comes next on it (section 9)
//! - [`mod@write`]: heads to send
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on fails"))]

mod authority;
pub mod body;
mod chars;
pub mod connection;
pub mod framing;
pub mod head;
mod limits;
pub mod preface;
mod refused;
mod span;
pub mod write;

pub use limits::Limits;
pub use refused::Refused;
pub use span::Span;
