//! A connection that has read one message allocates nothing for the next.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use sinew_http::Limits;
use sinew_http::body::{ChunkHead, Decoder, Piece};
use sinew_http::connection::{Client, Server};
use sinew_http::framing::Framing;
use sinew_http::head::{Request, Response};
use sinew_http::write::Head;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: all is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promised.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HEAD: &[u8] = b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: x, keep-alive\r\nX: y\r\n\
                      Transfer-Encoding: chunked\r\n\r\n";
const BODY: &[u8] = b"5;x=y\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nServer: a\r\n\r\n";

/// What a proxy does with a request and its response.
fn pass(request: &mut Request, response: &mut Response, out: &mut Vec<u8>) {
    let (mut server, mut client) = (Server::new(), Client::new());
    out.clear();
    request.restart();
    request.read(&HEAD[..30]).unwrap();
    request.read(HEAD).unwrap();
    let begun = server.request(request, HEAD).unwrap();
    let mut head = Head::request(out, b"POST", request.target().of(HEAD)).unwrap();
    for field in request.fields().list().iter().filter(|field| field.name.of(HEAD) == b"X") {
        head.field(field.name.of(HEAD), field.value.of(HEAD)).unwrap();
    }
    head.end(begun.framing);
    client.send(begun.asked, begun.framing, false).unwrap();
    let (mut decoder, mut at) = (Decoder::new(begun.framing, Limits::default()), 0);
    while let Piece::Data(data) = decoder.next(&BODY[at..]).unwrap() {
        out.extend_from_slice(ChunkHead::new(data.len()).unwrap().as_bytes());
        out.extend_from_slice(&BODY[at..][data.clone()]);
        at += data.end;
    }
    server.body_read();
    client.body_sent();
    response.restart();
    response.read(ANSWER).unwrap();
    client.response(response, ANSWER).unwrap();
    let reply = server.respond(Framing::Length(0)).unwrap();
    Head::response(out, 200, b"OK").unwrap().end(reply.framing);
    assert!(client.is_reusable());
}

#[test]
fn the_second_message_allocates_nothing() {
    let (mut request, mut response) = (Request::default(), Response::default());
    let mut out = Vec::new();
    pass(&mut request, &mut response, &mut out);
    let before = ALLOCATIONS.get();
    assert!(before > 0, "they are counted");
    for _ in 0..100 {
        pass(&mut request, &mut response, &mut out);
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
