mod random;
mod scenes;

use std::collections::BTreeSet;

use sinew_model::fleet::{Delta, EndpointStatus, Snapshot};

use sinew_proto::{Held, Report};

use super::*;

const SECOND: Duration = Duration::from_secs(1);
/// Of this host's clock.
const WALL: Duration = Duration::from_secs(1_000_000);

fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

fn endpoint(number: u8) -> Endpoint {
    Endpoint {
        address4: Some([10, 0, 0, number].into()),
        address6: None,
        ports: BTreeMap::new(),
        zone: "a".parse().unwrap(),
        weight: 256,
        status: EndpointStatus::Up,
    }
}

fn endpoints(numbers: impl IntoIterator<Item = u8>) -> BTreeMap<u32, Endpoint> {
    numbers.into_iter().map(|n| (u32::from(n), endpoint(n))).collect()
}

fn welcome() -> Welcome {
    let session_timeout = 6 * SECOND;
    Welcome {
        epoch: 1,
        session_timeout,
        control: "c1".to_owned(),
        wall_clock: WALL,
        instances4: None,
        instances6: None,
        lineage: None,
    }
}

fn snapshot(service: &str) -> FromControl {
    FromControl::Snapshot(Snapshot {
        service: name(service),
        generation: Generation(7),
        record: None,
        endpoints: BTreeMap::new(),
        tombstones: BTreeMap::new(),
    })
}

/// Pseudo-random chances, the same each time: SplitMix64.
fn chances(seed: u64) -> Box<dyn FnMut() -> f64 + Send> {
    let mut state = seed << 32;
    Box::new(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from((mixed >> 33) as u32) / f64::from(1_u32 << 31)
    })
}

fn link(now: Instant, addresses: &[&str], random: Box<dyn FnMut() -> f64 + Send>) -> Link {
    let identity = Identity {
        node: "here".parse().unwrap(),
        zone: "a".parse().unwrap(),
        labels: BTreeMap::new(),
        version: "0.1.0".to_owned(),
        boot_id: "b".to_owned(),
        address4: None,
        address6: None,
        capacity: Resources::default(),
    };
    let addresses = addresses.iter().map(ToString::to_string).collect();
    Link::new(now, identity, Settings::new(addresses), random, [])
}

/// A link with a clock.
struct Host {
    link: Link,
    now: Instant,
}

impl Host {
    fn new() -> Self {
        let now = Instant::now();
        Self { link: link(now, &["c1", "c2", "c3"], Box::new(|| 0.5)), now }
    }

    fn open() -> Self {
        let mut host = Self::new();
        host.connect();
        host.greet();
        assert!(host.link.is_open());
        assert!(matches!(host.say(), Some(FromAgent::Report(Report { full: true, .. }))));
        host
    }

    /// Lets the time come at which something is due.
    fn next(&mut self) -> Vec<Output> {
        self.now = self.now.max(self.link.next_tick().unwrap());
        self.link.tick(self.now)
    }

    fn connect(&mut self) -> String {
        for _ in 0..3 {
            if let Some(Output::Connect(connection, address)) = self.next().pop() {
                self.link.connected(self.now, connection);
                return address;
            }
        }
        panic!("it does not connect");
    }

    fn greet(&mut self) -> Hello {
        let Some(FromAgent::Hello(hello)) = self.say() else { panic!("no greeting") };
        self.hear(FromControl::Welcome(welcome()));
        hello
    }

    fn say(&mut self) -> Option<FromAgent> {
        self.link.next_message(self.now, WALL)
    }

    fn hear(&mut self, message: FromControl) -> Vec<Output> {
        self.link.received(self.now, WALL, self.link.connection, message)
    }

    /// Time goes on, and control answers.
    fn pass(&mut self, seconds: u32) {
        self.now += seconds * SECOND;
        self.link.heard(self.now, self.link.connection);
    }

    fn cut(&mut self) -> Vec<Output> {
        self.link.closed(self.now, self.link.connection, "reset by peer")
    }

    fn reported(&mut self) -> Option<Report> {
        match self.say()? {
            FromAgent::Report(report) => Some(report),
            other => panic!("{other:?}"),
        }
    }
}
