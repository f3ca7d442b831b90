//! gRPC over one HTTP/2 connection, as much of it as agents use: calls with one answer, and a stream
//! both ways.

use std::{future::poll_fn, time::Duration};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client::ResponseFuture};
use http::{HeaderMap, Request, header};
use sinew_proto::{Path, bounds::MAX_MESSAGE_BYTES};
use tokio::time::timeout;

use super::dial::{DialError, Target};

/// Before each message: whether it is compressed, and its length.
const HEADER_BYTES: usize = 5;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no connection, or it broke.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The other side refuses, in its own words.
    #[error("{message}")]
    Refused {
        /// Of gRPC.
        code: u32,
        /// Why.
        message: String,
    },
    /// Something else than control is there.
    #[error("{address} does not answer as the control plane of sinew does: {what}")]
    Strange {
        /// Where.
        address: String,
        /// What is strange.
        what: String,
    },
}

/// Code of gRPC: the caller is not who may do that.
const PERMISSION_DENIED: u32 = 7;
const UNAUTHENTICATED: u32 = 16;
/// Of a call that a server of another version does not have.
const UNIMPLEMENTED: u32 = 12;

impl CallError {
    /// Whether another replica would say the same.
    pub(super) fn is_final(&self) -> bool {
        const INVALID_ARGUMENT: u32 = 3;
        const FAILED_PRECONDITION: u32 = 9;
        match self {
            Self::Refused { code, .. } => matches!(
                *code,
                INVALID_ARGUMENT
                    | PERMISSION_DENIED
                    | FAILED_PRECONDITION
                    | UNAUTHENTICATED
                    | UNIMPLEMENTED
            ),
            Self::Dial(DialError::Refused { .. }) => true,
            Self::Dial(_) | Self::Strange { .. } => false,
        }
    }
}

/// Asks `target`, on a connection of its own.
///
/// # Errors
/// When it does not answer in that time, or refuses.
pub(super) async fn unary(
    target: &Target,
    path: Path,
    message: Bytes,
    within: Duration,
) -> Result<Bytes, CallError> {
    let asked = timeout(within, ask(target, path, message, within)).await;
    asked.map_err(|_| silent(target, within))?
}

fn silent(target: &Target, after: Duration) -> DialError {
    DialError::Silent { address: target.address.clone(), after }
}

async fn ask(
    target: &Target,
    path: Path,
    message: Bytes,
    within: Duration,
) -> Result<Bytes, CallError> {
    let dialled = target.dial(within).await?;
    let mut requests = dialled.requests;
    let asking = async {
        let (answer, mut sending) =
            requests.send_request(request(target, path)?, false).map_err(|e| target.http(e))?;
        send(&mut sending, frame(&message)).await.map_err(|e| target.http(e))?;
        sending.send_data(Bytes::new(), true).map_err(|e| target.http(e))?;
        let mut incoming = Incoming::open(target, answer).await?;
        let answer = incoming.next().await?;
        answer.ok_or_else(|| strange(target, "it ended without an answer"))
    };
    tokio::select! {
        biased;
        answer = asking => answer,
        ended = dialled.driver => Err(match ended {
            Ok(()) => strange(target, "it closed the connection"),
            Err(error) => target.http(error).into(),
        }),
    }
}

/// The headers of a call.
pub(super) fn request(target: &Target, path: Path) -> Result<Request<()>, CallError> {
    Request::post(format!("https://{}{}", target.address, path.as_str()))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, concat!("sinew/", env!("CARGO_PKG_VERSION")))
        .body(())
        .map_err(|_| strange(target, "it is no address of a host"))
}

fn strange(target: &Target, what: impl Into<String>) -> CallError {
    CallError::Strange { address: target.address.clone(), what: what.into() }
}

