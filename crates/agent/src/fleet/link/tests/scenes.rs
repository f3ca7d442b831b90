//! Single scenes.

use super::*;

#[test]
fn r13_replicas_are_tried_in_an_order_of_chance_each_once() {
    let names = ["c1", "c2", "c3", "c4"];
    let firsts: BTreeSet<_> = (0..64)
        .map(|seed| {
            let now = Instant::now();
            let mut host = Host { link: link(now, &names, chances(seed)), now };
            let mut tried = Vec::new();
            for _ in 0..4 {
                tried.push(host.connect());
                host.cut();
            }
            let first = tried[0].clone();
            tried.sort();
            assert_eq!(tried, names);
            first
        })
        .collect();
    assert_eq!(firsts.len(), 4, "each is the first of some");
}

#[test]
fn r13_pauses_are_of_chance_and_grow_to_a_bound() {
    let mut longest = [Duration::ZERO; 8];
    let mut shortest = [Duration::MAX; 8];
    for seed in 0..200 {
        let now = Instant::now();
        let mut host = Host { link: link(now, &["c1"], chances(seed)), now };
        for (longest, shortest) in longest.iter_mut().zip(&mut shortest) {
            host.connect();
            host.cut();
            let pause = host.link.next_tick().unwrap() - host.now;
            *longest = pause.max(*longest);
            *shortest = pause.min(*shortest);
        }
    }
    let bounds = [200, 400, 800, 1600, 3200, 5000, 5000, 5000].map(Duration::from_millis);
    for (at, bound) in bounds.into_iter().enumerate() {
        assert!(longest[at] <= bound && longest[at] > bound * 9 / 10, "{at}: {:?}", longest[at]);
        assert!(shortest[at] < bound / 10, "{at}: {:?}", shortest[at]);
    }
}

#[test]
fn r13_a_session_that_lasted_begins_the_pauses_anew() {
    let mut host = Host::new();
    for _ in 0..5 {
        host.connect();
        host.greet();
        host.cut();
    }
    assert_eq!(host.link.next_tick(), Some(host.now + Duration::from_millis(1600)), "all short");
    host.connect();
    host.greet();
    host.now += 5 * SECOND;
    host.cut();
    assert_eq!(host.link.next_tick(), Some(host.now + Duration::from_millis(100)));
}

#[test]
fn r13_a_busy_control_is_asked_again_when_it_said() {
    let mut host = Host::open();
    host.link.used(host.now, &name("orders"));
    assert_eq!(host.say(), Some(FromAgent::Subscribe(vec![name("orders")])));
    host.hear(FromControl::Busy { retry_after: SECOND });
    assert_eq!(host.say(), None);
    host.now += SECOND;
    assert_eq!(host.say(), None, "and not at the very moment that others were told too");
    host.now = host.link.next_tick().unwrap();
    assert_eq!(host.say(), Some(FromAgent::Subscribe(vec![name("orders")])));
    assert_eq!(host.say(), None);
}

#[test]
fn who_says_goodbye_is_left_for_the_next_one_without_waiting() {
    let mut host = Host::open();
    let connection = host.link.connection;
    let left = host.hear(FromControl::Goodbye {
        reason: "shutting down".to_owned(),
        reconnect_after: Duration::ZERO,
    });
    assert_eq!(left[0], Output::Close(connection));
    let Output::Notice(notice) = &left[1] else { panic!("{left:?}") };
    assert!(notice.to_string().ends_with(": shutting down; what is known stays in use"));
    assert_eq!(host.link.next_tick(), Some(host.now + Duration::from_millis(100)));
    host.connect();
    assert!(matches!(host.say(), Some(FromAgent::Hello(_))));
}

#[test]
fn a_silent_control_is_given_up_and_one_that_answers_is_not() {
    let mut host = Host::open();
    let connection = host.link.connection;
    for _ in 0..10 {
        assert_eq!(host.next(), [Output::Ping(connection)]);
        host.link.heard(host.now, connection);
    }
    let since = host.now;
    assert_eq!(host.next(), [Output::Ping(connection)]);
    assert_eq!(host.next(), [Output::Ping(connection)]);
    let gone = host.next();
    assert_eq!(gone[0], Output::Close(connection));
    assert_eq!(host.now - since, 6 * SECOND);
    assert!(!host.link.is_open());
    host.hear(snapshot("orders"));
    assert!(!host.link.is_open(), "what still comes of it is of no meaning");
}

#[test]
fn one_that_never_answers_the_greeting_is_given_up() {
    let mut host = Host::new();
    host.connect();
    host.say();
    let gone = host.next();
    assert!(matches!(gone[..], [Output::Close(1), Output::Notice(Notice::Lost { .. })]));
    host.link.connected(host.now, 1);
    assert_eq!(host.say(), None, "it is too late");
}

