//! How messages get into gRPC: as bytes that were encoded before, so that what many agents are told
//! is encoded once, and a message that cannot be read costs its sender that message, not the
//! session.

use bytes::{Buf as _, BufMut as _, Bytes};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// The methods of `sinew.v1.Fleet`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Messages of both sides, as long as the agent runs.
    Session,
    /// The first certificate.
    Join,
    /// The next one.
    Renew,
}

impl Path {
    /// The name of the service.
    pub const SERVICE: &'static str = "sinew.v1.Fleet";

    /// As HTTP has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "/sinew.v1.Fleet/Session",
            Self::Join => "/sinew.v1.Fleet/Join",
            Self::Renew => "/sinew.v1.Fleet/Renew",
        }
    }

    /// The method of a request.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        [Self::Session, Self::Join, Self::Renew].into_iter().find(|one| one.as_str() == path)
    }
}

/// Messages as their bytes, either way.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameCodec;

impl Codec for FrameCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for FrameCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for FrameCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
