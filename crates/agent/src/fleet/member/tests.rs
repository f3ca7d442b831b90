use sinew_model::fleet::{EndpointKey, EndpointStatus, Host, Removal, Snapshot, Tombstone};
use sinew_proto::{self as proto, Catalog, Hello, Reported, bounds};

use super::*;

const WALL: Duration = Duration::from_secs(1_000_000);

fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

fn endpoint(number: u8) -> Endpoint {
    Endpoint {
        address4: Some([10, 111, 3, number].into()),
        address6: None,
        ports: BTreeMap::new(),
        zone: "a".parse().unwrap(),
        weight: 256,
        status: EndpointStatus::Up,
    }
}

fn run(numbers: &[u8]) -> Run {
    (None, numbers.iter().map(|n| (u32::from(*n), endpoint(*n))).collect())
}

fn beginning(known: Option<Known>) -> Beginning {
    Beginning {
        joined: Joined {
            control: vec!["c1:1".to_owned()],
            node: "here".parse().unwrap(),
            zone: "a".parse().unwrap(),
            labels: BTreeMap::new(),
            addresses: Vec::new(),
            placement: false,
            token: None,
            left: false,
        },
        certified: true,
        boot_id: "b".to_owned(),
        capacity: Resources::default(),
        mirror: None,
        known,
        random: Box::new(|| 0.5),
    }
}

/// A member with a clock and a control that says what a test has it say.
struct World {
    member: Member,
    now: Instant,
    connection: Connection,
}

impl World {
    fn new(known: Option<Known>) -> Self {
        let now = Instant::now();
        Self { member: Member::new(now, beginning(known)), now, connection: 0 }
    }

    fn open(&mut self) -> Vec<Step> {
        self.open_in(None).1
    }

    /// Opens a session over a store of that lineage. Answers what it said first.
    fn open_in(&mut self, lineage: Option<(&str, u64)>) -> (Hello, Vec<Step>) {
        self.now = self.now.max(self.member.next_tick().unwrap());
        let steps = self.member.tick(self.now);
        let connects = |step: &Step| match step {
            Step::Connect(connection, _) => Some(*connection),
            _ => None,
        };
        self.connection = steps.iter().find_map(connects).expect("it connects");
        self.member.connected(self.now, self.connection);
        let Some(FromAgent::Hello(hello)) = self.say() else { panic!("no greeting") };
        let lineage =
            lineage.map(|(id, since)| Lineage { id: id.to_owned(), since: Generation(since) });
        let steps = self.hear(&FromControl::Welcome(Welcome {
            epoch: 1,
            session_timeout: Duration::from_secs(5),
            control: "c1".to_owned(),
            wall_clock: WALL,
            instances4: Some("10.111.3.0/24".parse().unwrap()),
            instances6: None,
            lineage,
        }));
        (hello, steps)
    }

    fn say(&mut self) -> Option<FromAgent> {
        self.member.next_message(self.now, WALL)
    }

    fn hear(&mut self, message: &FromControl) -> Vec<Step> {
        self.member.received(self.now, WALL, self.connection, message.encode())
    }

    fn report(&mut self) -> sinew_proto::Report {
        match self.say() {
            Some(FromAgent::Report(report)) => report,
            other => panic!("no report but {other:?}"),
        }
    }
}

/// What is kept of `member`, as the next life reads it.
fn kept(member: &Member) -> Known {
    serde_json::from_str(&serde_json::to_string(member.known()).unwrap()).unwrap()
}

#[test]
fn a_host_is_where_it_connects_from_unless_it_was_given_addresses() {
    let found: [IpAddr; 2] = ["10.0.0.7".parse().unwrap(), "fd64::7".parse().unwrap()];
    for given in [vec![], vec!["fd64::8".parse().unwrap()]] {
        let mut joined = beginning(None);
        joined.joined.addresses = given.clone();
        let now = Instant::now();
        let mut member = Member::new(now, joined);
        let steps = member.tick(now);
        let connection = match &steps[..] {
            [Step::Connect(connection, _), ..] => *connection,
            other => panic!("it connects first: {other:?}"),
        };
        member.is_at(&found);
        member.connected(now, connection);
        let Some(FromAgent::Hello(hello)) = member.next_message(now, WALL) else {
            panic!("it greets first");
        };
        let said: Vec<IpAddr> = [hello.address4.map(IpAddr::V4), hello.address6.map(IpAddr::V6)]
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(said, if given.is_empty() { found.to_vec() } else { given });
    }
}

