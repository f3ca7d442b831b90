//! The way to control: which replica to try when, what to say there, and when to give it up.
//!
//! There is no queue. What is to be said is kept as what differs from what the other side was told,
//! so the newest state is all that is ever sent, and a slow stream costs no memory. Whoever runs the
//! link does what [`Output`] says, and asks for [`Link::next_message`] when the stream takes one.

mod held;
mod notice;
mod outbox;
mod reports;
mod route;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use sinew_model::{
    NodeName, ServiceName, ZoneName,
    fleet::{Endpoint, Generation, Resources, ServiceRecord},
};
use sinew_proto::{FromAgent, FromControl, Hello, PROTOCOL, Placed, Reported, Welcome};

use super::mirror::Answer;
use held::Refusals;
use outbox::Outbox;
use route::Route;

pub use notice::Notice;
pub use route::BackOff;

/// Signs of life in the time after which a silent side is taken for dead.
const BEATS: u32 = 3;

/// Who this host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub node: NodeName,
    /// Where it is.
    pub zone: ZoneName,
    /// Words that placement goes by.
    pub labels: BTreeMap<String, String>,
    /// Of Sinew.
    pub version: String,
    /// Another one after each boot of the host.
    pub boot_id: String,
    /// Its own address, which leads to its instances; `None`: that of its connection to control.
    pub address4: Option<Ipv4Addr>,
    /// The same over IPv6.
    pub address6: Option<Ipv6Addr>,
    /// What it has to give.
    pub capacity: Resources,
}

/// What bounds the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Control replicas; any will do.
    pub addresses: Vec<String>,
    /// Between attempts.
    pub back_off: BackOff,
    /// For a connection, and for the answer to the greeting.
    pub open_timeout: Duration,
    /// A service that nobody looked up for so long is given up.
    pub unused_after: Duration,
    /// Clocks that differ by more are told.
    pub clock_skew: Duration,
}

impl Settings {
    /// The usual bounds.
    #[must_use]
    pub fn new(addresses: Vec<String>) -> Self {
        Self {
            addresses,
            back_off: BackOff { base: Duration::from_millis(200), max: Duration::from_secs(5) },
            open_timeout: Duration::from_secs(5),
            unused_after: Duration::from_secs(3600),
            clock_skew: Duration::from_secs(1),
        }
    }
}

/// Which connection: what is heard of an earlier one is of no meaning.
pub type Connection = u64;

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect, then tell [`Link::connected`] or [`Link::closed`].
    Connect(Connection, String),
    /// Drop the connection; nothing of it is told any more.
    Close(Connection),
    /// Ask for a sign of life; its answer is told as [`Link::heard`].
    Ping(Connection),
    /// Hand it to the mirror and tell [`Link::answered`], or take what it says of names, hosts,
    /// zones or what this host is to run.
    Apply(FromControl),
    /// Close what is connected to that host.
    Dead(NodeName),
    /// The session is open.
    Open(Welcome),
    /// Let the mirror forget it.
    Forget(ServiceName),
    /// Somebody should know.
    Notice(Notice),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Waiting { until: Instant },
    Connecting { until: Instant },
    Greeting { until: Instant, greeted: Option<Instant> },
    Open { since: Instant, heard: Instant, timeout: Duration, beat_at: Instant },
}

/// The state of the link.
pub struct Link {
    identity: Identity,
    settings: Settings,
    route: Route,
    phase: Phase,
    connection: Connection,
    outbox: Outbox,
    held: Refusals,
    /// In which lineage of the store what is known was told, and the newest of it.
    told: (Option<String>, Generation),
}

/// The first address of each family.
pub(super) fn by_family(addresses: &[IpAddr]) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
    let four = |address: &IpAddr| match address {
        IpAddr::V4(four) => Some(*four),
        IpAddr::V6(_) => None,
    };
    let six = |address: &IpAddr| match address {
        IpAddr::V6(six) => Some(*six),
        IpAddr::V4(_) => None,
    };
    (addresses.iter().find_map(four), addresses.iter().find_map(six))
}

