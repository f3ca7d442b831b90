//! Any order of changes, cuts and losses: what control holds in the end is what this host runs and
//! wants to know.

use proptest::prelude::*;

use super::*;

const SERVICES: [&str; 3] = ["orders", "users", "carts"];

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The host runs what the bits say.
    Run(usize, u8),
    Use(usize),
    Configure(u8),
    /// The stream takes one message, and control may answer.
    Say {
        answered: bool,
    },
    Cut,
    Busy,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let service = 0..SERVICES.len();
    let seconds = prop_oneof![4 => 0..4_u64, 1 => 0..4000_u64];
    let step = prop_oneof![
        6 => (service.clone(), any::<u8>()).prop_map(|(s, bits)| Step::Run(s, bits)),
        3 => service.prop_map(Step::Use),
        1 => any::<u8>().prop_map(Step::Configure),
        12 => any::<bool>().prop_map(|answered| Step::Say { answered }),
        2 => Just(Step::Cut),
        1 => Just(Step::Busy),
        4 => seconds.prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..120)
}

/// What control keeps: endpoints for ever, the rest for a session.
#[derive(Default)]
struct Control {
    endpoints: BTreeMap<ServiceName, BTreeMap<u32, Endpoint>>,
    reported: BTreeMap<ServiceName, BTreeSet<u32>>,
    subscribed: BTreeSet<ServiceName>,
    greeted: bool,
    full: bool,
    sequence: u64,
}

impl Control {
    fn begin(&mut self) {
        let (endpoints, sequence) = (std::mem::take(&mut self.endpoints), self.sequence);
        *self = Self { endpoints, sequence, ..Self::default() };
    }

    fn take(&mut self, message: FromAgent) -> Option<FromControl> {
        assert_eq!(self.greeted, !matches!(message, FromAgent::Hello(_)), "greets once and first");
        match message {
            FromAgent::Hello(hello) => {
                self.greeted = true;
                self.subscribed = hello.known.into_keys().collect();
                return Some(FromControl::Welcome(welcome()));
            }
            FromAgent::Report(report) => return Some(self.report(report)),
            FromAgent::Subscribe(services) => self.subscribed.extend(services),
            FromAgent::Unsubscribe(services) => {
                for service in services {
                    self.subscribed.remove(&service);
                }
            }
            FromAgent::Ack { .. } | FromAgent::Nack { .. } | FromAgent::Placed(_) => {}
        }
        None
    }

    fn report(&mut self, report: Report) -> FromControl {
        assert_eq!(report.full, !self.full, "the first of a session is full");
        assert!(report.sequence > self.sequence, "rises, also from session to session");
        (self.full, self.sequence) = (true, report.sequence);
        for (service, told) in report.services {
            assert!(told.gone.iter().all(|n| !told.endpoints.contains_key(n)), "there and gone");
            let held = self.endpoints.entry(service.clone()).or_default();
            let before = self.reported.insert(service, told.endpoints.keys().copied().collect());
            held.retain(|n, _| !told.gone.contains(n));
            held.retain(|n, _| !before.as_ref().is_some_and(|before| before.contains(n)));
            held.extend(told.endpoints);
        }
        let generation = Generation(report.sequence);
        FromControl::Reported(Reported { sequence: report.sequence, generation, held: vec![] })
    }
}

struct World {
    host: Host,
    control: Control,
    runs: BTreeMap<ServiceName, BTreeMap<u32, Endpoint>>,
    used: BTreeMap<ServiceName, Instant>,
    configured: BTreeSet<ServiceName>,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Instant::now();
        let link = link(now, &["c1", "c2"], chances(seed));
        Self {
            host: Host { link, now },
            control: Control::default(),
            runs: BTreeMap::new(),
            used: BTreeMap::new(),
            configured: BTreeSet::new(),
        }
    }

    fn step(&mut self, step: Step) {
        let now = self.host.now;
        match step {
            Step::Run(service, bits) => {
                let service = name(SERVICES[service]);
                let endpoints = endpoints((0..8).filter(|n| bits >> n & 1 == 1));
                self.host.link.report(&service, None, endpoints.clone());
                self.runs.insert(service, endpoints);
            }
            Step::Use(service) => {
                self.host.link.used(now, &name(SERVICES[service]));
                self.used.insert(name(SERVICES[service]), now);
            }
            Step::Configure(bits) => self.configure(bits),
            Step::Say { answered } => _ = self.say(answered),
            Step::Cut => drop(self.host.cut()),
            Step::Busy if self.host.link.is_open() => {
                drop(self.host.hear(FromControl::Busy { retry_after: SECOND }));
            }
            Step::Busy => {}
            Step::Wait(seconds) => self.wait(seconds),
        }
    }

    fn configure(&mut self, bits: u8) {
        let now = self.host.now;
        let of = |(at, service): (usize, &&str)| (bits >> at & 1 == 1).then(|| name(service));
        let services: BTreeSet<_> = SERVICES.iter().enumerate().filter_map(of).collect();
        self.host.link.configure(now, services.clone());
        for service in services.union(&self.configured) {
            self.used.insert(service.clone(), now);
        }
        self.configured = services;
    }

    fn say(&mut self, answered: bool) -> bool {
        let Some(message) = self.host.say() else { return false };
        let answer = self.control.take(message);
        // Without a welcome nothing would ever go on before the time-out.
        let answer = answer.filter(|a| answered || matches!(a, FromControl::Welcome(_)));
        answer.into_iter().for_each(|answer| drop(self.host.hear(answer)));
        true
    }

    fn wait(&mut self, seconds: u64) {
        let until = self.host.now + u32::try_from(seconds).unwrap() * SECOND;
        let mut ticks = 0;
        while let Some(at) = self.host.link.next_tick().filter(|at| *at <= until) {
            self.host.now = self.host.now.max(at);
            self.tick();
            // Sending is what ends a pause.
            if self.host.link.is_open() {
                while self.say(true) {}
            }
            ticks += 1;
            assert!(ticks < 40_000, "ticks without an end");
        }
        self.host.now = until;
    }

    fn tick(&mut self) {
        for output in self.host.link.tick(self.host.now) {
            match output {
                Output::Connect(connection, _) => {
                    self.control.begin();
                    self.host.link.connected(self.host.now, connection);
                }
                Output::Ping(connection) => self.host.link.heard(self.host.now, connection),
                Output::Forget(service) => {
                    let used = self.used.remove(&service).unwrap();
                    assert!(used + 3600 * SECOND <= self.host.now, "{service} is in use");
                    assert!(!self.configured.contains(&service));
                }
                _ => {}
            }
        }
    }

    fn calm_down(&mut self) {
        for _ in 0..20 {
            while self.say(true) {}
            self.wait(2);
        }
        assert!(self.host.link.is_open());
        let own: BTreeMap<_, _> = self.runs.iter().filter(|(_, e)| !e.is_empty()).collect();
        let held: BTreeMap<_, _> =
            self.control.endpoints.iter().filter(|(_, e)| !e.is_empty()).collect();
        assert_eq!(held, own);
        let wanted: BTreeSet<_> = self.used.keys().cloned().collect();
        assert_eq!(self.control.subscribed, wanted);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn control_ends_up_with_what_this_host_runs_and_wants(seed: u64, steps in steps()) {
        let mut world = World::new(seed);
        for step in steps {
            world.step(step);
        }
        world.calm_down();
    }
}
