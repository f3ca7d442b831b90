//! Messages as plain as can be, and a reader of them that has the whole text in memory.

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// The first line and all fields but those of the framing, in order.
    pub(crate) lines: Vec<String>,
    pub(crate) framing: String,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<String>,
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The head of a message, and the bytes it takes.
pub(crate) fn head(bytes: &[u8]) -> Option<(Message, usize)> {
    let end = find(bytes, b"\r\n\r\n")?;
    let all = text(&bytes[..end]);
    let mut message = Message::default();
    for line in all.split("\r\n") {
        let lower = line.to_ascii_lowercase();
        let framing =
            ["content-length:", "transfer-encoding:"].iter().any(|f| lower.starts_with(f));
        if framing && !message.lines.is_empty() {
            assert_eq!(message.framing, "", "framed once");
            message.framing = lower;
        } else {
            message.lines.push(line.to_owned());
        }
    }
    Some((message, end + 4))
}

/// One whole message, and how many bytes it takes. `until_close`: where it has no length it goes up
/// to the end.
pub(crate) fn read(bytes: &[u8], no_body: bool, until_close: bool) -> Option<(Message, usize)> {
    let (mut message, mut at) = head(bytes)?;
    if no_body {
        return Some((message, at));
    }
    if let Some(length) = message.framing.strip_prefix("content-length: ") {
        let end = at + length.parse::<usize>().unwrap();
        message.body = bytes.get(at..end)?.to_vec();
        return Some((message, end));
    }
    if message.framing.is_empty() {
        if until_close {
            message.body = bytes[at..].to_vec();
            at = bytes.len();
        }
        return Some((message, at));
    }
    loop {
        let line = at + find(&bytes[at..], b"\r\n")?;
        let size = usize::from_str_radix(&text(&bytes[at..line]), 16).unwrap();
        at = line + 2;
        if size == 0 {
            break;
        }
        message.body.extend(bytes.get(at..at + size)?);
        assert_eq!(bytes.get(at + size..at + size + 2)?, b"\r\n");
        at += size + 2;
    }
    loop {
        let line = at + find(&bytes[at..], b"\r\n")?;
        let trailer = text(&bytes[at..line]);
        at = line + 2;
        if trailer.is_empty() {
            return Some((message, at));
        }
        message.trailers.push(trailer);
    }
}

/// All whole messages, and what is left.
pub(crate) fn all(mut bytes: &[u8]) -> (Vec<Message>, &[u8]) {
    let mut messages = Vec::new();
    while let Some((message, used)) = read(bytes, false, false) {
        messages.push(message);
        bytes = &bytes[used..];
    }
    (messages, bytes)
}
