//! After CONNECT and a change of protocol: bytes both ways, each of which can end alone.

use sinew_http::connection::Close;

use crate::naive;
use crate::sim::{Client, End, Said, Sim, Told};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
const CONNECT: &str = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";

/// Says back what it hears behind the head, the other way round byte by byte.
fn echo<'a>(answer: &'a str, end_first: bool) -> impl Fn(&Told<'_>) -> Said + 'a {
    move |told: &Told<'_>| {
        let Some((_, at)) = naive::head(told.heard) else { return Said::default() };
        let back = told.heard[at..].iter().map(|byte| !byte);
        let ends = if end_first { told.heard.len() > at } else { told.ended };
        Said {
            bytes: answer.bytes().chain(back).collect(),
            end: if ends { End::Ended } else { End::Open },
        }
    }
}

#[test]
fn bytes_go_both_ways_until_both_sides_have_ended() {
    let payload: Vec<u8> = (0..40_000_u32).map(|at| (at % 251) as u8).collect();
    let back: Vec<u8> = payload.iter().map(|byte| !byte).collect();
    for (head, answer) in [(UPGRADE, SWITCH), (CONNECT, "HTTP/1.1 200 OK\r\n\r\n")] {
        let sends = [head.as_bytes(), &payload].concat();
        for seed in 0..12 {
            let say = echo(answer, false);
            let client = Client { ends: true, ..Client::of(&sends) };
            let mut sim = Sim::new(client, &say, seed);
            sim.piece = sim.piece.max(2_000);
            let seen = sim.run(false);
            assert!(seen.upstream[0].ends_with(&payload), "{head}");
            let expected = [answer.as_bytes(), &back].concat();
            assert!(seen.client == expected, "{}", seen.client.len());
            assert!(seen.finished_client);
            assert_eq!((seen.closed, seen.pooled), (Some(Close::Now), 0));
        }
    }
}

#[test]
fn one_side_may_end_before_the_other() {
    let sends = [UPGRADE.as_bytes(), b"abc"].concat();
    for seed in 0..30 {
        let say = echo(SWITCH, true);
        let mut sim = Sim::new(Client::of(&sends), &say, seed);
        sim.piece = 1_000;
        let seen = sim.run(false);
        assert!(seen.finished_client && seen.client.starts_with(SWITCH.as_bytes()));
        assert_eq!(seen.closed, None, "the client may still send");
        // A tunnel that nobody uses ends as well.
        let say = echo(SWITCH, true);
        let seen = Sim::new(Client::of(&sends), &say, seed).run(true);
        assert_eq!(seen.closed, Some(Close::Reset));
    }
}

#[test]
fn only_what_is_asked_for_and_allowed_becomes_a_tunnel() {
    for (request, told) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", false),
        (UPGRADE, true),
    ] {
        for seed in 0..12 {
            let say = echo(SWITCH, false);
            let seen = Sim::new(Client::of(request.as_bytes()), &say, seed).run(false);
            let client = String::from_utf8_lossy(&seen.client);
            let upstream = String::from_utf8_lossy(&seen.upstream[0]);
            assert_eq!(upstream.contains("upgrade: "), told, "{upstream}");
            if told {
                assert_eq!(client, SWITCH);
            } else {
                assert!(client.contains("upstream; unwanted-switch"), "{client}");
            }
        }
    }
}

#[test]
fn an_answer_that_declines_is_an_answer() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let two = UPGRADE.repeat(2);
    let say = |told: &Told<'_>| Said {
        bytes: ok.repeat(naive::all(told.heard).0.len()).into(),
        end: End::Open,
    };
    for seed in 0..12 {
        let seen = Sim::new(Client::of(two.as_bytes()), &say, seed).run(false);
        assert_eq!(String::from_utf8_lossy(&seen.client), ok.repeat(2));
        assert_eq!((seen.upstream.len(), seen.pooled, seen.closed), (1, 2, None));
    }
}