#[test]
fn clocks_that_differ_are_told_with_by_how_much() {
    for (theirs, took, told) in [
        (WALL + 90 * SECOND, 0, Some("this host's clock is 90s behind that of control c1")),
        (WALL - 90 * SECOND, 0, Some("this host's clock is 90s ahead of that of control c1")),
        (WALL - 3 * SECOND, 3, None),
        (WALL + SECOND, 0, None),
    ] {
        let mut host = Host::new();
        host.connect();
        host.say();
        host.now += took * SECOND;
        let outputs = host.hear(FromControl::Welcome(Welcome { wall_clock: theirs, ..welcome() }));
        let notices: Vec<_> = outputs
            .iter()
            .filter_map(|output| match output {
                Output::Notice(notice) => Some(notice.to_string()),
                _ => None,
            })
            .collect();
        assert_eq!(notices.len(), usize::from(told.is_some()), "{notices:?}");
        assert!(notices.iter().zip(told).all(|(notice, told)| notice.starts_with(told)));
    }
}

#[test]
fn only_the_newest_state_of_what_changed_is_reported() {
    let mut host = Host::open();
    let (orders, users) = (name("orders"), name("users"));
    for last in 1..=9 {
        host.link.report(&orders, None, endpoints(1..=last));
    }
    host.link.report(&users, None, endpoints([1]));
    let report = host.reported().unwrap();
    assert!(!report.full);
    assert_eq!(report.services[&orders].endpoints, endpoints(1..=9));
    assert_eq!(report.services.len(), 2);
    assert_eq!(host.say(), None);
    host.link.report(&users, None, endpoints([1]));
    assert_eq!(host.say(), None, "nothing changed");
    host.link.report(&users, None, endpoints([2]));
    let report = host.reported().unwrap();
    assert_eq!(report.services.keys().collect::<Vec<_>>(), [&users]);
    assert_eq!(report.services[&users].gone, [1].into());
    host.cut();
    host.connect();
    host.greet();
    let report = host.reported().unwrap();
    assert!(report.full);
    assert_eq!(report.services[&orders].endpoints, endpoints(1..=9));
    assert_eq!(report.services[&users].gone, [1].into(), "nobody said that it is in the store");
    let sequence = report.sequence;
    host.hear(FromControl::Reported(Reported {
        sequence,
        generation: Generation(9),
        held: vec![],
    }));
    host.cut();
    host.connect();
    host.greet();
    assert_eq!(host.reported().unwrap().services[&users].gone, [].into());
}

#[test]
fn what_control_did_not_take_is_told() {
    let mut host = Host::open();
    let held = Held { service: name("orders"), reason: "its ports differ".to_owned() };
    let generation = Generation(9);
    let told =
        host.hear(FromControl::Reported(Reported { sequence: 1, generation, held: vec![held] }));
    let [Output::Notice(notice)] = &told[..] else { panic!("{told:?}") };
    let text = "control did not take all that was reported of orders: its ports differ";
    assert_eq!(notice.to_string(), text);
}

