//! Attempts to smuggle, and what looks like them: `tests/corpus`.

use sinew_http::Limits;
use sinew_http::framing::{Asked, Framing};

#[path = "../corpus/read.rs"]
mod read;

use self::read::{Case, REQUESTS, RESPONSES, cases};
use crate::judge::{Verdict, request, response};

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
