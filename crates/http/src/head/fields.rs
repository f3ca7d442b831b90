//! The table of fields of a head or of a trailer section (RFC 9112 section 5).

use super::{Progress, line_end};
use crate::chars::{token_end, value_end};
use crate::{Limits, Refused, Span};

/// Fields that say something to whoever passes a message on; all others are passed on as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "they are called as the fields are")]
pub enum Known {
    Connection,
    ContentLength,
    Expect,
    Host,
    KeepAlive,
    ProxyConnection,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    /// None of these.
    Other,
}

impl Known {
    /// By the name, whatever its case.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else { return Self::Other };
        let (known, full): (Self, &[u8]) = match (name.len(), first.to_ascii_lowercase()) {
            (2, b't') => (Self::Te, b"te"),
            (4, b'h') => (Self::Host, b"host"),
            (6, b'e') => (Self::Expect, b"expect"),
            (7, b'u') => (Self::Upgrade, b"upgrade"),
            (7, b't') => (Self::Trailer, b"trailer"),
            (10, b'c') => (Self::Connection, b"connection"),
            (10, b'k') => (Self::KeepAlive, b"keep-alive"),
            (14, b'c') => (Self::ContentLength, b"content-length"),
            (16, b'p') => (Self::ProxyConnection, b"proxy-connection"),
            (17, b't') => (Self::TransferEncoding, b"transfer-encoding"),
            _ => return Self::Other,
        };
        if name.eq_ignore_ascii_case(full) { known } else { Self::Other }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// One field, as it lies in the buffer that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// As it was written: compare without regard to case.
    pub name: Span,
    /// Without white space around it.
    pub value: Span,
    /// Which one it is.
    pub known: Known,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// Where a line begins, or the section ends.
    #[default]
    Line,
    Name,
    Value,
}

/// All fields of a section, in their order. Used again for the next one, it allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    list: Vec<Field>,
    seen: u16,
    step: Step,
    /// The first byte that was not looked at, or that was not understood yet.
    at: usize,
    line: usize,
    name_end: usize,
}

impl Fields {
    /// All of them.
    #[must_use]
    pub fn list(&self) -> &[Field] {
        &self.list
    }

    /// Whether there is one of this kind.
    #[must_use]
    pub fn has(&self, known: Known) -> bool {
        self.seen & known.bit() != 0
    }

    /// The values of all fields of a kind; costs next to nothing where there is none.
    pub fn values<'a>(&self, known: Known, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let list = if self.has(known) { self.list.as_slice() } else { &[] };
        let chosen = list.iter().filter(move |field| field.known == known);
        chosen.map(|field| field.value.of(bytes))
    }

    /// The values of all fields of a name, whatever its case.
    pub fn named<'a>(&self, name: &str, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let chosen = self
            .list
            .iter()
            .filter(move |field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()));
        chosen.map(|field| field.value.of(bytes))
    }

    /// Forgets everything: the next section begins at `at` of its buffer.
    pub(crate) fn restart(&mut self, at: usize) {
        self.list.clear();
        (self.seen, self.step, self.at) = (0, Step::Line, at);
    }

    /// Reads on, up to the empty line that ends the section.
    pub(crate) fn read(&mut self, all: &[u8], limits: &Limits) -> Result<Progress, Refused> {
        let bytes = &all[..all.len().min(limits.head_bytes)];
        match self.read_lines(bytes, limits)? {
            Progress::More if bytes.len() == limits.head_bytes => Err(Refused::HeadTooLarge),
            progress => Ok(progress),
        }
    }

    fn read_lines(&mut self, bytes: &[u8], limits: &Limits) -> Result<Progress, Refused> {
        loop {
            match self.step {
                Step::Line => match bytes.get(self.at) {
                    None => return Ok(Progress::More),
                    Some(b'\r' | b'\n') => {
                        let end = line_end(bytes, self.at, Refused::BareLf)?;
                        return Ok(end.map_or(Progress::More, Progress::Done));
                    }
                    Some(b' ' | b'\t') => return Err(Refused::Folded),
                    Some(_) if self.list.len() >= limits.fields => {
                        return Err(Refused::TooManyFields);
                    }
                    Some(_) => (self.line, self.step) = (self.at, Step::Name),
                },
                Step::Name => {
                    self.at = self.within(limits, token_end(bytes, self.at))?;
                    match bytes.get(self.at) {
                        None => return Ok(Progress::More),
                        Some(b':') if self.at > self.line => {
                            (self.name_end, self.step) = (self.at, Step::Value);
                            self.at += 1;
                        }
                        Some(byte) => return Err(bad_name(*byte)),
                    }
                }
                Step::Value => {
                    self.at = self.within(limits, value_end(bytes, self.at))?;
                    let Some(next) = line_end(bytes, self.at, Refused::Control)? else {
                        return Ok(Progress::More);
                    };
                    self.push(bytes);
                    (self.at, self.step) = (next, Step::Line);
                }
            }
        }
    }

    fn within(&self, limits: &Limits, at: usize) -> Result<usize, Refused> {
        if at - self.line > limits.field_bytes { Err(Refused::FieldTooLong) } else { Ok(at) }
    }

    fn push(&mut self, bytes: &[u8]) {
        let white = |byte: u8| matches!(byte, b' ' | b'\t');
        let (mut start, mut end) = (self.name_end + 1, self.at);
        while start < end && white(bytes[start]) {
            start += 1;
        }
        while start < end && white(bytes[end - 1]) {
            end -= 1;
        }
        let known = Known::of(&bytes[self.line..self.name_end]);
        self.seen |= known.bit();
        let (name, value) = (Span::new(self.line, self.name_end), Span::new(start, end));
        self.list.push(Field { name, value, known });
    }
}

fn bad_name(byte: u8) -> Refused {
    match byte {
        b' ' | b'\t' => Refused::SpaceBeforeColon,
        b'\n' => Refused::BareLf,
        0..b' ' | 0x7f if byte != b'\r' => Refused::Control,
        _ => Refused::BadFieldName,
    }
}
