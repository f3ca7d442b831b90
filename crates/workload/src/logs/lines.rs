//! Cuts bytes into lines.

use std::collections::VecDeque;

/// A longer line is cut here.
pub const MAX_LINE_BYTES: usize = 64 << 10;

/// Takes bytes, gives lines.
#[derive(Debug, Default)]
pub(super) struct Lines {
    held: Vec<u8>,
    whole: VecDeque<String>,
    skipping: bool,
}

impl Lines {
    /// Passes over everything up to the next line end.
    pub(super) fn skip_line(&mut self) {
        self.skipping = true;
    }

    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        if self.skipping {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return };
            self.skipping = false;
            bytes = &bytes[end + 1..];
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', text)) => {
                    self.hold(text);
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
            self.finish();
            text = rest;
        }
        self.held.extend_from_slice(text);
    }

    fn finish(&mut self) {
        self.whole.push_back(String::from_utf8_lossy(&self.held).into_owned());
        self.held.clear();
    }

    pub(super) fn next(&mut self) -> Option<String> {
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
