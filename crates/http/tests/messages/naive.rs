//! A reader that is as plain as can be: it cuts text at its ends of lines, copies everything and
//! knows nothing of pieces. Whatever one of the two takes the other has to take in the same way.

use proptest::prelude::*;
use proptest::sample::select;
use sinew_http::Limits;
use sinew_http::framing::Framing;

use crate::judge::{Message, Verdict, request};

pub(crate) enum Naive {
    More,
    Refused,
    Taken(Message),
}

type Texts = Vec<(String, String)>;

/// One character a byte.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn bytes(fields: Texts) -> Vec<(Vec<u8>, Vec<u8>)> {
    let one = |text: String| text.chars().map(|c| c as u8).collect();
    fields.into_iter().map(|(name, value)| (one(name), one(value))).collect()
}

fn is_token(text: &str) -> bool {
    let may = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(may)
}

fn is_value(text: &str) -> bool {
    text.chars().all(|c| c == '\t' || (c >= ' ' && c != '\x7f'))
}

fn fields(lines: &[&str]) -> Option<Texts> {
    let field = |line: &&str| {
        let (name, value) = line.split_once(':')?;
        let right = is_token(name) && is_value(value);
        right.then(|| (name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
    };
    lines.iter().map(field).collect()
}

fn all<'a>(fields: &'a Texts, name: &str) -> Vec<&'a str> {
    let of_name = fields.iter().filter(|field| field.0.eq_ignore_ascii_case(name));
    of_name.map(|field| field.1.as_str()).collect()
}

/// Host and port.
fn authority(text: &str) -> Option<(String, Option<u16>)> {
    let at = if text.starts_with('[') {
        text.find(']')? + 1
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let (host, port) = text.split_at(at);
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        None => return None,
        Some(digits) if digits.starts_with('+') || digits.len() > 5 => return None,
        Some(digits) => Some(digits.parse().ok()?),
    };
    let right = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let named = |c: char| c.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(c);
            !host.is_empty() && host.chars().all(named)
        }
    };
    right.then(|| (host.to_ascii_lowercase(), port))
}

fn line_and_host(line: &str, fields: &Texts) -> Option<(String, bool)> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = parts[..] else { return None };
    let visible = |c: char| c.is_ascii_graphic() && c != '#';
    if !is_token(method)
        || method == "PRI"
        || method.len() > 32
        || target.is_empty()
        || !target.chars().all(visible)
    {
        return None;
    }
    let old = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ => return None,
    };
    let (mut place, mut default) = (None, 80);
    if method == "CONNECT" {
        let (host, port) = authority(target)?;
        default = port?;
        place = Some((host, port));
    } else if !target.starts_with('/') && (method, target) != ("OPTIONS", "*") {
        let (scheme, rest) = target.split_once("://")?;
        default = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        place = Some(authority(rest.split(['/', '?']).next()?)?);
    }
    let (host, port) = match all(fields, "host")[..] {
        [] if old => return Some((method.to_owned(), old)),
        [host] => authority(host)?,
        _ => return None,
    };
    if let Some((place, at)) = place
        && (place != host || at.unwrap_or(default) != port.unwrap_or(default))
    {
        return None;
    }
    Some((method.to_owned(), old))
}

fn framing(method: &str, old: bool, fields: &Texts) -> Option<Framing> {
    let framing = match (&all(fields, "content-length")[..], &all(fields, "transfer-encoding")[..])
    {
        ([], []) => Framing::None,
        ([length], []) if length.chars().all(|c| c.is_ascii_digit()) && length.len() < 20 => {
            Framing::Length(length.parse::<i64>().ok()? as u64)
        }
        ([], [coding]) if !old && coding.eq_ignore_ascii_case("chunked") => Framing::Chunked,
        _ => return None,
    };
    let empty = matches!(framing, Framing::None | Framing::Length(0));
    (empty || !["CONNECT", "TRACE"].contains(&method)).then_some(framing)
}

fn one_hop(old: bool, fields: &Texts) -> bool {
    let connection = all(fields, "connection");
    let mut options =
        connection.iter().flat_map(|value| value.split(',')).map(|o| o.trim_matches([' ', '\t']));
    let never = [
        "authorization",
        "cache-control",
        "content-length",
        "content-type",
        "cookie",
        "host",
        "set-cookie",
    ];
    let right = options.all(|o| {
        o.is_empty() || (is_token(o) && !never.contains(&o.to_ascii_lowercase().as_str()))
    });
    let expect = all(fields, "expect");
    let expected = old
        || expect.is_empty()
        || (expect.len() == 1 && expect[0].eq_ignore_ascii_case("100-continue"));
    right && expected
}

/// Body, trailers and what is left; the error: more is needed, or it is wrong.
fn chunks(mut rest: &str) -> Result<(String, Texts, &str), Naive> {
    let mut body = String::new();
    loop {
        let (line, after) = rest.split_once("\r\n").ok_or(Naive::More)?;
        let (digits, extension) = line.split_once(';').unwrap_or((line, ""));
        let size = u64::from_str_radix(digits, 16).map_err(|_| Naive::Refused)?;
        let wrong = digits.starts_with('+') || digits.len() > 16 || size > i64::MAX as u64;
        let printable = |c: char| c == '\t' || (' '..='~').contains(&c);
        if wrong || !extension.chars().all(printable) {
            return Err(Naive::Refused);
        }
        if size == 0 {
            rest = after;
            break;
        }
        let size = usize::try_from(size).map_err(|_| Naive::More)?;
        // One character a byte, but not one byte a character.
        let data: String = after.chars().take(size).collect();
        let behind = &after[data.len()..];
        if data.chars().count() < size || behind.len() < 2 {
            return Err(Naive::More);
        }
        rest = behind.strip_prefix("\r\n").ok_or(Naive::Refused)?;
        body += &data;
    }
    let mut lines = vec![];
    loop {
        let (line, after) = rest.split_once("\r\n").ok_or(Naive::More)?;
        rest = after;
        if line.is_empty() {
            return Ok((body, fields(&lines).ok_or(Naive::Refused)?, rest));
        }
        lines.push(line);
    }
}

