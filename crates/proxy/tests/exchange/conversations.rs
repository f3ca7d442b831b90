//! Right requests and right answers: both sides get what a proxy would send that has each message
//! in memory as a whole, whatever the cuts and the order.

use proptest::prelude::*;
use proptest::sample::select;
use sinew_http::connection::Close;

use crate::naive::{self, Message};
use crate::sim::{Client, End, Said, Sim, Told};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    None,
    Length,
    Chunked,
    UntilClose,
}

#[derive(Clone, Debug)]
struct Body {
    kind: Kind,
    bytes: Vec<u8>,
    chunk: usize,
    trailers: bool,
}

#[derive(Clone, Debug)]
struct Request {
    method: &'static str,
    old: bool,
    /// What Connection says of the connection.
    says: Option<&'static str>,
    fields: Vec<(&'static str, &'static str)>,
    expects: bool,
    body: Body,
}

#[derive(Clone, Debug)]
struct Response {
    status: u16,
    old: bool,
    says: Option<&'static str>,
    fields: Vec<(&'static str, &'static str)>,
    interim: Vec<u16>,
    body: Body,
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn body(kinds: &'static [Kind]) -> impl Strategy<Value = Body> {
    let size = prop_oneof![8 => 0..60_usize, 1 => 60..3000_usize, 1 => 14_000..60_000_usize];
    let chunk = prop_oneof![Just(1_usize), 2..30_usize, 1000..30_000_usize];
    let trailers = any::<bool>();
    (select(kinds), size, chunk, trailers, any::<u8>()).prop_map(
        |(kind, size, chunk, trailers, first)| {
            let size = if kind == Kind::None { 0 } else { size };
            let bytes: Vec<u8> =
                (0..size).map(|at| (at as u8).wrapping_mul(31).wrapping_add(first)).collect();
            // Chunks of a byte of a great body are a great many.
            Body { kind, chunk: chunk.max(size / 500 + 1), trailers, bytes }
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let method = select(&["GET", "HEAD", "POST", "PUT", "X-ODD"][..]);
    let says = select(&[None, None, None, Some("close"), Some("keep-alive")][..]);
    let fields = prop::collection::vec(
        select(
            &[
                ("X-A", "1"),
                ("x-a", "two words"),
                ("Cookie", "a=b"),
                ("TE", "trailers"),
                ("X-Forwarded-For", "6.6.6.6"),
                ("X_Forwarded_Host", "evil"),
                ("Forwarded", "for=6.6.6.6"),
                ("X-Real-IP", "6.6.6.6"),
                ("Keep-Alive", "5"),
                ("Upgrade", "h2c"),
                ("X-Hop", "gone"),
            ][..],
        ),
        0..4,
    );
    let body = body(&[Kind::None, Kind::Length, Kind::Chunked]);
    let old = prop::bool::weighted(0.2);
    (method, old, says, fields, any::<bool>(), body).prop_map(
        |(method, old, says, fields, expects, mut body)| {
            if old && body.kind == Kind::Chunked {
                body.kind = Kind::Length;
            }
            Request { method, old, says, fields, expects, body }
        },
    )
}

fn response() -> impl Strategy<Value = Response> {
    let status = select(&[200_u16, 200, 200, 204, 304, 404, 500, 503][..]);
    let says = select(&[None, None, None, Some("close"), Some("keep-alive")][..]);
    let fields = prop::collection::vec(
        select(&[("Server", "x"), ("Set-Cookie", "a"), ("Set-Cookie", "b"), ("X-Hop", "gone")][..]),
        0..4,
    );
    let interim = prop::collection::vec(select(&[100_u16, 103][..]), 0..3);
    let body = body(&[Kind::Length, Kind::Chunked, Kind::UntilClose]);
    let old = prop::bool::weighted(0.2);
    (status, old, says, fields, interim, body).prop_map(
        |(status, old, says, fields, interim, mut body)| {
            if old && body.kind == Kind::Chunked {
                body.kind = Kind::Length;
            }
            if status == 204 || status == 304 {
                (body.kind, body.bytes) = (Kind::None, Vec::new());
            }
            Response { status, old, says, fields, interim, body }
        },
    )
}

const TRAILERS: &str = "Grpc-Status: 0\r\nContent-Length: 7\r\nX-T: u\r\n";

impl Body {
    fn framing(&self) -> String {
        match self.kind {
            Kind::None | Kind::UntilClose => String::new(),
            Kind::Length => format!("Content-Length: {}\r\n", self.bytes.len()),
            Kind::Chunked => "Transfer-Encoding: chunked\r\n".into(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        if self.kind != Kind::Chunked {
            return self.bytes.clone();
        }
        let mut out = Vec::new();
        for chunk in self.bytes.chunks(self.chunk) {
            out.extend(format!("{:x};ext=1\r\n", chunk.len()).bytes());
            out.extend(chunk);
            out.extend(b"\r\n");
        }
        out.extend(b"0\r\n");
        out.extend(if self.trailers { TRAILERS.as_bytes() } else { b"" });
        out.extend(b"\r\n");
        out
    }

    /// As the other side gets it.
    fn onward(&self, message: &mut Message, kind: Kind) {
        message.body.clone_from(&self.bytes);
        match kind {
            Kind::None | Kind::UntilClose => {}
            Kind::Length => message.framing = format!("content-length: {}", self.bytes.len()),
            Kind::Chunked => {
                message.framing = "transfer-encoding: chunked".into();
                if self.kind == Kind::Chunked && self.trailers {
                    message.trailers = vec!["Grpc-Status: 0".into(), "X-T: u".into()];
                }
            }
        }
    }
}

fn lines(fields: &[(&str, &str)]) -> String {
    fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

/// Options of Connection: what is said, and what is named as for one hop.
fn connection(says: Option<&str>) -> String {
    let says = says.unwrap_or("foo");
    format!("Connection: {says}, x-hop\r\n")
}

impl Request {
    fn bytes(&self, number: usize) -> Vec<u8> {
        let version = if self.old { "1.0" } else { "1.1" };
        let mut out = format!("{} /{number} HTTP/{version}\r\n", self.method);
        out += if self.old { "" } else { "Host: orders\r\n" };
        out += &format!("traceparent: {PARENT}\r\n");
        out += &lines(&self.fields);
        out += &connection(self.says);
        out += if self.expects { "Expect: 100-continue\r\n" } else { "" };
        out += &self.body.framing();
        out += "\r\n";
        [out.into_bytes(), self.body.bytes()].concat()
    }

    fn waits(&self) -> bool {
        let has_body = self.body.kind == Kind::Chunked || !self.body.bytes.is_empty();
        self.expects && !self.old && has_body
    }

    fn persists(&self) -> bool {
        match self.says {
            Some("close") => false,
            Some("keep-alive") => true,
            _ => !self.old,
        }
    }

    /// As the upstream gets it.
    fn onward(&self, number: usize) -> Message {
        let mut message = Message::default();
        let lines = &mut message.lines;
        lines.push(format!("{} /{number} HTTP/1.1", self.method));
        lines.push(format!("host: {}", if self.old { "127.64.0.9:80" } else { "orders" }));
        lines.push(format!("traceparent: {PARENT}"));
        for (name, value) in &self.fields {
            if ["X-A", "x-a", "Cookie"].contains(name) {
                lines.push(format!("{name}: {value}"));
            }
        }
        if self.waits() {
            lines.push("Expect: 100-continue".into());
        }
        if self.fields.iter().any(|field| field.0 == "TE") {
            lines.extend(["te: trailers".into(), "connection: te".into()]);
        }
        lines.push("x-forwarded-for: 10.1.2.3".into());
        lines.push("x-forwarded-proto: http".into());
        lines.push(format!("via: {} sinew", if self.old { "1.0" } else { "1.1" }));
        self.body.onward(&mut message, self.body.kind);
        message
    }
}

impl Response {
    fn bytes(&self, to_head: bool) -> Vec<u8> {
        let mut out = String::new();
        for status in &self.interim {
            out += &format!("HTTP/1.1 {status} Wait\r\nX-Early: {status}\r\nConnection: x\r\n\r\n");
        }
        let version = if self.old { "1.0" } else { "1.1" };
        out += &format!("HTTP/{version} {} Words\r\n", self.status);
        out += &lines(&self.fields);
        out += &connection(self.says);
        out += &self.body.framing();
        out += "\r\n";
        if to_head { out.into_bytes() } else { [out.into_bytes(), self.body.bytes()].concat() }
    }

    fn closes(&self) -> bool {
        let persists = match self.says {
            Some("close") => false,
            Some("keep-alive") => true,
            _ => !self.old,
        };
        !persists
    }

    /// As the client gets it: what it is sent first, the answer, and whether more can follow.
    fn onward(&self, to: &Request) -> (Vec<Message>, Message, bool) {
        let mut early = Vec::new();
        for status in self.interim.iter().filter(|status| **status != 100 || to.waits()) {
            let lines = vec![format!("HTTP/1.1 {status} Wait"), format!("X-Early: {status}")];
            early.extend((!to.old).then(|| Message { lines, ..Message::default() }));
        }
        let mut message = Message::default();
        message.lines.push(format!("HTTP/1.1 {} Words", self.status));
        for (name, value) in self.fields.iter().filter(|field| field.0 != "X-Hop") {
            message.lines.push(format!("{name}: {value}"));
        }
        let kind = match (self.body.kind, to.old) {
            (Kind::Chunked | Kind::UntilClose, true) => Kind::UntilClose,
            (Kind::Chunked | Kind::UntilClose, false) => Kind::Chunked,
            (kind, _) => kind,
        };
        let persists = to.persists() && (kind != Kind::UntilClose || to.method == "HEAD");
        match (persists, to.old) {
            (false, _) => message.lines.push("connection: close".into()),
            (true, true) => message.lines.push("connection: keep-alive".into()),
            (true, false) => {}
        }
        self.body.onward(&mut message, kind);
        if to.method == "HEAD" {
            (message.body, message.trailers) = (Vec::new(), Vec::new());
            if self.body.kind == Kind::UntilClose {
                message.framing.clear();
            }
        }
        (early, message, persists)
    }
}

/// What the client was sent, read with regard to what it asked.
fn received(mut bytes: &[u8], asked: &[Request], responses: &[Response]) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut asked = asked.iter().zip(responses);
    while !bytes.is_empty() {
        let (head, _) = naive::head(bytes).unwrap();
        let interim = head.lines[0].starts_with("HTTP/1.1 1");
        let (no_body, until_close) = match asked.clone().next() {
            _ if interim => (true, false),
            Some((request, response)) => {
                (request.method == "HEAD" || matches!(response.status, 204 | 304), true)
            }
            None => panic!("an answer that nobody asked for"),
        };
        let read = naive::read(bytes, no_body, until_close);
        let (message, used) = read.unwrap_or_else(|| panic!("{}", bytes.escape_ascii()));
        messages.push(message);
        bytes = &bytes[used..];
        if !interim {
            asked.next();
        }
    }
    messages
}

fn number(message: &Message) -> usize {
    message.lines[0].split([' ', '/']).nth(2).unwrap().parse().unwrap()
}

/// An upstream that answers each whole request with the response of its number.
fn answers(requests: &[Request], responses: &[Response], told: &Told<'_>) -> Said {
    let mut said = Said::default();
    for message in naive::all(told.heard).0 {
        let number = number(&message);
        let response = &responses[number];
        let to_head = requests[number].method == "HEAD";
        said.bytes.extend(response.bytes(to_head));
        if response.closes() || (response.body.kind == Kind::UntilClose && !to_head) {
            said.end = End::Ended;
            break;
        }
    }
    said
}

fn check(pairs: &[(Request, Response)], seeds: std::ops::Range<u64>, ends: bool) {
    let (requests, responses): (Vec<Request>, Vec<Response>) = pairs.iter().cloned().unzip();
    let input: Vec<u8> =
        requests.iter().enumerate().flat_map(|(number, request)| request.bytes(number)).collect();
    let (mut to_upstream, mut to_client, mut open) = (Vec::new(), Vec::new(), true);
    for (number, (request, response)) in pairs.iter().enumerate() {
        to_upstream.push(request.onward(number));
        let (early, answer, persists) = response.onward(request);
        to_client.extend(early);
        to_client.push(answer);
        open = persists;
        if !persists {
            break;
        }
    }
    for seed in seeds {
        let say = |told: &Told<'_>| answers(&requests, &responses, told);
        let client = Client { ends, ..Client::of(&input) };
        let mut sim = Sim::new(client, &say, seed);
        // A great body byte by byte takes long, and shows nothing that a small one does not.
        let most = pairs.iter().map(|pair| pair.0.body.bytes.len().max(pair.1.body.bytes.len()));
        sim.piece = sim.piece.max(most.max().unwrap_or_default() / 200);
        let seen = sim.run(false);
        let mut heard = Vec::new();
        for connection in &seen.upstream {
            let (messages, rest) = naive::all(connection);
            assert_eq!(rest, b"", "nothing but whole requests");
            heard.extend(messages);
        }
        assert_eq!(heard, to_upstream, "to upstream, seed {seed}");
        assert_eq!(
            received(&seen.client, &requests, &responses),
            to_client,
            "to client, seed {seed}"
        );
        assert_eq!(seen.closed, (!open || ends).then_some(Close::Now), "seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn both_sides_get_what_they_would_of_a_proxy_with_endless_memory(
        pairs in prop::collection::vec((request(), response()), 1..4),
        seed: u32,
        ends: bool,
    ) {
        let seed = u64::from(seed) << 8;
        check(&pairs, seed..seed + 8, ends);
    }
}
