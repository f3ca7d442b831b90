//! What goes wrong: who is told what, what is tried again, and what is not.

use std::sync::Arc;
use std::time::Duration;

use sinew_http::connection::Close;
use sinew_proxy::route::Route;
use sinew_resilience::balance::Answer;
use sinew_resilience::breaker::{Breaker, Forced, Settings};
use sinew_resilience::limit::Bulkhead;

use crate::naive;
use crate::sim::{Client, End, One, SECOND, Said, Seen, Sim, Told, route, says};

const GET: &str = "GET /0 HTTP/1.1\r\nHost: a\r\n\r\n";
const PUT: &str = "PUT /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
const POST: &str = "POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn whole(heard: &[u8]) -> usize {
    naive::all(heard).0.len()
}

/// With a route of the test's own, and all that its backends were told.
fn run(
    client: Client<'_>,
    say: &dyn Fn(&Told<'_>) -> Said,
    seed: u64,
    change: impl FnOnce(&mut Route),
) -> (Seen, Vec<Option<Answer>>) {
    let one = Arc::<One>::default();
    let mut own = route(&one);
    change(&mut own);
    let mut sim = Sim::new(client, say, seed);
    sim.route = Arc::new(own);
    let seen = sim.run(true);
    assert_eq!(*one.under_way.lock().unwrap(), 0, "each try has an end");
    let outcomes = one.outcomes.lock().unwrap();
    let answers = outcomes.iter().map(|outcome| outcome.map(|outcome| outcome.answer)).collect();
    (seen, answers)
}

fn told(seen: &Seen) -> (u16, String) {
    let text = String::from_utf8_lossy(&seen.client);
    let head = text.rfind("HTTP/1.1 ").map(|at| &text[at..]).unwrap_or_default();
    let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default();
    let fault = head.split("x-sinew-fault: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    (status, fault.unwrap_or_default().to_owned())
}

fn fault(seen: &Seen, status: u16, code: &str) {
    assert_eq!(told(seen), (status, code.to_owned()), "{}", String::from_utf8_lossy(&seen.client));
}

#[test]
fn a_backend_that_takes_no_connection_is_tried_again_and_then_told_of() {
    for (seed, request) in (0..30).flat_map(|seed| [(seed, GET), (seed, POST)]) {
        let refuses = |told: &Told<'_>| match told.connection {
            0 => Said { end: End::Refuses, ..Said::default() },
            _ => says(OK.repeat(whole(told.heard))),
        };
        let (seen, answers) = run(Client::of(request.as_bytes()), &refuses, seed, |_| {});
        assert_eq!(told(&seen).0, 200, "nothing of it was sent: also what is not idempotent");
        assert_eq!(answers, [Some(Answer::GatewayError), Some(Answer::Success)]);

        let always = |_: &Told<'_>| Said { end: End::Refuses, ..Said::default() };
        let (seen, answers) = run(Client::of(request.as_bytes()), &always, seed, |_| {});
        fault(&seen, 502, "upstream; not-connected");
        assert_eq!((seen.upstream.len(), answers.len()), (3, 3), "as many tries as the policy has");
    }
}

#[test]
fn what_may_have_been_acted_upon_is_not_sent_twice_unless_that_is_the_same() {
    for seed in 0..40 {
        for end in [End::Ended, End::Reset] {
            let breaks = |told: &Told<'_>| match told.connection {
                0 if whole(told.heard) > 0 => Said { end, ..Said::default() },
                _ => says(OK.repeat(whole(told.heard))),
            };
            for request in [GET, PUT] {
                let (seen, _) = run(Client::of(request.as_bytes()), &breaks, seed, |_| {});
                assert_eq!(told(&seen).0, 200);
                let both: Vec<usize> = seen.upstream.iter().map(|heard| whole(heard)).collect();
                assert_eq!(both, [1, 1], "the same request, body included");
                assert_eq!(seen.upstream[0], seen.upstream[1]);
            }
            let (seen, answers) = run(Client::of(POST.as_bytes()), &breaks, seed, |_| {});
            fault(&seen, 502, "upstream; unanswered");
            assert_eq!((seen.upstream.len(), answers), (1, vec![Some(Answer::GatewayError)]));
        }
    }
}