#[test]
fn what_ended_between_two_lives_is_told_gone_until_control_has_heard() {
    let mut first = World::new(None);
    first.member.runs([(name("web"), run(&[1, 2]))].into());
    first.open();
    assert!(first.member.take_changed().known);
    let mut second = World::new(Some(kept(&first.member)));
    let given: Vec<_> = second.member.known().given().map(|(_, n, at)| (n, at)).collect();
    assert_eq!(given, [1, 2].map(|n| (n, Ipv4Addr::new(10, 111, 3, n as u8))));
    second.member.runs([(name("web"), run(&[2]))].into());
    second.member.take_changed();
    // Nobody has heard that one is gone: a third life would have to say it.
    assert_eq!(kept(&second.member).reported[&name("web")].len(), 2);
    second.open();
    let report = second.report();
    assert!(report.full);
    assert_eq!(report.services[&name("web")].gone, [1].into());
    let (sequence, generation) = (report.sequence, Generation(9));
    second.hear(&FromControl::Reported(Reported { sequence, generation, held: Vec::new() }));
    second.member.take_changed();
    assert_eq!(kept(&second.member).reported[&name("web")].len(), 1);
}

#[test]
fn the_slice_of_a_welcome_is_news_once_and_is_kept() {
    let mut world = World::new(None);
    let news = |steps: &[Step]| {
        steps.iter().filter(|step| matches!(step, Step::News(News::Around(_)))).count()
    };
    let steps = world.open();
    assert_eq!(news(&steps), 1);
    let mut next = World::new(Some(kept(&world.member)));
    let slices = |member: &Member| member.around().fleet.slices;
    assert_eq!(slices(&next.member), slices(&world.member));
    assert_eq!(news(&next.open()), 0);
}

#[test]
fn names_that_were_missed_begin_a_new_session() {
    let mut world = World::new(None);
    world.open();
    let list = |from: Option<u64>, to, added: &[&str]| {
        FromControl::Catalog(Catalog {
            from: from.map(Generation),
            to: Generation(to),
            added: added.iter().map(|text| name(text)).collect(),
            removed: Vec::new(),
        })
    };
    let steps = world.hear(&list(None, 3, &["far"]));
    assert!(matches!(&steps[..], [Step::News(News::Names(names))] if names.len() == 1));
    let steps = world.hear(&list(Some(7), 8, &["other"]));
    assert!(steps.iter().any(|step| matches!(step, Step::Close(_))), "{steps:?}");
    assert!(world.member.session().is_none());
    assert!(world.member.lost().unwrap().contains("changes of names of services were missed"));
    world.open();
    assert!(world.member.session().is_some());
}

#[test]
fn only_names_that_there_are_are_subscribed_to() {
    let mut world = World::new(None);
    world.open();
    world.report();
    world.member.used(world.now, [&name("nobody")]);
    assert_eq!(world.say(), None);
    let all =
        Catalog { from: None, to: Generation(3), added: vec![name("far")], removed: Vec::new() };
    world.hear(&FromControl::Catalog(all));
    world.member.used(world.now, [&name("far")]);
    assert_eq!(world.say(), Some(FromAgent::Subscribe(vec![name("far")])));
}

#[test]
fn r11_what_cannot_be_read_is_refused_and_told() {
    let mut world = World::new(None);
    world.open();
    world.report();
    let names =
        Catalog { from: None, to: Generation(3), added: vec![name("far")], removed: Vec::new() };
    world.hear(&FromControl::Catalog(names));
    world.member.used(world.now, [&name("far")]);
    world.say();
    let mut bad = endpoint(1);
    bad.weight = u32::MAX;
    let key = sinew_model::fleet::EndpointKey { node: "there".parse().unwrap(), instance: 1 };
    let snapshot = Snapshot {
        service: name("far"),
        generation: Generation(4),
        record: None,
        endpoints: [(key, bad)].into(),
        tombstones: BTreeMap::new(),
    };
    let steps = world.hear(&FromControl::Snapshot(snapshot));
    assert!(steps.iter().any(|step| matches!(step, Step::Told(_))), "{steps:?}");
    let Some(FromAgent::Nack { service, generation, reason }) = world.say() else { panic!() };
    assert_eq!((service, generation), (name("far"), Generation(4)));
    assert!(reason.contains("weight") && reason.len() <= bounds::MAX_REASON_BYTES, "{reason}");
    assert_eq!(world.member.refused().len(), 1);
}

