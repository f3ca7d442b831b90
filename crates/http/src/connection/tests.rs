use proptest::prelude::*;

use super::*;
use crate::Refused;
use crate::framing::{Asked, Framing};
use crate::head::{Progress, Request, Response};

fn request(server: &mut Server, text: &str) -> Result<Begun, Refused> {
    let mut head = Request::default();
    assert_eq!(head.read(text.as_bytes()), Ok(Progress::Done(text.len())));
    server.request(&head, text.as_bytes())
}

fn response(client: &mut Client, text: &str) -> Result<Received, Refused> {
    let mut head = Response::default();
    assert_eq!(head.read(text.as_bytes()), Ok(Progress::Done(text.len())));
    client.response(&head, text.as_bytes())
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
const WAITS: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

fn state(server: &Server) -> (Reading, Writing) {
    (server.reading(), server.writing())
}

#[test]
fn one_request_follows_the_other() {
    let mut server = Server::new();
    for _ in 0..2 {
        request(&mut server, GET).unwrap();
        assert_eq!(state(&server), (Reading::Wait, Writing::Head));
        let reply = server.respond(Framing::Length(3)).unwrap();
        assert_eq!(reply, Reply { framing: Framing::Length(3), connection: None });
        assert_eq!(state(&server), (Reading::Wait, Writing::Body));
        server.body_written();
        assert_eq!(state(&server), (Reading::Head, Writing::Idle));
    }
}

#[test]
fn a_second_request_waits_for_the_first_ones_response() {
    let mut server = Server::new();
    request(&mut server, GET).unwrap();
    assert_eq!(request(&mut server, GET), Err(Refused::OutOfTurn));
}

#[test]
fn versions_and_options_say_whether_the_connection_goes_on() {
    let cases = [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", Some("close")),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, keep-alive\r\n\r\n", Some("close")),
        ("GET / HTTP/1.0\r\n\r\n", Some("close")),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", Some("keep-alive")),
    ];
    for (text, connection) in cases {
        let mut server = Server::new();
        request(&mut server, text).unwrap();
        assert_eq!(server.respond(Framing::None).unwrap().connection, connection, "{text}");
        let closes = server.writing() == Writing::Close(Close::Now);
        assert_eq!(closes, connection == Some("close"), "{text}");
    }
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks_and_no_interim_responses() {
    let mut server = Server::new();
    request(&mut server, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap();
    assert!(!server.interim(103));
    let reply = server.respond(Framing::Chunked).unwrap();
    assert_eq!(reply, Reply { framing: Framing::UntilClose, connection: Some("close") });
    server.body_written();
    assert_eq!(server.writing(), Writing::Close(Close::Now));
}

#[test]
fn a_body_without_a_length_is_chunked_and_the_connection_goes_on() {
    let mut server = Server::new();
    request(&mut server, GET).unwrap();
    let reply = server.respond(Framing::UntilClose).unwrap();
    assert_eq!(reply, Reply { framing: Framing::Chunked, connection: None });
}

#[test]
fn the_rest_of_a_body_is_dropped_before_the_next_request() {
    let mut server = Server::new();
    request(&mut server, POST).unwrap();
    server.respond(Framing::None).unwrap();
    assert_eq!(state(&server), (Reading::Discard, Writing::Done));
    server.body_read();
    assert_eq!(state(&server), (Reading::Head, Writing::Idle));
}

#[test]
fn a_body_that_is_held_back_is_not_taken_for_the_next_request() {
    let mut server = Server::new();
    assert!(request(&mut server, WAITS).unwrap().expects_continue);
    assert_eq!(server.respond(Framing::None).unwrap().connection, Some("close"));
    assert_eq!(server.writing(), Writing::Close(Close::Linger));
    let mut server = Server::new();
    request(&mut server, WAITS).unwrap();
    assert!(server.interim(100));
    server.body_read();
    assert_eq!(server.respond(Framing::None).unwrap().connection, None);
    assert_eq!(state(&server), (Reading::Head, Writing::Idle));
}

#[test]
fn who_breaks_the_protocol_is_answered_if_nothing_was_and_the_connection_ends() {
    let mut server = Server::new();
    let wrong = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n";
    assert_eq!(request(&mut server, wrong), Err(Refused::BadLength));
    assert!(server.refuse());
    assert_eq!(state(&server), (Reading::Discard, Writing::Head));
    assert_eq!(server.input_closed(false), Ok(()));
    assert_eq!(server.writing(), Writing::Head, "who has sent all still reads the answer");
    assert_eq!(server.respond(Framing::None).unwrap().connection, Some("close"));
    assert_eq!(server.writing(), Writing::Close(Close::Linger));

    let mut server = Server::new();
    request(&mut server, POST).unwrap();
    server.respond(Framing::Length(9)).unwrap();
    assert!(!server.refuse(), "a second head would be read as body");
    assert_eq!(server.writing(), Writing::Close(Close::Reset));
}

#[test]
fn a_tunnel_has_no_further_messages() {
    let mut server = Server::new();
    let begun = request(&mut server, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").unwrap();
    assert_eq!(begun.asked, Asked::Connect);
    assert_eq!(server.respond(Framing::Tunnel).unwrap().connection, None);
    assert_eq!(state(&server), (Reading::Tunnel, Writing::Tunnel));
    assert_eq!(request(&mut server, GET), Err(Refused::OutOfTurn));
}

#[test]
fn a_tunnel_is_asked_for() {
    let mut server = Server::new();
    request(&mut server, GET).unwrap();
    assert_eq!(server.respond(Framing::Tunnel), Err(Refused::OutOfTurn));
}

#[test]
fn the_answer_to_head_has_no_body() {
    let mut server = Server::new();
    request(&mut server, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(server.respond(Framing::Length(5)).unwrap().framing, Framing::None);
    assert_eq!(state(&server), (Reading::Head, Writing::Idle));
}

#[test]
fn an_upgrade_is_meant_where_connection_says_so() {
    let asked = |text: &str| request(&mut Server::new(), text).unwrap().asked;
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
                   Connection: keep-alive, Upgrade\r\n\r\n";
    assert_eq!(asked(upgrade), Asked::Upgrade);
    assert_eq!(asked(&upgrade.replace(", Upgrade", "")), Asked::Body);
    assert_eq!(asked(&upgrade.replace("HTTP/1.1", "HTTP/1.0")), Asked::Body);
}

#[test]
fn the_end_of_input_within_a_request_is_told_from_the_end_behind_one() {
    let mut server = Server::new();
    assert_eq!(server.input_closed(true), Err(Refused::CutShort));
    assert_eq!(server.input_closed(false), Ok(()));
    assert_eq!(server.writing(), Writing::Close(Close::Now));
    // Who shuts down for writing still wants the answer.
    let mut server = Server::new();
    request(&mut server, GET).unwrap();
    assert_eq!(server.input_closed(false), Ok(()));
    assert_eq!(server.respond(Framing::None).unwrap().connection, Some("close"));
    assert_eq!(server.writing(), Writing::Close(Close::Now));
}

#[test]
fn who_drains_answers_what_is_under_way() {
    let mut server = Server::new();
    request(&mut server, GET).unwrap();
    server.drain();
    assert_eq!(server.respond(Framing::None).unwrap().connection, Some("close"));
    let mut server = Server::new();
    server.drain();
    assert_eq!(server.writing(), Writing::Close(Close::Linger));
}

#[test]
fn fields_for_one_hop_are_told() {
    let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-mine, close\r\nX-Mine: 1\r\n\
                X-Other: 2\r\nTE: trailers\r\nKeep-Alive: 5\r\n\r\n";
    let mut head = Request::default();
    head.read(text.as_bytes()).unwrap();
    let (fields, bytes) = (head.fields(), text.as_bytes());
    let options = Options::of(fields, bytes).unwrap();
    let onward = fields.list().iter().filter(|f| !is_for_one_hop(f, fields, options, bytes));
    let onward: Vec<&[u8]> = onward.map(|field| field.name.of(bytes)).collect();
    assert_eq!(onward, [b"Host".as_slice(), b"X-Other"]);
    assert!(takes_trailers(fields, bytes));
}

proptest! {
    /// Whatever the shell tells, in whatever order: what is to be read and what is to be written
    /// go together, a request begins where the last one has ended, and what is closed stays so.
    #[test]
    fn what_is_read_and_what_is_written_go_together(steps in prop::collection::vec(0_usize..11, 0..30)) {
        let (mut server, mut begun, mut whole) = (Server::new(), 0, 0);
        for step in steps {
            let closed = matches!(server.writing(), Writing::Close(_));
            let framings = [Framing::None, Framing::Length(3), Framing::UntilClose, Framing::Tunnel];
            match step {
                0..3 => {
                    let may = state(&server) == (Reading::Head, Writing::Idle);
                    let taken = request(&mut server, [GET, POST, WAITS][step]).is_ok();
                    prop_assert_eq!(taken, may);
                    begun += usize::from(taken);
                }
                3..7 => drop(server.respond(framings[step - 3])),
                7 => server.body_read(),
                8 => server.body_written(),
                9 => drop(server.refuse()),
                _ => drop(server.input_closed(false)),
            }
            whole += usize::from(begun > whole && state(&server) == (Reading::Head, Writing::Idle));
            prop_assert!(begun - whole <= 1, "two requests under way");
            match state(&server) {
                (_, Writing::Close(_)) => {}
                _ if closed => prop_assert!(false, "it was closed"),
                (Reading::Head, Writing::Idle)
                | (Reading::Body | Reading::Wait, Writing::Head | Writing::Body)
                | (Reading::Discard, Writing::Head | Writing::Body | Writing::Done)
                | (Reading::Tunnel, Writing::Tunnel) => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}

fn sent(asked: Asked, body: Framing) -> Client {
    let mut client = Client::new();
    client.send(asked, body, false).unwrap();
    client
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";

#[test]
fn an_upstream_is_used_again_when_both_are_whole() {
    let mut client = sent(Asked::Body, Framing::None);
    assert!(matches!(response(&mut client, OK), Ok(Received::Final(Framing::Length(2), _))));
    assert!(!client.is_reusable());
    client.body_read();
    assert!(client.is_reusable());

    let mut client = sent(Asked::Body, Framing::Length(5));
    response(&mut client, OK).unwrap();
    client.body_read();
    assert!(!client.is_reusable(), "it may not have read the request");
}

#[test]
fn an_upstream_that_closes_or_ends_with_the_connection_is_not_used_again() {
    for text in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    ] {
        let mut client = sent(Asked::Body, Framing::None);
        response(&mut client, text).unwrap();
        client.body_read();
        assert!(!client.is_reusable(), "{text}");
    }
    let mut client = sent(Asked::Body, Framing::None);
    response(&mut client, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    assert!(client.is_reusable());
}

#[test]
fn a_response_that_nobody_asked_for_ends_the_connection() {
    let mut client = Client::new();
    assert!(!client.is_receiving());
    assert_eq!(response(&mut client, OK), Err(Refused::Unasked));
    assert!(!client.is_reusable());
}

#[test]
fn a_body_waits_for_100_or_for_the_caller() {
    let mut client = Client::new();
    client.send(Asked::Body, Framing::Length(5), true).unwrap();
    assert_eq!(client.sending(), Sending::HeldBack);
    assert_eq!(response(&mut client, "HTTP/1.1 103 Early Hints\r\n\r\n"), Ok(Received::Interim));
    assert_eq!(client.sending(), Sending::HeldBack);
    assert_eq!(response(&mut client, "HTTP/1.1 100 Continue\r\n\r\n"), Ok(Received::Interim));
    assert_eq!(client.sending(), Sending::Body);
    client.body_sent();
    response(&mut client, OK).unwrap();
    client.body_read();
    assert!(client.is_reusable());
}

#[test]
fn interim_responses_have_an_end() {
    let mut client = sent(Asked::Body, Framing::None);
    let hints = "HTTP/1.1 103 Early Hints\r\n\r\n";
    for _ in 0..16 {
        assert_eq!(response(&mut client, hints), Ok(Received::Interim));
    }
    assert_eq!(response(&mut client, hints), Err(Refused::TooManyInterim));
}

#[test]
fn the_end_of_a_connection_means_what_was_under_way() {
    assert_eq!(Client::new().closed(false), Ok(Closed::Idle));
    assert_eq!(sent(Asked::Body, Framing::None).closed(false), Ok(Closed::Unanswered));
    assert_eq!(sent(Asked::Body, Framing::None).closed(true), Err(Refused::CutShort));
    let mut client = sent(Asked::Body, Framing::None);
    response(&mut client, "HTTP/1.1 200 OK\r\n\r\n").unwrap();
    assert_eq!(client.closed(false), Ok(Closed::Whole));
    let mut client = sent(Asked::Body, Framing::None);
    response(&mut client, OK).unwrap();
    assert_eq!(client.closed(false), Err(Refused::CutShort));
    let mut client = sent(Asked::Connect, Framing::None);
    response(&mut client, OK).unwrap();
    assert_eq!(client.closed(false), Ok(Closed::Tunnel));
}

#[test]
fn a_change_of_protocol_waits_for_the_request() {
    let mut client = sent(Asked::Upgrade, Framing::Length(5));
    let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n";
    assert_eq!(response(&mut client, switch), Err(Refused::UnwantedSwitch));
    assert_eq!(client.closed(false), Err(Refused::CutShort));
}