#[test]
fn a_connection_that_had_been_closed_meanwhile_is_nobodys_failure() {
    let two = GET.repeat(2);
    for seed in 0..40 {
        let once = |told: &Told<'_>| {
            // The first connection is closed as soon as the second request reaches it.
            let late = told.connection == 0 && told.heard.len() > first(told.heard);
            let said = OK.repeat(whole(told.heard).min(if told.connection == 0 { 1 } else { 9 }));
            Said { bytes: said.into(), end: if late { End::Ended } else { End::Open } }
        };
        let (seen, answers) = run(Client::of(two.as_bytes()), &once, seed, |route| {
            route.retry.tries = 1;
        });
        assert_eq!(String::from_utf8_lossy(&seen.client), OK.repeat(2));
        assert_eq!(answers, [Some(Answer::Success); 2]);
        assert_eq!(seen.upstream.len(), 2);
    }
}

fn first(heard: &[u8]) -> usize {
    naive::read(heard, false, false).map_or(usize::MAX, |(_, used)| used)
}

#[test]
fn a_response_that_breaks_off_is_never_taken_for_whole() {
    for seed in 0..40 {
        for (head, taken) in [
            ("Content-Length: 9\r\n\r\nabc", "abc"),
            ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "3"),
            ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n", "3"),
            ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", ""),
        ] {
            let response = format!("HTTP/1.1 200 OK\r\n{head}");
            let breaks = |told: &Told<'_>| match whole(told.heard) {
                0 => Said::default(),
                _ => Said { bytes: response.clone().into(), end: End::Ended },
            };
            let (seen, answers) = run(Client::of(GET.as_bytes()), &breaks, seed, |_| {});
            assert_eq!(seen.closed, Some(Close::Reset), "{head}");
            assert_eq!(naive::read(&seen.client, false, false), None, "{head}");
            assert!(taken.len() <= seen.client.len());
            assert_eq!(answers, [Some(Answer::GatewayError)]);
        }
        // Up to the end of the connection, which a reset is not.
        let until = |told: &Told<'_>| match whole(told.heard) {
            0 => Said::default(),
            _ => Said { bytes: "HTTP/1.1 200 OK\r\n\r\nabc".into(), end: End::Reset },
        };
        let (seen, _) = run(Client::of(GET.as_bytes()), &until, seed, |_| {});
        assert_eq!(seen.closed, Some(Close::Reset));
    }
}

#[test]
fn an_answer_before_the_request_is_whole_is_passed_on() {
    let head = "POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n";
    let body = vec![b'x'; 40_000];
    let request = [head.as_bytes(), &body, GET.as_bytes()].concat();
    let early = |told: &Told<'_>| match (told.connection, naive::head(told.heard)) {
        (_, None) => Said::default(),
        (0, _) => Said {
            bytes: "HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\n\r\n".into(),
            end: End::Open,
        },
        _ => says(OK.repeat(whole(told.heard))),
    };
    for seed in 0..60 {
        let (seen, _) = run(Client::of(&request), &early, seed, |_| {});
        let text = String::from_utf8_lossy(&seen.client);
        assert!(text.starts_with("HTTP/1.1 413 Too Much\r\n") && text.ends_with(OK), "{text}");
        assert_eq!(seen.upstream.len(), 2, "the first one may not have read all of it");
    }
}

