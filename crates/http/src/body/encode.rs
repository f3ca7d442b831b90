//! Chunks to send: what goes before and behind bytes that are sent from where they lie.

use std::fmt::Write;

/// Ends a body in chunks. Trailers and an empty line follow, or [`NO_TRAILERS`].
pub const LAST_CHUNK: &[u8] = b"0\r\n";
/// Ends a message in chunks that has no trailers. Also what goes behind each chunk's data.
pub const NO_TRAILERS: &[u8] = b"\r\n";

/// What goes before a chunk's data: its size, as CR LF ends it.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHead {
    bytes: [u8; Self::MOST],
    len: usize,
}

impl ChunkHead {
    /// Sixteen digits, CR and LF.
    const MOST: usize = 18;

    /// For data of this length; none for no data, which would end the body.
    #[must_use]
    pub fn new(data_bytes: usize) -> Option<Self> {
        let mut head = Self { bytes: [0; Self::MOST], len: 0 };
        (data_bytes > 0 && write!(head, "{data_bytes:x}\r\n").is_ok()).then_some(head)
    }

    /// The bytes to send.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Write for ChunkHead {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
