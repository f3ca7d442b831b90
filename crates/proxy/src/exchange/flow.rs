//! One direction of an exchange: bytes that were received, and those of them that are to be
//! written, where they lie.

use std::ops::Range;

use sinew_http::body::{ChunkHead, Decoder, LAST_CHUNK, NO_TRAILERS, Piece, may_be_trailer};
use sinew_http::framing::Framing;
use sinew_http::{Limits, Refused};

/// What is kept of what one side sent: more is not read before it was passed on.
pub const BUFFER_BYTES: usize = 16 * 1024;
/// What is kept where a body fills that at once: it comes faster than it is worth to go in so small
/// steps.
pub const WIDE_BYTES: usize = 64 * 1024;
/// Ranges of received bytes in one write. Chunks smaller than what a write costs are joined so.
const RANGES: usize = 8;
/// Less space than this at its end, and what a buffer holds is moved to its front.
const LEAST_SPACE: usize = 2 * 1024;

/// Bytes that were received: `held..start` are passed on and not written yet, `start..end` were
/// not looked at or are not understood yet.
#[derive(Debug)]
pub(super) struct Input {
    bytes: Vec<u8>,
    held: usize,
    start: usize,
    end: usize,
}

impl Input {
    fn new() -> Self {
        Self { bytes: vec![0; BUFFER_BYTES], held: 0, start: 0, end: 0 }
    }

    pub(super) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether more can be received now. What is written from here cannot be moved.
    pub(super) fn has_space(&self) -> bool {
        self.end < self.bytes.len() || (self.held == self.start && self.start > 0)
    }

    /// Where to receive more.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.held == self.start && self.start > 0 && self.bytes.len() - self.end < LEAST_SPACE {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.held, self.start, self.end) = (0, 0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.bytes.len());
    }

    /// More space for a body that fills what there is.
    fn widen(&mut self) {
        if self.end == self.bytes.len() && self.bytes.len() < WIDE_BYTES {
            self.bytes.resize(WIDE_BYTES, 0);
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// A head was read, and nothing of it is kept.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.consume(bytes);
        self.release();
    }

    /// All that was passed on is written.
    pub(super) fn release(&mut self) {
        self.held = self.start;
        if self.held == self.end {
            (self.held, self.start, self.end) = (0, 0, 0);
        }
    }

    /// What has not been passed on is not wanted.
    pub(super) fn forget(&mut self) {
        self.end = self.start;
    }

    /// For fields that have to lie there as a whole and are longer than usual. They are bounded by
    /// the limits of heads.
    pub(super) fn grow(&mut self, limits: &Limits) {
        let full = self.end - self.start >= self.bytes.len();
        if full && self.bytes.len() <= limits.head_bytes {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
    }

    fn shrink(&mut self) {
        // One that was made wider stays so for the next one that needs it.
        if self.bytes.len() > WIDE_BYTES {
            self.bytes.truncate(BUFFER_BYTES);
            self.bytes.shrink_to_fit();
        }
        (self.held, self.start, self.end) = (0, 0, 0);
    }
}

/// What is to be written: `before`, ranges of an [`Input`], and `after`.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) before: Vec<u8>,
    ranges: [Range<usize>; RANGES],
    count: usize,
    pub(super) after: Vec<u8>,
    written: usize,
}

impl Output {
    fn len(&self) -> usize {
        let ranges: usize = self.ranges[..self.count].iter().map(ExactSizeIterator::len).sum();
        self.before.len() + ranges + self.after.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.before.is_empty() && self.count == 0 && self.after.is_empty()
    }

    /// Nothing is left to write. It is kept all the same, to be written again elsewhere.
    pub(super) fn is_flushed(&self) -> bool {
        self.written == self.len()
    }

    /// A body may follow what it holds.
    pub(super) fn takes_more(&self) -> bool {
        self.count < RANGES && self.after.is_empty()
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written = (self.written + bytes).min(self.len());
    }

    pub(super) fn rewind(&mut self) {
        self.written = 0;
    }

    pub(super) fn clear(&mut self) {
        self.before.clear();
        self.after.clear();
        (self.count, self.written) = (0, 0);
    }

    fn push(&mut self, range: Range<usize>) {
        let last = self.ranges[..self.count].last_mut();
        if let Some(last) = last.filter(|last| last.end == range.start) {
            last.end = range.end;
        } else if let Some(place) = self.ranges.get_mut(self.count) {
            *place = range;
            self.count += 1;
        }
    }
}

/// One direction.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) input: Input,
    pub(super) output: Output,
    pub(super) decoder: Decoder,
    /// All of the message was given to the output.
    pub(super) whole: bool,
    /// Of a tunnel: the receiver was told that nothing follows.
    pub(super) finished: bool,
    /// Of the body.
    pub(super) body_bytes: u64,
}