#[test]
fn the_rest_of_a_body_that_is_too_long_to_be_dropped_ends_the_connection() {
    let head = "POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 4000000\r\n\r\n";
    let request = [head.as_bytes(), &vec![b'x'; 4_000_000]].concat();
    let early = |told: &Told<'_>| match naive::head(told.heard) {
        None => Said::default(),
        Some(_) => says("HTTP/1.1 413 Too Much\r\nContent-Length: 0\r\n\r\n"),
    };
    let mut sim = Sim::new(Client::of(&request), &early, 5);
    sim.piece = usize::MAX;
    let seen = sim.run(false);
    assert_eq!(seen.closed, Some(Close::Linger));
    assert!(seen.read < 400_000, "{}", seen.read);
}

#[test]
fn a_client_that_waits_for_a_100_gets_it_or_the_answer() {
    let head = "POST /0 HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let request = format!("{head}hello");
    let go = "HTTP/1.1 100 Continue\r\n\r\n";
    let waits = |received: &[u8]| match received.starts_with(go.as_bytes()) {
        true => usize::MAX,
        false => head.len(),
    };
    for seed in 0..40 {
        let willing = |told: &Told<'_>| match (naive::head(told.heard), whole(told.heard)) {
            (None, _) => Said::default(),
            (Some(_), 0) => says(go),
            _ => says(format!("{go}{OK}")),
        };
        let client = Client { may: &waits, ..Client::of(request.as_bytes()) };
        let (seen, _) = run(client, &willing, seed, |_| {});
        assert_eq!(String::from_utf8_lossy(&seen.client), format!("{go}{OK}"));
        assert_eq!(whole(&seen.upstream[0]), 1);

        let unwilling = |told: &Told<'_>| match naive::head(told.heard) {
            None => Said::default(),
            Some(_) => says("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"),
        };
        let client = Client { may: &waits, ..Client::of(request.as_bytes()) };
        let (seen, _) = run(client, &unwilling, seed, |_| {});
        assert_eq!(told(&seen).0, 401);
        assert_eq!(seen.closed, Some(Close::Linger), "whether the body comes nobody knows");
    }
}

#[test]
fn who_is_late_is_told_so() {
    let silent = |_: &Told<'_>| Said::default();
    for seed in 0..20 {
        let (seen, _) = run(Client::of(GET.as_bytes()), &silent, seed, |route| {
            route.retry.tries = 1;
        });
        fault(&seen, 504, "upstream; late");
        let (seen, answers) = run(Client::of(GET.as_bytes()), &silent, seed, |route| {
            route.retry.per_try_timeout = Some(SECOND);
        });
        fault(&seen, 504, "upstream; late");
        assert_eq!(answers, [Some(Answer::GatewayError); 3]);
        let (seen, answers) = run(Client::of(POST.as_bytes()), &silent, seed, |route| {
            route.retry.per_try_timeout = Some(SECOND);
        });
        fault(&seen, 504, "upstream; late");
        assert_eq!(answers.len(), 1, "it may have been acted upon");

        let (seen, _) = run(Client::of(&GET.as_bytes()[..20]), &silent, seed, |_| {});
        fault(&seen, 408, "client; slow");
        let (seen, answers) =
            run(Client::of(&POST.as_bytes()[..POST.len() - 2]), &silent, seed, |_| {});
        fault(&seen, 408, "client; slow");
        assert_eq!(answers, [None], "it says nothing of the backend");
        let (seen, _) = run(Client::of(b""), &silent, seed, |_| {});
        assert_eq!((seen.client.len(), seen.closed), (0, Some(Close::Linger)));
    }
}

#[test]
fn a_client_that_ends_within_its_request_is_told_so_and_the_upstream_is_not_misled() {
    for seed in 0..20 {
        for cut in [3, 20, POST.len() - 1] {
            let client = Client { ends: true, ..Client::of(&POST.as_bytes()[..cut]) };
            let say = |told: &Told<'_>| says(OK.repeat(whole(told.heard)));
            let (seen, answers) = run(client, &say, seed, |_| {});
            fault(&seen, 400, "client; cut-short");
            assert!(seen.upstream.iter().all(|heard| whole(heard) == 0));
            assert!(answers.iter().all(Option::is_none));
        }
    }
}

