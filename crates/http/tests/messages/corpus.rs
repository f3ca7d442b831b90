//! Attempts to smuggle, and what looks like them: `tests/corpus`.

use sinew_http::Limits;
use sinew_http::framing::{Asked, Framing};

use crate::judge::{Verdict, request, response};

const REQUESTS: &str = include_str!("../corpus/requests.txt");
const RESPONSES: &str = include_str!("../corpus/responses.txt");

pub(crate) struct Case {
    pub(crate) expected: String,
    pub(crate) why: String,
    pub(crate) bytes: Vec<u8>,
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some(title) = line.strip_prefix("== ") {
            let (expected, why) = title.split_once(" | ").unwrap();
            cases.push(Case { expected: expected.into(), why: why.into(), bytes: vec![] });
        } else {
            cases.last_mut().unwrap().bytes.extend(bytes(line));
        }
    }
    cases
}

fn bytes(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => other,
            },
            byte => byte,
        });
    }
    bytes
}

pub(crate) fn requests() -> Vec<Case> {
    cases(REQUESTS)
}

pub(crate) fn responses() -> Vec<(Asked, Case)> {
    let asked = |mut case: Case| {
        let (asked, expected) = case.expected.split_once(' ').unwrap();
        let asked = match asked {
            "body" => Asked::Body,
            "head" => Asked::Head,
            "connect" => Asked::Connect,
            "upgrade" => Asked::Upgrade,
            other => panic!("{other}"),
        };
        case.expected = expected.to_owned();
        (asked, case)
    };
    cases(RESPONSES).into_iter().map(asked).collect()
}

fn told(verdict: &Verdict, bytes: &[u8]) -> String {
    let message = match verdict {
        Verdict::More => return "more".into(),
        Verdict::Refused(refused) => return format!("refused {}", refused.code()),
        Verdict::Taken(message) => message,
    };
    let framing = match message.framing {
        Framing::None => "none".to_owned(),
        Framing::Length(length) => format!("length {length}"),
        Framing::Chunked => "chunked".to_owned(),
        Framing::UntilClose => "until-close".to_owned(),
        Framing::Tunnel => "tunnel".to_owned(),
    };
    match bytes.len() - message.used {
        0 => framing,
        rest => format!("{framing} rest {rest}"),
    }
}

#[test]
fn requests_are_taken_or_refused_as_the_corpus_says() {
    for case in requests() {
        let verdict = request(&case.bytes, &[case.bytes.len()], Limits::default());
        assert_eq!(told(&verdict, &case.bytes), case.expected, "{}", case.why);
    }
}

#[test]
fn responses_are_taken_or_refused_as_the_corpus_says() {
    for (asked, case) in responses() {
        let verdict = response(&case.bytes, &[case.bytes.len()], asked);
        assert_eq!(told(&verdict, &case.bytes), case.expected, "{}", case.why);
    }
}
