//! Cuts bytes into lines.

use std::collections::VecDeque;

/// A longer line is cut here.
pub const MAX_LINE_BYTES: usize = 64 << 10;

/// Takes bytes, gives lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    held: Vec<u8>,
    /// Lines, each with what `taken` was at its end.
    whole: VecDeque<(String, u64)>,
    /// Bytes taken so far.
    taken: u64,
    skipping: bool,
}

impl Lines {
    /// Passes over everything up to the next line end.
    pub(super) fn skip_line(&mut self) {
        self.skipping = true;
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        if self.skipping {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.taken += bytes.len() as u64;
                return;
            };
            self.skipping = false;
            self.taken += end as u64 + 1;
            bytes = &bytes[end + 1..];
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', text)) => {
                    self.hold(text);
                    self.taken += 1;
                    self.finish();
                }
                _ => self.hold(piece),
            }
        }
    }

    fn hold(&mut self, mut text: &[u8]) {
        while self.held.len() + text.len() > MAX_LINE_BYTES {
            let (fitting, rest) = text.split_at(MAX_LINE_BYTES - self.held.len());
            self.held.extend_from_slice(fitting);
            self.taken += fitting.len() as u64;
            self.finish();
            text = rest;
        }
        self.held.extend_from_slice(text);
        self.taken += text.len() as u64;
    }

    fn finish(&mut self) {
        let line = String::from_utf8_lossy(&self.held).into_owned();
        self.whole.push_back((line, self.taken));
        self.held.clear();
    }

    /// The next line, and how many bytes were taken up to its end.
    pub(super) fn next(&mut self) -> Option<(String, u64)> {
        self.whole.pop_front()
    }

    /// The begin of a line whose end has not come.
    pub(super) fn partial(&self) -> Option<String> {
        (!self.held.is_empty()).then(|| String::from_utf8_lossy(&self.held).into_owned())
    }

    /// Bytes taken since the last line end.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held.len() as u64
    }
}
