//! What reading and writing a head costs, beside `httparse`: prints `<case> <nanoseconds>
//! <megabytes a second>`, the median over rounds. What `httparse` does not do (lengths, Host,
//! options) is told apart: `_head` reads, `_message` also decides framing and connection.
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use sinew_http::connection::Server;
use sinew_http::framing::Framing;
use sinew_http::head::{Progress, Request, Response};
use sinew_http::write::Head;

const SMALL: &[u8] = b"GET /orders/17 HTTP/1.1\r\nHost: orders\r\nUser-Agent: wrk\r\n\r\n";
const BROWSER: &[u8] =
    b"GET /assets/2026/11/pictures-of-orders-and-payments.jpg?size=large&v=1289374 HTTP/1.1\r\n\
Host: www.example.org\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Connection: keep-alive\r\n\
Referer: https://www.example.org/a/rather/long/path/to/where/somebody/came/from?and=a&query=too\r\n\
Cookie: session=eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0; theme=dark\r\n\
Upgrade-Insecure-Requests: 1\r\n\
Sec-Fetch-Dest: document\r\n\
Sec-Fetch-Mode: navigate\r\n\
Sec-Fetch-Site: same-origin\r\n\
Priority: u=0, i\r\n\
\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
Server: nginx\r\n\
Date: Sun, 22 Nov 2026 04:00:00 GMT\r\n\
Content-Type: application/json\r\n\
Content-Length: 27\r\n\
Connection: keep-alive\r\n\
ETag: \"65f1c2a0-1b\"\r\n\
\r\n";

struct Case {
    name: &'static str,
    bytes: usize,
    call: Box<dyn FnMut()>,
    ns: Vec<f64>,
}

fn case(name: &'static str, bytes: &[u8], call: impl FnMut() + 'static) -> Case {
    Case { name, bytes: bytes.len(), call: Box::new(call), ns: vec![] }
}

fn head(name: &'static str, bytes: &'static [u8]) -> Case {
    let mut head = Request::default();
    case(name, bytes, move || {
        head.restart();
        assert_eq!(black_box(head.read(black_box(bytes))), Ok(Progress::Done(bytes.len())));
    })
}

fn message(name: &'static str, bytes: &'static [u8]) -> Case {
    let mut head = Request::default();
    case(name, bytes, move || {
        head.restart();
        head.read(black_box(bytes)).unwrap();
        black_box(Server::new().request(&head, bytes)).unwrap();
    })
}

fn httparse_request(name: &'static str, bytes: &'static [u8]) -> Case {
    case(name, bytes, move || {
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut head = httparse::Request::new(&mut fields);
        assert!(black_box(head.parse(black_box(bytes))).unwrap().is_complete());
    })
}

fn cases() -> Vec<Case> {
    let mut response = Response::default();
    let mut out = Vec::new();
    vec![
        head("small_head", SMALL),
        message("small_message", SMALL),
        httparse_request("small_httparse", SMALL),
        head("browser_head", BROWSER),
        message("browser_message", BROWSER),
        httparse_request("browser_httparse", BROWSER),
        case("response_head", RESPONSE, move || {
            response.restart();
            black_box(response.read(black_box(RESPONSE))).unwrap();
        }),
        case("response_httparse", RESPONSE, || {
            let mut fields = [httparse::EMPTY_HEADER; 100];
            let mut head = httparse::Response::new(&mut fields);
            black_box(head.parse(black_box(RESPONSE))).unwrap();
        }),
        case("browser_copy", BROWSER, {
            let mut head = Request::default();
            head.read(BROWSER).unwrap();
            move || {
                out.clear();
                let mut copy = Head::request(&mut out, b"GET", head.target().of(BROWSER)).unwrap();
                for field in head.fields().list() {
                    copy.field(field.name.of(BROWSER), field.value.of(BROWSER)).unwrap();
                }
                black_box(copy.end(Framing::None));
            }
        }),
    ]
}

/// Nanoseconds a call, over a slice of time.
fn slice(call: &mut dyn FnMut(), time: Duration) -> f64 {
    let (begun, mut calls) = (Instant::now(), 0_u32);
    while begun.elapsed() < time {
        for _ in 0..1000 {
            call();
        }
        calls += 1000;
    }
    begun.elapsed().as_nanos() as f64 / f64::from(calls)
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|number| number.parse().unwrap());
    let (rounds, slice_ms) = (arguments.next().unwrap_or(11), arguments.next().unwrap_or(20));
    let mut cases = cases();
    for _ in 0..rounds {
        // Forth and back, so that nobody always follows the same one.
        cases.reverse();
        for case in &mut cases {
            let ns = slice(&mut *case.call, Duration::from_millis(slice_ms));
            case.ns.push(ns);
        }
    }
    cases.sort_by_key(|case| case.name);
    for case in &mut cases {
        case.ns.sort_by(f64::total_cmp);
        let ns = case.ns[case.ns.len() / 2];
        println!("{} {ns:.1} {:.0}", case.name, case.bytes as f64 * 1000.0 / ns);
    }
}
