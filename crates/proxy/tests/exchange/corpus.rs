//! Attempts to smuggle, through a whole exchange: what the upstream reads is what was taken, no
//! more and nothing else.

use std::cell::RefCell;

#[path = "../../../http/tests/corpus/read.rs"]
mod read;

use self::read::{REQUESTS, RESPONSES, cases};
use crate::naive::{self, Message};
use crate::sim::{Client, End, Said, Seen, Sim, Told, says};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// What an upstream reads that understands nothing but plain messages, and answers each of them.
fn passed(bytes: &[u8], seed: u64) -> (Vec<Message>, Seen) {
    let say = |told: &Told<'_>| Said {
        bytes: OK.repeat(naive::all(told.heard).0.len()).into(),
        end: if told.ended { End::Ended } else { End::Open },
    };
    let client = Client { ends: true, ..Client::of(bytes) };
    let seen = Sim::new(client, &say, seed).run(false);
    let messages = seen.upstream.iter().flat_map(|heard| naive::all(heard).0).collect();
    (messages, seen)
}

fn statuses(client: &[u8]) -> Vec<u16> {
    let text: String = client.iter().map(|byte| char::from(*byte)).collect();
    let status = |line: &str| line.strip_prefix("HTTP/1.1 ")?[..3].parse().ok();
    text.split("\r\n").filter_map(status).collect()
}

#[test]
fn what_the_upstream_reads_is_what_was_taken() {
    let cases = cases(REQUESTS);
    assert!(cases.len() > 100, "{}", cases.len());
    for case in &cases {
        for seed in 0..12 {
            let (messages, seen) = passed(&case.bytes, seed);
            let refused = case.expected.starts_with("refused");
            let whole = !refused && !case.expected.starts_with("more");
            assert_eq!(messages.len(), usize::from(whole), "{}: {seen:?}", case.why);
            let statuses = statuses(&seen.client);
            match whole {
                true => assert_eq!(statuses[0], 200, "{}", case.why),
                false => assert!(statuses[0] >= 400, "{}: {statuses:?}", case.why),
            }
            if refused {
                let code = case.expected.split(' ').nth(1).unwrap();
                let told = format!("x-sinew-fault: client; {code}\r\n");
                let client = String::from_utf8_lossy(&seen.client);
                assert!(client.contains(&told), "{}: {client}", case.why);
            }
            assert!(seen.closed.is_some(), "{}", case.why);
        }
    }
}

#[test]
fn what_is_sent_behind_a_request_is_no_part_of_it() {
    let last = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for case in cases(REQUESTS) {
        if case.expected.starts_with("refused") || case.expected.contains("rest") {
            continue;
        }
        let bytes = [case.bytes.as_slice(), last].concat();
        for seed in 0..6 {
            let (messages, seen) = passed(&bytes, seed);
            let lasts = messages.iter().filter(|m| m.lines[0].contains("/last")).count();
            let whole = !case.expected.starts_with("more") && !is_last(&case.bytes);
            assert!(messages.len() <= 2 && (lasts == 1 || !whole), "{}: {seen:?}", case.why);
        }
    }
}

/// Nothing is read behind requests that say so.
fn is_last(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let old = text.contains("http/1.0") && !text.contains("keep-alive");
    old || text.contains("close") || text.starts_with("connect")
}

#[test]
fn broken_requests_reach_the_upstream_whole_or_not_at_all() {
    let cases = cases(REQUESTS);
    let right: Vec<&[u8]> = cases.iter().map(|case| case.bytes.as_slice()).collect();
    let seed = RefCell::new(0);
    sinew_fuzz::each(&right, |bytes| {
        *seed.borrow_mut() += 1;
        let (messages, seen) = passed(bytes, *seed.borrow());
        // Each request that was read there was answered here, unless it was taken for a tunnel.
        let answered = statuses(&seen.client).iter().filter(|status| **status == 200).count();
        assert_eq!(messages.len(), answered, "{seen:?}");
        assert!(seen.closed.is_some(), "{seen:?}");
    });
}

#[test]
fn answers_that_can_be_read_in_two_ways_are_502() {
    for case in cases(RESPONSES) {
        let (asked, expected) = case.expected.split_once(' ').unwrap();
        let request = match asked {
            "body" => "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "head" => "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            "connect" => "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
            _ => "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        };
        for seed in 0..12 {
            let say = |told: &Told<'_>| {
                let heard = naive::head(told.heard).is_some();
                says(if heard { case.bytes.clone() } else { Vec::new() })
            };
            let seen = Sim::new(Client::of(request.as_bytes()), &say, seed).run(false);
            let client = String::from_utf8_lossy(&seen.client);
            let code = expected.strip_prefix("refused ");
            // One that is refused within its body has begun, and cannot be taken back.
            let begun = statuses(&seen.client).last().is_some_and(|status| *status < 400);
            match code {
                Some(_) if begun => assert!(seen.closed.is_some(), "{}", case.why),
                Some(code) => {
                    let told = format!("x-sinew-fault: upstream; {code}\r\n");
                    assert!(
                        client.contains("HTTP/1.1 502") && client.contains(&told),
                        "{}: {client}",
                        case.why
                    );
                }
                None => assert!(!client.contains("x-sinew-fault"), "{}: {client}", case.why),
            }
        }
    }
}

#[test]
fn what_is_sent_behind_an_answer_is_not_the_answer_to_the_next_request() {
    let two = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2);
    let evil = format!("{OK}HTTP/1.1 200 Evil\r\nContent-Length: 0\r\n\r\n");
    for seed in 0..60 {
        let say = |told: &Told<'_>| says(evil.repeat(naive::all(told.heard).0.len()));
        let seen = Sim::new(Client::of(two.as_bytes()), &say, seed).run(false);
        assert_eq!(String::from_utf8_lossy(&seen.client), OK.repeat(2));
        assert_eq!(seen.upstream.len(), 2);
    }
}
