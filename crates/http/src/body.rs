//! Bodies out of received bytes, without a copy: each call tells which bytes of the buffer are the
//! body's, and which may be dropped.

mod chunked;
mod encode;

pub use chunked::{Chunked, may_be_trailer};
pub use encode::{ChunkHead, LAST_CHUNK, NO_TRAILERS};

use std::ops::Range;

use crate::framing::Framing;
use crate::{Limits, Refused};

/// What the front of a buffer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes are the body's. All up to their end is done with when they are passed on.
    Data(Range<usize>),
    /// Nothing yet: more is needed. So many bytes at the front are done with.
    More(usize),
    /// The body is whole.
    End {
        /// The fields behind it, if there are any: [`Decoder::trailers`] counts from here.
        trailers: Range<usize>,
        /// So many bytes at the front are done with. What follows is the next message's.
        used: usize,
    },
}

/// Reads one body.
#[derive(Clone, Debug)]
pub enum Decoder {
    /// So many bytes are still to come.
    Length(u64),
    /// In chunks.
    Chunked(Chunked),
    /// All there is.
    UntilClose,
}

impl Decoder {
    /// For a body that ends so. A tunnel has no end but the connection's.
    #[must_use]
    pub fn new(framing: Framing, limits: Limits) -> Self {
        match framing {
            Framing::None => Self::Length(0),
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::new(limits)),
            Framing::UntilClose | Framing::Tunnel => Self::UntilClose,
        }
    }

    /// What `bytes` begin with. They begin behind what earlier calls were done with. To be called
    /// until it says that more is needed, or that the body is whole.
    ///
    /// # Errors
    /// The body is broken: nobody can tell where it ends. The connection is of no further use.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Piece, Refused> {
        match self {
            Self::Length(0) => Ok(Piece::End { trailers: 0..0, used: 0 }),
            Self::Chunked(chunked) => chunked.next(bytes),
            _ if bytes.is_empty() => Ok(Piece::More(0)),
            Self::UntilClose => Ok(Piece::Data(0..bytes.len())),
            Self::Length(left) => Ok(Piece::Data(take(left, 0, bytes))),
        }
    }

    /// The connection ends, after all that was given to [`next`](Self::next).
    ///
    /// # Errors
    /// More should have come: whoever got the part must not take it for the whole.
    pub fn closed(&self) -> Result<(), Refused> {
        let whole = match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_done(),
            Self::UntilClose => true,
        };
        if whole { Ok(()) } else { Err(Refused::CutShort) }
    }

    /// What followed the last chunk. Its spans count from where [`Piece::End`] says.
    #[must_use]
    pub fn trailers(&self) -> Option<&crate::head::Fields> {
        match self {
            Self::Chunked(chunked) => Some(chunked.trailers()),
            _ => None,
        }
    }
}

/// As many of the bytes from `at` on as are still wanted.
fn take(left: &mut u64, at: usize, bytes: &[u8]) -> Range<usize> {
    let here = bytes.len() - at;
    let taken = usize::try_from(*left).map_or(here, |left| left.min(here));
    *left -= taken as u64;
    at..at + taken
}