/// The message as it is sent.
pub(super) fn frame(message: &Bytes) -> Bytes {
    let mut framed = BytesMut::with_capacity(HEADER_BYTES + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(message);
    framed.freeze()
}

/// Sends as the other side takes it.
pub(super) async fn send(to: &mut SendStream<Bytes>, mut data: Bytes) -> Result<(), h2::Error> {
    while !data.is_empty() {
        to.reserve_capacity(data.len());
        while to.capacity() == 0 {
            match poll_fn(|context| to.poll_capacity(context)).await {
                Some(capacity) => capacity?,
                None => return Err(h2::Reason::CANCEL.into()),
            };
        }
        let part = data.split_to(to.capacity().min(data.len()));
        to.send_data(part, false)?;
    }
    Ok(())
}

/// Messages of the other side.
pub(super) struct Incoming<'a> {
    target: &'a Target,
    body: RecvStream,
    buffer: BytesMut,
}

impl<'a> Incoming<'a> {
    /// Waits until the other side has begun to answer.
    ///
    /// # Errors
    /// When it does not, or refuses.
    pub(super) async fn open(
        target: &'a Target,
        answer: ResponseFuture,
    ) -> Result<Self, CallError> {
        let (head, body) = answer.await.map_err(|error| target.http(error))?.into_parts();
        if head.status != http::StatusCode::OK {
            return Err(strange(target, format!("HTTP status {}", head.status)));
        }
        let incoming = Self { target, body, buffer: BytesMut::new() };
        match incoming.status(&head.headers) {
            Some(Err(error)) => Err(error),
            Some(Ok(())) | None => Ok(incoming),
        }
    }

    /// The next message; `None`: it was the last. Dropped while it waits, nothing is lost.
    ///
    /// # Errors
    /// When there will be none.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            if !self.more().await? {
                return self.end().await.map(|()| None);
            }
        }
    }

    /// Reads what has come; false: that was all.
    async fn more(&mut self) -> Result<bool, CallError> {
        let Some(data) = self.body.data().await else { return Ok(false) };
        let data = data.map_err(|error| self.target.http(error))?;
        let taken = self.body.flow_control().release_capacity(data.len());
        taken.map_err(|error| self.target.http(error))?;
        self.buffer.extend_from_slice(&data);
        Ok(true)
    }

    async fn end(&mut self) -> Result<(), CallError> {
        if !self.buffer.is_empty() {
            return Err(strange(self.target, "it ended in the middle of a message"));
        }
        let trailers = self.body.trailers().await.map_err(|error| self.target.http(error))?;
        trailers.and_then(|trailers| self.status(&trailers)).unwrap_or(Ok(()))
    }

    fn take(&mut self) -> Result<Option<Bytes>, CallError> {
        let Some(&[compressed, a, b, c, d]) = self.buffer.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if compressed != 0 {
            return Err(strange(self.target, "it compresses what it says"));
        }
        if length > MAX_MESSAGE_BYTES {
            return Err(strange(self.target, format!("a message of {length} bytes")));
        }
        if self.buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// What headers or trailers say of how the call ended.
    fn status(&self, headers: &HeaderMap) -> Option<Result<(), CallError>> {
        let code = headers.get("grpc-status")?.to_str().ok().and_then(|code| code.parse().ok());
        Some(match code {
            Some(0) => Ok(()),
            Some(code) => {
                let message = headers.get("grpc-message").map(http::HeaderValue::as_bytes);
                let message = message.map(unescaped).filter(|message| !message.is_empty());
                let message = message.unwrap_or_else(|| format!("gRPC status {code}"));
                Err(CallError::Refused { code, message })
            }
            None => Err(strange(self.target, "a status that is no number")),
        })
    }
}

/// A text in which `%41` is written for `A`.
fn unescaped(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = (*first == b'%').then(|| after.first_chunk::<2>()).flatten();
        let byte = digits
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_escaped_is_read_as_it_was_written() {
        assert_eq!(unescaped(b"caf%C3%A9 100%25"), "caf\u{e9} 100%");
        assert_eq!(unescaped(b"50% of %zz%4"), "50% of %zz%4");
        assert_eq!(unescaped(b""), "");
    }

    #[test]
    fn a_frame_tells_its_length() {
        assert_eq!(&frame(&Bytes::from_static(b"abc"))[..], b"\0\0\0\0\x03abc");
    }
}