impl Flow {
    pub(super) fn new() -> Self {
        Self {
            input: Input::new(),
            output: Output::default(),
            decoder: Decoder::Length(0),
            whole: false,
            finished: false,
            body_bytes: 0,
        }
    }

    /// For the next connection.
    pub(super) fn shrink(&mut self) {
        self.input.shrink();
        self.output.clear();
        (self.whole, self.finished, self.body_bytes) = (false, false, 0);
    }

    /// A body that ends so begins.
    pub(super) fn begin(&mut self, framing: Framing, limits: Limits) {
        self.decoder = Decoder::new(framing, limits);
        self.whole = matches!(framing, Framing::None | Framing::Length(0));
        self.body_bytes = 0;
    }

    /// What is still to be written of this direction.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let Output { before, ranges, count, after, written } = &self.output;
        let data = ranges[..*count].iter().map(|range| &self.input.bytes[range.clone()]);
        let all = std::iter::once(before.as_slice()).chain(data).chain([after.as_slice()]);
        let mut skip = *written;
        all.filter_map(move |part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            Some(&part[skipped..]).filter(|rest| !rest.is_empty())
        })
    }

    /// Passes on as much of a body as is there, in the framing of the receiver. Whether it did
    /// anything.
    pub(super) fn pass(&mut self, to: Framing, limits: &Limits) -> Result<bool, Refused> {
        let (mut passed, mut moved) = (0, false);
        let mut trailers = None;
        while self.output.count < RANGES && !self.whole {
            let here = &self.input.bytes[self.input.start..self.input.end];
            match self.decoder.next(here)? {
                Piece::More(used) => {
                    self.input.consume(used);
                    self.input.grow(limits);
                    moved |= used > 0;
                    break;
                }
                Piece::Data(data) => {
                    if data.end == here.len() {
                        self.input.widen();
                    }
                    let start = self.input.start;
                    passed += data.len();
                    self.input.consume(data.end);
                    self.output.push(start + data.start..start + data.end);
                }
                Piece::End { trailers: section, used } => {
                    trailers =
                        Some(section.start + self.input.start..section.end + self.input.start);
                    self.input.consume(used);
                    self.whole = true;
                }
            }
        }
        self.body_bytes += passed as u64;
        if to == Framing::Chunked {
            self.chunk(passed);
            if let Some(section) = trailers {
                self.last_chunk(section);
            }
        }
        if self.output.count == 0 {
            // Nothing is written from here: what was read of the framing alone takes no space.
            self.input.release();
        }
        Ok(moved || passed > 0 || self.whole)
    }

    /// The sender's connection has ended its body.
    pub(super) fn end(&mut self, to: Framing) {
        self.whole = true;
        if to == Framing::Chunked {
            self.last_chunk(0..0);
        }
    }

    /// One chunk of all that is to be written.
    fn chunk(&mut self, bytes: usize) {
        if let Some(head) = ChunkHead::new(bytes) {
            self.output.before.extend_from_slice(head.as_bytes());
            self.output.after.extend_from_slice(NO_TRAILERS);
        }
    }

    fn last_chunk(&mut self, section: Range<usize>) {
        let (after, section) = (&mut self.output.after, &self.input.bytes[section]);
        after.extend_from_slice(LAST_CHUNK);
        let fields = self.decoder.trailers().filter(|_| !section.is_empty());
        for field in fields.iter().flat_map(|fields| fields.list()) {
            let name = field.name.of(section);
            if may_be_trailer(name) {
                let value = field.value.of(section);
                for part in [name, b": ", value, b"\r\n"] {
                    after.extend_from_slice(part);
                }
            }
        }
        after.extend_from_slice(NO_TRAILERS);
    }

    /// Drops as much of a body as is there.
    pub(super) fn discard(&mut self, limits: &Limits) -> Result<bool, Refused> {
        let mut moved = false;
        while !self.whole {
            match self.decoder.next(self.input.filled())? {
                Piece::More(used) => {
                    self.input.skip(used);
                    self.input.grow(limits);
                    return Ok(moved || used > 0);
                }
                Piece::Data(data) => {
                    self.body_bytes += data.len() as u64;
                    self.input.skip(data.end);
                }
                Piece::End { used, .. } => {
                    self.input.skip(used);
                    self.whole = true;
                }
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Of a tunnel: passes on all there is.
    pub(super) fn tunnel(&mut self) -> bool {
        self.input.widen();
        let Input { start, end, .. } = self.input;
        let passes = self.output.takes_more() && start < end;
        if passes {
            self.output.push(start..end);
            self.input.consume(end - start);
        }
        passes
    }

    /// What was to be written is not wanted any more.
    pub(super) fn drop_output(&mut self) {
        self.output.clear();
        self.input.release();
    }
}