#[test]
fn r3_names_in_doubt_are_asked_for_anew_and_go_when_they_are_missing_still() {
    let mut world = World::new(None);
    let all = |to, names: &[&str]| {
        FromControl::Catalog(Catalog {
            from: None,
            to: Generation(to),
            added: names.iter().map(|text| name(text)).collect(),
            removed: Vec::new(),
        })
    };
    world.open();
    world.hear(&all(3, &["a", "b", "c"]));
    let mut left = Vec::new();
    let mut waited = Vec::new();
    for round in 0..3 {
        if round > 0 {
            world.open();
        }
        world.hear(&all(4, &["c"]));
        left.push(world.member.known().names().len());
        let before = world.now;
        while world.member.session().is_some() {
            let Some(at) = world.member.lists_at else { break };
            world.member.heard(at, world.connection);
            world.now = at;
            world.member.tick(at);
        }
        waited.push((world.now - before).as_secs());
    }
    // Two at once are too many for a network of three.
    assert_eq!((left, waited), (vec![3, 2, 1], vec![10, 20, 0]));
    assert_eq!(world.member.lists_at, None);
}

#[test]
fn a_store_that_was_restored_is_told_once_and_its_changes_end_no_session() {
    let mut world = World::new(None);
    let names = |from: Option<u64>, to, names: &[&str]| {
        FromControl::Catalog(Catalog {
            from: from.map(Generation),
            to: Generation(to),
            added: names.iter().map(|text| name(text)).collect(),
            removed: Vec::new(),
        })
    };
    world.open();
    world.hear(&names(None, 50, &["a"]));
    let told = |steps: &[Step]| {
        let backup = |step: &&Step| matches!(step, Step::Told(what) if what.contains("backup"));
        steps.iter().filter(backup).count()
    };
    assert_eq!(told(&world.hear(&names(None, 7, &["a"]))), 1);
    for to in 8..20 {
        let steps = world.hear(&names(Some(to - 1), to, &["b"]));
        assert!(steps.is_empty() && world.member.session().is_some(), "{steps:?}");
    }
}