#[test]
fn bodies_longer_than_the_route_takes_are_refused() {
    let chunked = "POST /0 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    for (seed, request) in (0..20).flat_map(|seed| [(seed, POST), (seed, chunked)]) {
        let say = |told: &Told<'_>| says(OK.repeat(whole(told.heard)));
        let (seen, _) =
            run(Client::of(request.as_bytes()), &say, seed, |route| route.body_bytes = 4);
        fault(&seen, 413, "client; body-too-long");
        assert!(seen.upstream.iter().all(|heard| whole(heard) == 0));
        let (seen, _) =
            run(Client::of(request.as_bytes()), &say, seed, |route| route.body_bytes = 5);
        assert_eq!(told(&seen).0, 200);
    }
}

#[test]
fn the_rules_of_a_route_answer_before_an_upstream_is_asked() {
    let say = |told: &Told<'_>| says(OK.repeat(whole(told.heard)));
    let two = GET.repeat(2);
    let (seen, _) = run(Client::of(two.as_bytes()), &say, 1, |route| {
        route.places = Some(Arc::new(Bulkhead::new(0)));
    });
    fault(&seen, 503, "route; full");
    assert!(seen.upstream.is_empty());
    assert_eq!(String::from_utf8_lossy(&seen.client).matches("HTTP/1.1 503").count(), 2);

    let (seen, _) = run(Client::of(GET.as_bytes()), &say, 1, |route| {
        let breaker = Breaker::new(Settings::hystrix(SECOND)).unwrap();
        breaker.force(Some(Forced::Open));
        route.breaker = Some(breaker);
    });
    fault(&seen, 503, "route; circuit-open");

    // Twenty failures open the circuit of Hystrix' settings.
    let failing = |told: &Told<'_>| {
        says("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".repeat(whole(told.heard)))
    };
    let many = GET.repeat(40);
    let (seen, _) = run(Client::of(many.as_bytes()), &failing, 3, |route| {
        let mut settings = Settings::hystrix(Duration::from_secs(5));
        settings.evaluate = sinew_resilience::breaker::Evaluate::EveryCall;
        route.breaker = Some(Breaker::new(settings).unwrap());
    });
    let text = String::from_utf8_lossy(&seen.client);
    assert_eq!(text.matches("HTTP/1.1 500").count(), 20);
    assert_eq!(text.matches("HTTP/1.1 503").count(), 20);
    assert!(text.contains("retry-after: "), "{text}");
}

#[test]
fn targets_reach_the_upstream_in_the_form_that_servers_want() {
    for (line, onward) in [
        ("GET http://a/x?y", "GET /x?y"),
        ("GET http://a?y", "GET /?y"),
        ("GET http://a", "GET /"),
        ("OPTIONS http://a", "OPTIONS *"),
        ("OPTIONS *", "OPTIONS *"),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        let say = |told: &Told<'_>| says(OK.repeat(whole(told.heard)));
        let (seen, _) = run(Client::of(request.as_bytes()), &say, 1, |_| {});
        let heard = String::from_utf8_lossy(&seen.upstream[0]);
        assert!(heard.starts_with(&format!("{onward} HTTP/1.1\r\nhost: a\r\n")), "{heard}");
    }
}

#[test]
fn retries_are_a_share_of_requests() {
    let many = GET.repeat(60);
    let breaks = |told: &Told<'_>| match whole(told.heard) {
        0 => Said::default(),
        _ => Said { end: End::Ended, ..Said::default() },
    };
    let (seen, _) = run(Client::of(many.as_bytes()), &breaks, 2, |route| {
        let settings = sinew_resilience::retry::BudgetSettings {
            percent: 20,
            minimum_per_second: 0,
            ..Default::default()
        };
        route.budget = sinew_resilience::retry::Budget::new(settings).unwrap();
    });
    assert_eq!(String::from_utf8_lossy(&seen.client).matches("HTTP/1.1 502").count(), 60);
    assert_eq!(seen.upstream.len(), 60 + 12);
}
