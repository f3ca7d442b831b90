//! Cuts a body that arrives in pieces into lines, and lines into server-sent events. No IO.

/// Lines of a body.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// Where the first line that was not taken starts.
    start: usize,
    /// No line end before this place.
    scanned: usize,
}

impl Lines {
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(piece);
    }

    /// The next complete line, without its end.
    pub(crate) fn next_line(&mut self) -> Option<&[u8]> {
        let found = self.buffer[self.scanned..].iter().position(|&byte| byte == b'\n');
        let Some(end) = found.map(|at| self.scanned + at) else {
            self.scanned = self.buffer.len();
            return None;
        };
        let line = &self.buffer[self.start..end];
        self.start = end + 1;
        self.scanned = self.start;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// How the lines of a body become items.
#[derive(Debug)]
pub(crate) enum Framing {
    /// One item a line.
    Ndjson,
    /// Server-sent events, of which only the data matters here: what was read of the next one.
    Sse(Vec<u8>),
}

impl Framing {
    /// The next complete item.
    pub(crate) fn next_item(&mut self, lines: &mut Lines) -> Option<Vec<u8>> {
        while let Some(line) = lines.next_line() {
            match self {
                Self::Ndjson if line.is_empty() => {}
                Self::Ndjson => return Some(line.to_vec()),
                Self::Sse(data) if line.is_empty() => {
                    if !data.is_empty() {
                        return Some(std::mem::take(data));
                    }
                }
                Self::Sse(data) => add_field(data, line),
            }
        }
        None
    }
}

fn add_field(data: &mut Vec<u8>, line: &[u8]) {
    if let Some(value) = line.strip_prefix(b"data:") {
        if !data.is_empty() {
            data.push(b'\n');
        }
        data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_in_any_pieces_are_the_same_items() {
        sinew_fuzz::each(&[b"{\"a\":1}\n{}\n", b"data: x\ndata:y\n\n: c\n\n", b"\r\n"], |bytes| {
            for sse in [false, true] {
                let items = |pieces: &mut dyn Iterator<Item = &[u8]>| {
                    let mut framing = if sse { Framing::Sse(Vec::new()) } else { Framing::Ndjson };
                    let (mut lines, mut items) = (Lines::default(), Vec::new());
                    for piece in pieces {
                        lines.push(piece);
                        while let Some(item) = framing.next_item(&mut lines) {
                            items.push(item);
                        }
                    }
                    items
                };
                assert_eq!(items(&mut bytes.chunks(3)), items(&mut std::iter::once(bytes)));
            }
        });
    }

    fn items(mut framing: Framing, pieces: &[&str]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut items = Vec::new();
        for piece in pieces {
            lines.push(piece.as_bytes());
            while let Some(item) = framing.next_item(&mut lines) {
                items.push(String::from_utf8(item).unwrap());
            }
        }
        items
    }

    #[test]
    fn lines_are_the_same_however_the_body_is_cut() {
        let body = "{\"a\":1}\n\r\n{\"b\":2}\r\n{\"c\":3}";
        let whole = items(Framing::Ndjson, &[body]);
        assert_eq!(whole, ["{\"a\":1}", "{\"b\":2}"]);
        for cut in 1..body.len() {
            assert_eq!(
                items(Framing::Ndjson, &[&body[..cut], &body[cut..]]),
                whole,
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn events_are_the_same_however_the_body_is_cut() {
        let body = ": hello\n\nid: 1\nevent: change\ndata: one\n\ndata:two\r\ndata: lines\r\n\r\ndata: rest\n";
        let whole = items(Framing::Sse(Vec::new()), &[body]);
        assert_eq!(whole, ["one", "two\nlines"]);
        for cut in 1..body.len() {
            assert_eq!(
                items(Framing::Sse(Vec::new()), &[&body[..cut], &body[cut..]]),
                whole,
                "cut at {cut}"
            );
        }
    }
}