#[test]
fn what_control_did_not_take_is_reported_again_more_and_more_rarely() {
    let mut host = Host::open();
    host.link.report(&name("orders"), None, endpoints([1]));
    let mut waited = Vec::new();
    let mut report = host.reported().unwrap();
    for _ in 0..9 {
        let held = vec![Held { service: name("orders"), reason: "there is no room".to_owned() }];
        let (sequence, generation) = (report.sequence, Generation(9));
        let told = host.hear(FromControl::Reported(Reported { sequence, generation, held }));
        assert_eq!(told.len(), usize::from(waited.is_empty()), "the same is told once");
        let before = host.now;
        let due = |host: &mut Host| {
            host.next();
            host.pass(0);
            host.reported()
        };
        // Pings come more often.
        report = (0..1000).find_map(|_| due(&mut host)).expect("it is reported again");
        assert!(report.full && report.services.contains_key(&name("orders")));
        waited.push((host.now - before).as_secs());
    }
    assert_eq!(waited, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
    let (sequence, generation, held) = (report.sequence, Generation(9), Vec::new());
    host.hear(FromControl::Reported(Reported { sequence, generation, held }));
    assert!(host.link.held().is_empty());
    host.pass(601);
    host.next();
    assert_eq!(host.say(), None);
}

#[test]
fn services_are_subscribed_to_by_use_and_given_up_when_unused() {
    let mut host = Host::open();
    let (orders, users) = (name("orders"), name("users"));
    assert_eq!(host.hear(snapshot("orders")), [], "nobody asked for it");
    host.link.used(host.now, &orders);
    host.link.configure(host.now, [users.clone()]);
    assert_eq!(host.say(), Some(FromAgent::Subscribe(vec![orders.clone(), users.clone()])));
    assert_eq!(host.hear(snapshot("orders")), [Output::Apply(snapshot("orders"))]);
    host.link.answered(&orders, Answer::Ack { generation: Generation(7) });
    let ack = FromAgent::Ack { service: orders.clone(), generation: Generation(7) };
    assert_eq!(host.say(), Some(ack));
    host.pass(3000);
    host.link.used(host.now, &orders);
    host.pass(3000);
    assert!(!host.link.tick(host.now).contains(&Output::Forget(orders.clone())));
    host.pass(600);
    assert!(host.link.tick(host.now).contains(&Output::Forget(orders.clone())));
    assert_eq!(host.say(), Some(FromAgent::Unsubscribe(vec![orders.clone()])));
    assert_eq!(host.hear(snapshot("orders")), [], "it was under way");
    host.cut();
    host.connect();
    assert_eq!(host.greet().known, [(users, Generation(0))].into());
}

#[test]
fn a_service_that_is_used_again_before_control_heard_that_it_was_not_is_told_whole() {
    let mut host = Host::open();
    let orders = name("orders");
    host.link.used(host.now, &orders);
    host.say();
    host.link.answered(&orders, Answer::Ack { generation: Generation(7) });
    host.say();
    host.pass(3600);
    assert!(host.link.tick(host.now).contains(&Output::Forget(orders.clone())));
    host.link.used(host.now, &orders);
    assert_eq!(host.say(), Some(FromAgent::Unsubscribe(vec![orders.clone()])));
    assert_eq!(host.say(), Some(FromAgent::Subscribe(vec![orders])));
}

#[test]
fn the_greeting_tells_what_is_known_and_what_changes_meanwhile_is_told_after_it() {
    let now = Instant::now();
    let mut host = Host::new();
    let identity = host.link.identity.clone();
    let settings = Settings::new(vec!["c1".to_owned()]);
    let known = [(name("orders"), Generation(5))];
    host.link = Link::new(now, identity, settings, Box::new(|| 0.5), known);
    host.connect();
    host.link.used(host.now, &name("early"));
    let Some(FromAgent::Hello(hello)) = host.say() else { panic!("no greeting") };
    assert_eq!(hello.protocol, PROTOCOL);
    let known = [(name("orders"), Generation(5)), (name("early"), Generation(0))];
    assert_eq!(hello.known, known.into());
    host.link.used(host.now, &name("late"));
    assert_eq!(host.say(), None, "there is no session yet");
    host.hear(FromControl::Welcome(welcome()));
    assert!(host.reported().unwrap().full);
    assert_eq!(host.say(), Some(FromAgent::Subscribe(vec![name("late")])));
}

#[test]
fn r11_a_refusal_is_told_with_its_reason() {
    let mut host = Host::open();
    host.link.used(host.now, &name("orders"));
    host.say();
    let reason = crate::fleet::mirror::Refused::Gap { from: Generation(3), known: Generation(5) };
    host.link.answered(&name("orders"), Answer::Nack { generation: Generation(4), reason });
    let reason = "it changes what was known at generation 3, and here that is 5".to_owned();
    let nack = FromAgent::Nack { service: name("orders"), generation: Generation(4), reason };
    assert_eq!(host.say(), Some(nack));
    let again = FromAgent::Unsubscribe(vec![name("orders")]);
    assert_eq!(host.say(), Some(again), "control would go on from what it told");
    assert_eq!(host.say(), Some(FromAgent::Subscribe(vec![name("orders")])));
    let known = Generation(5);
    let reason = crate::fleet::mirror::Refused::Older { told: Generation(4), known };
    host.link.answered(&name("orders"), Answer::Nack { generation: Generation(4), reason });
    assert!(matches!(host.say(), Some(FromAgent::Nack { .. })));
    assert_eq!(host.say(), None, "the same would come again");
}

#[test]
fn messages_for_the_mirror_and_word_of_dead_hosts_are_passed_on() {
    let mut host = Host::open();
    host.link.used(host.now, &name("orders"));
    let delta = FromControl::Delta(Delta {
        service: name("orders"),
        from: Generation(1),
        to: Generation(2),
        record: None,
        put: BTreeMap::new(),
        removed: BTreeMap::new(),
    });
    assert_eq!(host.hear(delta.clone()), [Output::Apply(delta)]);
    let node: NodeName = "there".parse().unwrap();
    assert_eq!(host.hear(FromControl::Dead { node: node.clone() }), [Output::Dead(node)]);
    let earlier = host.link.connection - 1;
    let late = host.link.received(host.now, WALL, earlier, snapshot("orders"));
    assert_eq!(late, [], "of another connection");
}