impl Link {
    /// Connects at `now`. `random` answers from 0 up to 1; `known` is what the mirror holds.
    pub fn new(
        now: Instant,
        identity: Identity,
        settings: Settings,
        random: Box<dyn FnMut() -> f64 + Send>,
        known: impl IntoIterator<Item = (ServiceName, Generation)>,
    ) -> Self {
        let route = Route::new(settings.addresses.clone(), settings.back_off, random);
        let mut outbox = Outbox::default();
        for (service, generation) in known {
            outbox.subscriptions.found(now, service, generation);
        }
        let phase = Phase::Waiting { until: now };
        let held = Refusals::default();
        let told = (None, Generation(0));
        Self { identity, settings, route, phase, connection: 0, outbox, held, told }
    }

    /// Whether a session is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open { .. })
    }

    /// Control is at these addresses; a host that had none connects now.
    pub fn find(&mut self, now: Instant, addresses: Vec<String>) {
        self.route.set(addresses);
        if let Phase::Waiting { until } = &mut self.phase {
            *until = now;
        }
    }

    /// The host's own addresses are these, from the next greeting on.
    pub fn is_at(&mut self, addresses: &[IpAddr]) {
        (self.identity.address4, self.identity.address6) = by_family(addresses);
    }

    /// What is known was told in that lineage of the store, up to there: for the next greeting.
    pub fn was_told(&mut self, lineage: Option<String>, newest: Generation) {
        self.told = (lineage, newest);
    }

    /// What is known of services was told in another lineage: as of no generation in this one.
    pub fn begin_lineage(&mut self) {
        self.outbox.subscriptions.forget_generations();
    }

    /// The connection is there.
    pub fn connected(&mut self, now: Instant, connection: Connection) {
        if connection == self.connection && matches!(self.phase, Phase::Connecting { .. }) {
            let until = now + self.settings.open_timeout;
            self.phase = Phase::Greeting { until, greeted: None };
        }
    }

    /// It could not be made, or it ended.
    pub fn closed(&mut self, now: Instant, connection: Connection, why: &str) -> Vec<Output> {
        if connection != self.connection || matches!(self.phase, Phase::Waiting { .. }) {
            return Vec::new();
        }
        self.give_up(now, why.to_owned())
    }

    /// Anything came.
    pub fn heard(&mut self, now: Instant, connection: Connection) {
        if let Phase::Open { heard, .. } = &mut self.phase
            && connection == self.connection
        {
            *heard = now;
        }
    }

    /// A message came; `wall_clock` is this host's, since 1970.
    pub fn received(
        &mut self,
        now: Instant,
        wall_clock: Duration,
        connection: Connection,
        message: FromControl,
    ) -> Vec<Output> {
        self.heard(now, connection);
        if connection != self.connection {
            return Vec::new();
        }
        match (&self.phase, message) {
            (Phase::Greeting { greeted: Some(at), .. }, FromControl::Welcome(welcome)) => {
                let took = now.saturating_duration_since(*at);
                self.open(now, wall_clock, took, welcome)
            }
            (Phase::Greeting { .. }, FromControl::Busy { retry_after }) => {
                self.leave(now, retry_after, "it is busy".to_owned())
            }
            (
                Phase::Greeting { .. } | Phase::Open { .. },
                FromControl::Goodbye { reason, reconnect_after },
            ) => self.leave(now, reconnect_after, reason),
            (Phase::Open { .. }, message) => self.take(now, message),
            _ => Vec::new(),
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) -> Vec<Output> {
        let mut outputs: Vec<_> = self
            .outbox
            .subscriptions
            .expire(now, self.settings.unused_after)
            .into_iter()
            .map(Output::Forget)
            .collect();
        if self.is_open() && self.held.is_due(now) {
            self.outbox.reports.begin();
        }
        match &mut self.phase {
            Phase::Waiting { until } if *until <= now => outputs.extend(self.connect(now)),
            Phase::Connecting { until } | Phase::Greeting { until, .. } if *until <= now => {
                outputs.extend(self.break_off(now, "it does not answer".to_owned()));
            }
            Phase::Open { heard, timeout, .. } if *heard + *timeout <= now => {
                let why = format!("nothing was heard for {timeout:?}");
                outputs.extend(self.break_off(now, why));
            }
            Phase::Open { beat_at, timeout, .. } if *beat_at <= now => {
                *beat_at = now + *timeout / BEATS;
                outputs.push(Output::Ping(self.connection));
            }
            _ => {}
        }
        outputs
    }

    /// When [`tick`](Self::tick) and then [`next_message`](Self::next_message) are wanted.
    #[must_use]
    pub fn next_tick(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::Waiting { until } | Phase::Connecting { until } => *until,
            Phase::Greeting { until, .. } => *until,
            Phase::Open { heard, timeout, beat_at, .. } => (*heard + *timeout).min(*beat_at),
        };
        let subscriptions = &self.outbox.subscriptions;
        let unused = subscriptions.next_expiry(self.settings.unused_after);
        let paused = subscriptions.paused().filter(|_| self.is_open());
        let held = self.held.due().filter(|_| self.is_open());
        [unused, paused, held, Some(phase)].into_iter().flatten().min()
    }

    /// What to send next on the connection that is there; `None`: nothing now.
    pub fn next_message(&mut self, now: Instant, wall_clock: Duration) -> Option<FromAgent> {
        match &mut self.phase {
            Phase::Greeting { greeted: greeted @ None, .. } => {
                *greeted = Some(now);
                // What changes from here on is told when the session is open.
                self.outbox.begin();
                self.held.begin();
                Some(FromAgent::Hello(self.hello(wall_clock)))
            }
            Phase::Open { .. } => self.outbox.next(now),
            _ => None,
        }
    }

    /// Somebody on this host looked the service up.
    pub fn used(&mut self, now: Instant, service: &ServiceName) {
        self.outbox.subscriptions.used(now, service);
    }

    /// Services that are subscribed to whether they are used or not.
    pub fn configure(&mut self, now: Instant, services: impl IntoIterator<Item = ServiceName>) {
        self.outbox.subscriptions.configure(now, services.into_iter().collect());
    }

    /// Whether control has all that this host reports.
    #[must_use]
    pub fn has_reported(&self) -> bool {
        self.is_open() && self.outbox.reports.are_answered()
    }

    /// Whether the service is subscribed to.
    #[must_use]
    pub fn wants(&self, service: &ServiceName) -> bool {
        self.outbox.subscriptions.has(service)
    }

    /// What control did not take of what was reported, and why not.
    #[must_use]
    pub fn held(&self) -> &BTreeMap<ServiceName, String> {
        self.held.reasons()
    }

    /// A whole snapshot of the service is wanted: it is given up and subscribed to again.
    pub fn ask(&mut self, service: &ServiceName) {
        self.outbox.subscriptions.ask(service);
    }

    /// What the mirror said of a message.
    pub fn answered(&mut self, service: &ServiceName, answer: Answer) {
        self.outbox.answered(service, answer);
    }

    /// What became of what this host is to run.
    pub fn placed(&mut self, placed: Placed) {
        self.outbox.placed = Some(placed);
    }

    /// What this host runs of a service now; nothing when `endpoints` is empty.
    pub fn report(
        &mut self,
        service: &ServiceName,
        record: Option<ServiceRecord>,
        endpoints: BTreeMap<u32, Endpoint>,
    ) {
        self.outbox.reports.set(service, record, endpoints);
    }

    /// An earlier life of this agent reported these instances; to be told once what runs now is
    /// reported.
    pub fn ran(&mut self, service: &ServiceName, instances: impl Iterator<Item = u32>) {
        self.outbox.reports.ran(service, instances);
    }

    /// Whether control has still to be told that the instance is gone.
    #[must_use]
    pub fn owes(&self, service: &ServiceName, instance: u32) -> bool {
        self.outbox.reports.owes(service, instance)
    }

    fn hello(&self, wall_clock: Duration) -> Hello {
        let Identity { node, zone, labels, version, boot_id, address4, address6, capacity } =
            self.identity.clone();
        let known = self.outbox.subscriptions.known();
        let (lineage, newest) = self.told.clone();
        Hello {
            node,
            zone,
            labels,
            version,
            protocol: PROTOCOL,
            boot_id,
            wall_clock,
            known,
            address4,
            address6,
            capacity,
            lineage,
            newest,
        }
    }

    fn connect(&mut self, now: Instant) -> Option<Output> {
        let Some(address) = self.route.next() else {
            // Nothing to connect to: look again when somebody names an address.
            self.phase = Phase::Waiting { until: now + self.settings.back_off.max };
            return None;
        };
        self.connection += 1;
        self.phase = Phase::Connecting { until: now + self.settings.open_timeout };
        Some(Output::Connect(self.connection, address))
    }

    fn open(
        &mut self,
        now: Instant,
        wall_clock: Duration,
        took: Duration,
        welcome: Welcome,
    ) -> Vec<Output> {
        let timeout = welcome.session_timeout;
        let beat_at = now + timeout / BEATS;
        self.phase = Phase::Open { since: now, heard: now, timeout, beat_at };
        let skew = Notice::clock_skew(wall_clock, took, &welcome, self.settings.clock_skew);
        skew.map(Output::Notice).into_iter().chain([Output::Open(welcome)]).collect()
    }

    fn take(&mut self, now: Instant, message: FromControl) -> Vec<Output> {
        let subscriptions = &mut self.outbox.subscriptions;
        match message {
            FromControl::Snapshot(ref snapshot) if !subscriptions.has(&snapshot.service) => vec![],
            FromControl::Delta(ref delta) if !subscriptions.has(&delta.service) => vec![],
            FromControl::Snapshot(_)
            | FromControl::Delta(_)
            | FromControl::Catalog(_)
            | FromControl::Hosts(_)
            | FromControl::Zones(_)
            | FromControl::Assigned(_) => {
                vec![Output::Apply(message)]
            }
            FromControl::Busy { retry_after } => {
                subscriptions.pause(self.route.spread(now, retry_after));
                vec![]
            }
            FromControl::Dead { node } => vec![Output::Dead(node)],
            FromControl::Reported(Reported { sequence, held, .. }) => {
                self.outbox.reports.done(sequence);
                let told = |(service, reason)| Output::Notice(Notice::Held { service, reason });
                self.held.take(now, held).into_iter().map(told).collect()
            }
            // Spoken once, and handled where it is.
            FromControl::Welcome(_) | FromControl::Goodbye { .. } => vec![],
        }
    }

    fn break_off(&mut self, now: Instant, why: String) -> Vec<Output> {
        let mut outputs = vec![Output::Close(self.connection)];
        outputs.extend(self.give_up(now, why));
        outputs
    }

    /// Tries the next one after a pause that grows from failure to failure.
    fn give_up(&mut self, now: Instant, why: String) -> Vec<Output> {
        let lasted = match self.phase {
            Phase::Open { since, .. } => now.saturating_duration_since(since),
            _ => Duration::ZERO,
        };
        let until = self.route.failed(now, lasted);
        self.lost(until, why)
    }

    /// Goes elsewhere when control says so.
    fn leave(&mut self, now: Instant, after: Duration, why: String) -> Vec<Output> {
        let mut outputs = vec![Output::Close(self.connection)];
        let until = self.route.spread(now, after);
        outputs.extend(self.lost(until, why));
        outputs
    }

    fn lost(&mut self, until: Instant, why: String) -> Vec<Output> {
        self.phase = Phase::Waiting { until };
        let address = self.route.current().to_owned();
        vec![Output::Notice(Notice::Lost { address, why })]
    }
}