#[test]
fn r1_r2_over_a_restored_store_all_is_told_anew_and_what_it_lacks_stays_until_that_is_confirmed() {
    let mut world = World::new(None);
    let host = |n: u8| Host {
        zone: "a".parse().unwrap(),
        address4: Some([10, 0, 0, n].into()),
        address6: None,
        proven4: true,
        proven6: false,
        instances4: Some(format!("10.111.{n}.0/24").parse().unwrap()),
        instances6: None,
    };
    let hosts = |to, numbers: &[u8]| {
        let put = numbers.iter().map(|n| (format!("n{n}").parse().unwrap(), host(*n))).collect();
        FromControl::Hosts(proto::Hosts { from: None, to: Generation(to), put, removed: [].into() })
    };
    let names = |to, names: &[&str]| {
        let added = names.iter().map(|text| name(text)).collect();
        FromControl::Catalog(Catalog { from: None, to: Generation(to), added, removed: vec![] })
    };
    let key = |n: u8| EndpointKey { node: format!("n{n}").parse().unwrap(), instance: 1 };
    let web = |to, numbers: &[u8], gone: &[(u8, u64)]| {
        let tombstone =
            |at: u64| Tombstone { generation: Generation(at), removal: Removal::Reported };
        FromControl::Snapshot(Snapshot {
            service: name("web"),
            generation: Generation(to),
            record: None,
            endpoints: numbers.iter().map(|n| (key(*n), endpoint(*n))).collect(),
            tombstones: gone.iter().map(|(n, at)| (key(*n), tombstone(*at))).collect(),
        })
    };
    let there = |world: &World| {
        let remote = world.member.mirror().remote(&name("web"));
        let web = remote.map_or(0, |remote| remote.backends().count());
        (world.member.known().hosts().all().len(), world.member.known().names().len(), web)
    };
    let (first, _) = world.open_in(Some(("old", 3)));
    assert_eq!((first.lineage, first.newest), (None, Generation(0)));
    world.hear(&hosts(90, &[1, 2, 3]));
    world.hear(&names(80, &["web", "db"]));
    world.member.configure(world.now, [name("web")].into());
    world.say();
    world.hear(&web(100, &[1, 2, 3], &[]));
    assert_eq!(there(&world), (3, 2, 3));

    // Another life of the agent knows it still.
    world.member.known.lineage = kept(&world.member).lineage;
    let connection = world.connection;
    world.member.closed(world.now, connection, "a test");
    let (hello, steps) = world.open_in(Some(("new", 70)));
    assert_eq!((hello.lineage.as_deref(), hello.newest), (Some("old"), Generation(100)));
    let told = |it: &Step| matches!(it, Step::Told(what) if what.contains("restored as it was"));
    assert_eq!(steps.iter().filter(|it| told(it)).count(), 1);
    // What is older by number is taken, and what it does not name is not taken away: neither what a
    // tombstone from before names, for its instance may have begun anew since.
    world.hear(&hosts(65, &[1, 2]));
    world.hear(&names(60, &["web"]));
    world.hear(&web(70, &[1], &[(2, 40)]));
    assert_eq!(there(&world), (3, 2, 3));
    assert_eq!(world.member.mirror().doubts().count(), 2);
    assert_eq!(world.member.known().doubted(), (1, 1));
    // What is told from then on is as good as ever.
    world.hear(&web(75, &[1, 3], &[(2, 72)]));
    assert_eq!((there(&world).2, world.member.mirror().doubts().count()), (2, 0));
    // The same once more is nothing new.
    world.member.closed(world.now, world.connection, "a test");
    let (hello, steps) = world.open_in(Some(("new", 70)));
    assert_eq!((hello.lineage.as_deref(), hello.newest), (Some("new"), Generation(75)));
    assert_eq!(hello.known[&name("web")], Generation(75));
    assert!(!steps.iter().any(told));
}

#[test]
fn an_instance_with_an_ipv6_address_alone_is_told_gone_after_a_restart_too() {
    let mut first = World::new(None);
    let six =
        Endpoint { address4: None, address6: Some("fd01::7".parse().unwrap()), ..endpoint(1) };
    first.member.runs([(name("web"), (None, [(1, six)].into()))].into());
    first.open();
    let sequence = first.report().sequence;
    let generation = Generation(9);
    first.hear(&FromControl::Reported(Reported { sequence, generation, held: Vec::new() }));
    first.member.take_changed();
    let mut second = World::new(Some(kept(&first.member)));
    assert_eq!(second.member.known().given().count(), 0, "none of the IPv4 slice");
    second.member.runs(BTreeMap::new());
    second.open();
    assert_eq!(second.report().services[&name("web")].gone, [1].into());
}

#[test]
fn what_cannot_be_read_of_a_service_that_nobody_wants_is_not_counted() {
    let mut world = World::new(None);
    world.open();
    world.report();
    let mut bad = endpoint(1);
    bad.weight = u32::MAX;
    let key = sinew_model::fleet::EndpointKey { node: "there".parse().unwrap(), instance: 1 };
    for number in 0..10 {
        let snapshot = Snapshot {
            service: name(&format!("far-{number}")),
            generation: Generation(4),
            record: None,
            endpoints: [(key.clone(), bad.clone())].into(),
            tombstones: BTreeMap::new(),
        };
        world.hear(&FromControl::Snapshot(snapshot));
    }
    assert_eq!((world.member.refused().len(), world.say()), (0, None));
}

