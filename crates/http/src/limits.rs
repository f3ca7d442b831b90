//! How much one message may ask of whoever reads it.

/// Bounds of a message. What is beyond one is refused as soon as it is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of a request line or a status line, without its end.
    pub line_bytes: usize,
    /// Of one field, name and value, without its end.
    pub field_bytes: usize,
    /// Fields of a head, or of a trailer section.
    pub fields: usize,
    /// Of a whole head, or of a trailer section.
    pub head_bytes: usize,
}

impl Limits {
    /// RFC 9110 section 4.1 wants targets of 8000 bytes taken at least; nginx takes as many as this.
    pub const LINE_BYTES: usize = 8 * 1024;
    /// Cookies and tokens of a kilobyte or two are usual; eight times that are not.
    pub const FIELD_BYTES: usize = 16 * 1024;
    /// As many as Apache takes.
    pub const FIELDS: usize = 100;
    /// What one connection may make its reader keep.
    pub const HEAD_BYTES: usize = 64 * 1024;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes: Self::LINE_BYTES,
            field_bytes: Self::FIELD_BYTES,
            fields: Self::FIELDS,
            head_bytes: Self::HEAD_BYTES,
        }
    }
}
