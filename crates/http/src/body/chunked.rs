//! The chunked coding (RFC 9112 section 7.1), and what may follow it.

use std::ops::Range;

use super::{Piece, take};
use crate::head::{Fields, Progress};
use crate::{Limits, Refused};

/// Digits of a size: 16 make 64 bits. Leading zeros count.
const SIZE_DIGITS: u8 = 16;
/// Greater sizes are negative numbers to many programs.
const SIZE_MOST: u64 = i64::MAX as u64;
/// Of all extensions of a body. Nobody uses them but to make others read for nothing.
const EXTENSION_BYTES: u32 = 4096;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// Before a size, of which so many digits were seen.
    #[default]
    Size,
    Extension,
    /// Behind the CR of the size's line.
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Done,
}

/// Reads a body in chunks. Extensions are dropped, as RFC 9112 section 7.1.1 wants of who does not
/// understand them.
#[derive(Clone, Debug, Default)]
pub struct Chunked {
    limits: Limits,
    step: Step,
    digits: u8,
    left: u64,
    extensions: u32,
    trailers: Fields,
}

impl Chunked {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    pub(super) fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    pub(super) fn trailers(&self) -> &Fields {
        &self.trailers
    }

    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<Piece, Refused> {
        let mut at = 0;
        loop {
            match self.step {
                Step::Done => return Ok(Piece::End { trailers: at..at, used: at }),
                Step::Trailers => return self.read_trailers(bytes, at),
                _ => {}
            }
            let Some(&byte) = bytes.get(at) else { return Ok(Piece::More(at)) };
            if self.step == Step::Data {
                let data: Range<usize> = take(&mut self.left, at, bytes);
                if self.left == 0 {
                    self.step = Step::DataCr;
                }
                return Ok(Piece::Data(data));
            }
            self.step = self.after(byte)?;
            at += 1;
        }
    }

    /// What comes after one byte of the coding.
    fn after(&mut self, byte: u8) -> Result<Step, Refused> {
        match (self.step, byte) {
            (Step::Size, b'\r') if self.digits > 0 => Ok(Step::SizeLf),
            (Step::Size, b';') if self.digits > 0 => self.extension(),
            (Step::Size, _) => self.digit(byte),
            (Step::Extension, b'\r') => Ok(Step::SizeLf),
            (Step::Extension, b'\t' | b' '..=b'~') => self.extension(),
            (Step::SizeLf, b'\n') => {
                self.digits = 0;
                Ok(if self.left == 0 { Step::Trailers } else { Step::Data })
            }
            (Step::DataCr, b'\r') => Ok(Step::DataLf),
            (Step::DataLf, b'\n') => Ok(Step::Size),
            (Step::DataCr | Step::DataLf, _) => Err(Refused::BadChunkEnd),
            _ => Err(Refused::BadChunkSize),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<Step, Refused> {
        let digit = char::from(byte).to_digit(16).ok_or(Refused::BadChunkSize)?;
        if self.digits == SIZE_DIGITS {
            return Err(Refused::LengthTooGreat);
        }
        self.digits += 1;
        // Cannot overflow: `digits` bounds it to 64 bits.
        self.left = self.left << 4 | u64::from(digit);
        if self.left > SIZE_MOST { Err(Refused::LengthTooGreat) } else { Ok(Step::Size) }
    }

    fn extension(&mut self) -> Result<Step, Refused> {
        self.extensions += 1;
        if self.extensions > EXTENSION_BYTES {
            return Err(Refused::ExtensionTooLong);
        }
        Ok(Step::Extension)
    }

    /// They are read where they lie, so they have to stay there until all of them have come.
    fn read_trailers(&mut self, bytes: &[u8], at: usize) -> Result<Piece, Refused> {
        match self.trailers.read(&bytes[at..], &self.limits)? {
            Progress::More => Ok(Piece::More(at)),
            Progress::Done(len) => {
                self.step = Step::Done;
                Ok(Piece::End { trailers: at..at + len, used: at + len })
            }
        }
    }
}

/// Fields that mean something only before the body, when it was decided where it goes, who sends
/// it and how it is read (RFC 9110 section 6.5.1). A trailer of that name is dropped.
const NEVER_TRAILERS: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

/// Whether a trailer of this name may be passed on.
#[must_use]
pub fn may_be_trailer(name: &[u8]) -> bool {
    !NEVER_TRAILERS.iter().any(|never| name.eq_ignore_ascii_case(never.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_say_nothing_about_the_way_of_a_message() {
        for never in ["Content-Length", "transfer-encoding", "HOST", "Authorization", "Set-Cookie"]
        {
            assert!(!may_be_trailer(never.as_bytes()), "{never}");
        }
        for may in ["grpc-status", "grpc-message", "Server-Timing", "Digest"] {
            assert!(may_be_trailer(may.as_bytes()), "{may}");
        }
    }
}