#[test]
fn what_there_was_no_room_for_is_asked_for_when_there_is() {
    let mut world = World::new(None);
    let limits = Limits { endpoints: 3, ..Limits::default() };
    world.member.mirror = Mirror::new("here".parse().unwrap(), limits);
    world.open();
    world.report();
    let added = vec![name("a"), name("b")];
    world.hear(&FromControl::Catalog(Catalog {
        from: None,
        to: Generation(3),
        added,
        removed: Vec::new(),
    }));
    world.member.used(world.now, [&name("a"), &name("b")]);
    world.say();
    let key =
        |instance| sinew_model::fleet::EndpointKey { node: "there".parse().unwrap(), instance };
    let all = |service: &str, count: u32| {
        FromControl::Snapshot(Snapshot {
            service: name(service),
            generation: Generation(4),
            record: None,
            endpoints: (0..count).map(|n| (key(n), endpoint(n as u8))).collect(),
            tombstones: BTreeMap::new(),
        })
    };
    world.hear(&all("a", 2));
    world.hear(&all("b", 2));
    assert!(world.member.refused()[&name("b")].1.contains("it would make 4 endpoints"));
    while world.say().is_some() {}
    let removal = sinew_model::fleet::Removal::Reported;
    let gone = sinew_model::fleet::Tombstone { generation: Generation(5), removal };
    world.hear(&FromControl::Delta(sinew_model::fleet::Delta {
        service: name("a"),
        from: Generation(4),
        to: Generation(5),
        record: None,
        put: BTreeMap::new(),
        removed: [(key(0), gone)].into(),
    }));
    let said: Vec<_> = std::iter::from_fn(|| world.say()).collect();
    assert!(said.contains(&FromAgent::Subscribe(vec![name("b")])), "{said:?}");
    world.hear(&all("b", 2));
    assert!(world.member.refused().is_empty());
}

#[test]
fn r11_what_is_to_be_run_and_cannot_be_read_is_told_as_not_run() {
    let mut world = World::new(None);
    world.open();
    world.report();
    let assignment = sinew_proto::Assignment {
        project: "shop".parse().unwrap(),
        replicas: 0,
        definition: Bytes::new(),
    };
    let (generation, services) = (Generation(7), [(name("web"), assignment)].into());
    let steps = world.hear(&FromControl::Assigned(Assigned { generation, services }));
    assert!(steps.iter().any(|step| matches!(step, Step::Told(_))), "{steps:?}");
    assert!(!steps.iter().any(|step| matches!(step, Step::News(_))), "what runs goes on");
    let Some(FromAgent::Placed(Placed { generation, refused })) = world.say() else { panic!() };
    assert_eq!((generation, refused[0].service.as_str()), (Generation(7), "web"));
    assert!(refused[0].reason.contains("cannot be read: assigned.assignments"), "{refused:?}");
}

#[test]
fn who_has_no_certificate_calls_control_as_soon_as_there_is_one() {
    let now = Instant::now();
    let mut member = Member::new(now, Beginning { certified: false, ..beginning(None) });
    let connects = |steps: Vec<Step>| steps.iter().any(|step| matches!(step, Step::Connect(_, _)));
    assert!(!connects(member.tick(now)));
    let token = sinew_identity::Token::new(
        [1; sinew_identity::token::RANDOM_BYTES],
        sinew_identity::Fingerprint::of(b"root"),
    );
    member.certified(now, token.id.clone());
    assert_eq!(member.next_tick(), Some(now));
    assert!(connects(member.tick(now)));
    assert_eq!(member.joined().token, Some(token.id));
}

#[test]
fn what_a_later_control_says_besides_is_passed_over_and_one_too_far_off_is_told_with_the_remedy() {
    let mut world = World::new(None);
    world.open();
    world.report();
    // Field 99, a message without fields.
    let later = Bytes::from_static(&[0x9a, 0x06, 0x00]);
    let steps = world.member.received(world.now, WALL, world.connection, later);
    assert!(steps.is_empty() && world.member.session().is_some(), "{steps:?}");
    let names =
        Catalog { from: None, to: Generation(3), added: vec![name("far")], removed: Vec::new() };
    world.hear(&FromControl::Catalog(names));
    let why = "the agent is Sinew 0.1.0 and speaks protocol version 1, and this is 3: bring both to \
               versions that are next to each other";
    let steps = world.member.closed(world.now, world.connection, why);
    let told = |step: &Step| matches!(step, Step::Told(what) if what.contains(why));
    assert!(steps.iter().any(told), "{steps:?}");
    assert!(!steps.iter().any(|step| matches!(step, Step::News(_))), "what is known stays");
    assert!(world.member.lost().unwrap().contains("next to each other"));
    assert_eq!(world.member.known().names().len(), 1);
}