pub(crate) fn read(all: &[u8]) -> Result<Message, Naive> {
    let all_text = text(all);
    let start = all_text.strip_prefix("\r\n").unwrap_or(&all_text);
    let (head, rest) = start.split_once("\r\n\r\n").ok_or(Naive::More)?;
    let lines: Vec<&str> = head.split("\r\n").collect();
    let fields = fields(&lines[1..]).ok_or(Naive::Refused)?;
    let (method, old) = line_and_host(lines[0], &fields).ok_or(Naive::Refused)?;
    let framing = framing(&method, old, &fields).ok_or(Naive::Refused)?;
    if !one_hop(old, &fields) {
        return Err(Naive::Refused);
    }
    let (body, trailers, rest) = match framing {
        Framing::Chunked => chunks(rest)?,
        Framing::Length(length) => {
            let body: String = rest.chars().take(length as usize).collect();
            if (body.chars().count() as u64) < length {
                return Err(Naive::More);
            }
            let rest = &rest[body.len()..];
            (body, vec![], rest)
        }
        _ => (String::new(), vec![], rest),
    };
    let used = all.len() - rest.chars().count();
    let body = body.chars().map(|c| c as u8).collect();
    Ok(Message { framing, fields: bytes(fields), body, trailers: bytes(trailers), used })
}

fn naive(bytes: &[u8]) -> Naive {
    read(bytes).map_or_else(|other| other, Naive::Taken)
}

/// Ours may refuse a message before it is whole; else the two say the same.
pub(crate) fn compare(bytes: &[u8]) {
    let ours = request(bytes, &[bytes.len()], Limits::default());
    let shown = bytes.escape_ascii();
    match (&ours, naive(bytes)) {
        (Verdict::Taken(ours), Naive::Taken(theirs)) => assert_eq!(*ours, theirs, "{shown}"),
        (Verdict::Refused(_), Naive::Refused | Naive::More) => {}
        (Verdict::More, Naive::More) => {}
        (_, Naive::Taken(theirs)) => panic!("{ours:?}, but naively {theirs:?}: {shown}"),
        (_, Naive::Refused) => panic!("{ours:?}, but naively refused: {shown}"),
        (Verdict::Taken(_), Naive::More) => panic!("{ours:?}, but naively not whole: {shown}"),
    }
}

/// A message of parts that are right most often.
pub(crate) fn message() -> impl Strategy<Value = Vec<u8>> {
    let line = select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /x HTTP/1.1\r\n",
        "POST /x HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "CONNECT a:80 HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "GET http://a HTTP/1.1\r\n",
        "\r\nPUT /?a=b HTTP/1.1\r\n",
        "TRACE / HTTP/1.1\r\n",
        "GET  / HTTP/1.1\r\n",
        "GET / HTTP/1.1\n",
    ]);
    let field = select(vec![
        "Content-Length: 5\r\n",
        "Content-Length: 5\r\n",
        "content-length:0\r\n",
        "Content-Length: +5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: CHUNKED \r\n",
        "transfer-encoding: x\r\n",
        "X: y\r\n",
        "X:\t\u{ff} y \r\n",
        "Connection: close\r\n",
        "Connection: x, host\r\n",
        "Expect: 100-continue\r\n",
        "Expect: y\r\n",
        "X : y\r\n",
        " folded\r\n",
        "X: y\n",
        "Host: b\r\n",
        "X: \0\r\n",
        "X: a\rb\r\n",
        "X\r\n",
    ]);
    let host = select(vec!["Host: a\r\n", "Host: a\r\n", "Host: a\r\n", "host:A:80\r\n", ""]);
    let part = select(vec![
        "5\r\nhello\r\n",
        "5\r\nhello\r\n",
        "A;x=\"y\"\r\n0123456789\r\n",
        "0\r\n\r\n",
        "0\r\n\r\n",
        "0\r\nT: v\r\n\r\n",
        "hello",
        "5\r\nhell\r\n",
        "5\nhello\r\n",
        "05\r\n\u{ff}\0\r\n\n\r\n",
        "ffffffffffffffff\r\n",
        "0\r\n",
        "\r\n",
        " 5\r\n",
        "GET /",
    ]);
    let fields = prop::collection::vec(field, 0..3);
    let body = prop::collection::vec(part, 0..4);
    (line, host, fields, body).prop_map(|(line, host, fields, body)| {
        let text = [line, host, &fields.concat(), "\r\n", &body.concat()].concat();
        text.chars().map(|c| c as u8).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn a_naive_reader_takes_and_refuses_the_same(bytes in message()) {
        compare(&bytes);
    }

    #[test]
    fn also_where_a_byte_is_another_one(mut bytes in message(), at: prop::sample::Index, byte: u8) {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        compare(&bytes);
    }

    #[test]
    fn also_where_a_byte_is_missing(mut bytes in message(), at: prop::sample::Index) {
        let at = at.index(bytes.len());
        bytes.remove(at);
        compare(&bytes);
    }
}

#[test]
fn the_corpus_is_read_alike() {
    for case in crate::corpus::requests() {
        compare(&case.bytes);
    }
}
