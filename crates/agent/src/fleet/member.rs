//! This host as a member of a network of many: what it knows of the others, and what it says. No IO:
//! time and randomness enter as arguments, and what is to be done comes out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sinew_datapath as datapath;
use sinew_identity::token::TokenId;
use sinew_model::{
    NodeName, ServiceName,
    fleet::{Endpoint, Generation, Network, Resources, ServiceRecord},
};
use sinew_proto::{
    Assigned, DecodeError, Error, FromAgent, FromControl, Held, Lineage, Placed, Subject, Welcome,
};

use super::{
    hosts::Hosts,
    joined::Joined,
    last_good::Kept,
    link::{Connection, Identity, Link, Output, Settings, by_family},
    list::Taken,
    mirror::{Answer, Limits, Mirror, Refused, Saved},
    names::Names,
    news::{Around, News, Remote, covering, peer},
    placed,
};

/// A service that nobody looked up or called for so long is given up. It is long because programs
/// remember where a name led (Java above all), and what is given up refuses them.
const UNUSED: Duration = Duration::from_secs(7 * 24 * 3600);

/// From one question for all hosts and names to the next, as long as some are in doubt, at most.
const LONGEST_DOUBT: Duration = Duration::from_secs(3600);

/// What the host runs of a service.
pub(crate) type Run = (Option<ServiceRecord>, BTreeMap<u32, Endpoint>);

/// What there is to do, in this order.
#[derive(Debug)]
pub(crate) enum Step {
    /// Connect, then tell [`Member::connected`] or [`Member::closed`].
    Connect(Connection, String),
    /// Drop the connection.
    Close(Connection),
    /// Ask for a sign of life; its answer is told as [`Member::heard`].
    Ping(Connection),
    /// Tell the heart of the agent.
    News(News),
    /// Somebody should know.
    Told(String),
}

/// The session that is open, or was last.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// Its replica.
    pub(crate) control: String,
    /// Rises with each.
    pub(crate) epoch: u64,
    /// When it was opened.
    pub(crate) since: Instant,
}

/// What is known beside the services, as it is kept on disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Known {
    node: NodeName,
    hosts: Hosts,
    names: Names,
    /// This host's own.
    slices: Vec<Network>,
    /// Instances that control has been told of, with their addresses: what of them is not there after
    /// a restart is gone. Without an address: gone already, which control may not know.
    reported: BTreeMap<ServiceName, BTreeMap<u32, Option<IpAddr>>>,
    /// In which lineage of the store all of it was told.
    #[serde(default)]
    lineage: Option<String>,
}

impl Kept for Known {
    const FILE: &'static str = "around.json";

    fn node(&self) -> &NodeName {
        &self.node
    }
}

impl Known {
    fn new(node: NodeName) -> Self {
        let (hosts, names) = (Hosts::default(), Names::default());
        Self { node, hosts, names, slices: Vec::new(), reported: BTreeMap::new(), lineage: None }
    }

    pub(super) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    pub(super) fn names(&self) -> &BTreeSet<ServiceName> {
        self.names.all()
    }

    /// Of the newest change of names or hosts.
    pub(super) fn revision(&self) -> Generation {
        self.hosts.generation().max(self.names.generation())
    }

    /// Hosts and names that may be gone.
    pub(super) fn doubted(&self) -> (usize, usize) {
        (self.hosts.doubts(), self.names.doubts())
    }

    /// The addresses that instances of this host had of its IPv4 slice; those of the other follow
    /// from the numbers of the instances.
    pub(crate) fn given(&self) -> impl Iterator<Item = (&ServiceName, u32, Ipv4Addr)> {
        let of = |(service, all)| {
            let all: &BTreeMap<u32, Option<IpAddr>> = all;
            all.iter().filter_map(move |(instance, at)| match at {
                Some(IpAddr::V4(four)) => Some((service, *instance, *four)),
                Some(IpAddr::V6(_)) | None => None,
            })
        };
        self.reported.iter().flat_map(of)
    }
}

/// Which of what is kept changed since it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) mirror: bool,
    pub(crate) known: bool,
}

/// The state of this host in the network.
pub(crate) struct Member {
    joined: Joined,
    link: Link,
    mirror: Mirror,
    known: Known,
    /// What control said that could not be followed, by service.
    refused: BTreeMap<ServiceName, (Generation, String)>,
    /// Services that the mirror had no room for, with what it held then.
    no_room: BTreeMap<ServiceName, usize>,
    connection: Option<Connection>,
    session: Option<Session>,
    /// Hosts and names that may be gone: when all are asked for again, and how long after that.
    lists_at: Option<Instant>,
    lists_after: Duration,
    /// Of lists, nothing in doubt goes before.
    quiet_until: Option<Instant>,
    limits: Limits,
    /// What is placed here though the host was not told to run it.
    unwanted: Vec<Held>,
    /// The last words about a lost link: the same are not repeated.
    lost: Option<String>,
    changed: Changed,
    steps: Vec<Step>,
}

/// What a member begins with.
pub(crate) struct Beginning {
    pub(crate) joined: Joined,
    /// Whether this host can show who it is: else nobody is called.
    pub(crate) certified: bool,
    pub(crate) boot_id: String,
    /// What the host has to give.
    pub(crate) capacity: Resources,
    pub(crate) mirror: Option<Saved>,
    pub(crate) known: Option<Known>,
    pub(crate) random: Box<dyn FnMut() -> f64 + Send>,
}

impl Member {
    /// Goes on with what was known last.
    pub(crate) fn new(now: Instant, beginning: Beginning) -> Self {
        let Beginning { joined, certified, boot_id, capacity, mirror, known, random } = beginning;
        let node = joined.node.clone();
        let limits = Limits::default();
        let mirror = match mirror {
            Some(saved) => Mirror::restore(saved, limits.clone(), now),
            None => Mirror::new(node.clone(), limits.clone()),
        };
        let identity = identity(&joined, boot_id, capacity);
        let control = if certified { joined.control.clone() } else { Vec::new() };
        let settings = Settings { unused_after: UNUSED, ..Settings::new(control) };
        let generations: Vec<_> =
            mirror.known().map(|(service, at)| (service.clone(), at)).collect();
        Self {
            link: Link::new(now, identity, settings, random, generations),
            quiet_until: known.as_ref().map(|_| now + limits.interval),
            known: known.unwrap_or_else(|| Known::new(node)),
            joined,
            mirror,
            refused: BTreeMap::new(),
            no_room: BTreeMap::new(),
            connection: None,
            session: None,
            lists_at: None,
            lists_after: limits.interval,
            limits,
            unwanted: Vec::new(),
            lost: None,
            changed: Changed::default(),
            steps: Vec::new(),
        }
    }

    /// All that is known, for a heart that has just begun.
    pub(crate) fn news(&mut self) -> Vec<News> {
        let names = News::Names(self.known.names.all().clone().into());
        let services = self.take_services();
        [News::Around(self.around().into()), names].into_iter().chain(services).collect()
    }

    /// What the agent's heart found running when it began: what an earlier life reported besides
    /// has ended since.
    pub(crate) fn runs(&mut self, all: BTreeMap<ServiceName, Run>) {
        for (service, run) in all {
            self.report(&service, run);
        }
        for (service, instances) in &self.known.reported {
            self.link.ran(service, instances.keys().copied());
        }
    }

    /// What the host runs of a service now.
    pub(crate) fn report(&mut self, service: &ServiceName, (record, endpoints): Run) {
        let told = self.known.reported.entry(service.clone()).or_default();
        let before = told.clone();
        told.values_mut().for_each(|address| *address = None);
        told.extend(endpoints.iter().map(|(instance, endpoint)| {
            let four = endpoint.address4.map(IpAddr::V4);
            (*instance, four.or(endpoint.address6.map(IpAddr::V6)))
        }));
        self.changed.known |= *told != before;
        self.link.report(service, record, endpoints);
    }

    /// Somebody here looked these up, or calls them.
    pub(crate) fn used<'a>(
        &mut self,
        now: Instant,
        services: impl IntoIterator<Item = &'a ServiceName>,
    ) {
        for service in services {
            if self.known.names.all().contains(service) || self.mirror.remote(service).is_some() {
                self.link.used(now, service);
            }
        }
    }

    /// Services that this host's own name as what they call.
    pub(crate) fn configure(&mut self, now: Instant, services: BTreeSet<ServiceName>) {
        self.link.configure(now, services);
    }

    /// This host has joined anew: it can show who it is.
    pub(crate) fn certified(&mut self, now: Instant, token: TokenId) {
        self.joined.token = Some(token);
        self.link.find(now, self.joined.control.clone());
    }

    /// Its own addresses, as far as they were found. What it was given holds before that.
    pub(crate) fn is_at(&mut self, found: &[IpAddr]) {
        if self.joined.addresses.is_empty() {
            self.link.is_at(found);
        }
    }

    /// The connection is there.
    pub(crate) fn connected(&mut self, now: Instant, connection: Connection) {
        self.link.connected(now, connection);
    }

    /// It could not be made, or it ended.
    pub(crate) fn closed(&mut self, now: Instant, connection: Connection, why: &str) -> Vec<Step> {
        let outputs = self.link.closed(now, connection, why);
        if self.connection == Some(connection) {
            self.connection = None;
        }
        self.perform(now, outputs)
    }

    /// Anything came.
    pub(crate) fn heard(&mut self, now: Instant, connection: Connection) {
        self.link.heard(now, connection);
    }

    /// A message came; `wall_clock` is this host's, since 1970.
    pub(crate) fn received(
        &mut self,
        now: Instant,
        wall_clock: Duration,
        connection: Connection,
        message: Bytes,
    ) -> Vec<Step> {
        let outputs = match FromControl::decode(message) {
            Ok(message) => {
                // What was owed may be paid.
                self.changed.known |= matches!(message, FromControl::Reported(_))
                    && self.known.reported.values().flat_map(BTreeMap::values).any(Option::is_none);
                self.link.received(now, wall_clock, connection, message)
            }
            Err(DecodeError { error: Error::UnknownKind, .. }) => {
                self.link.heard(now, connection);
                Vec::new()
            }
            Err(DecodeError { error, of }) => {
                self.link.heard(now, connection);
                match of {
                    Some(Subject::Service(service, _)) if !self.link.wants(&service) => {}
                    Some(Subject::Assigned(generation, services)) => {
                        let reason =
                            format!("what control has this host run cannot be read: {error}");
                        let refused = services.iter().map(|name| placed::held(name, &reason));
                        self.placed(Placed { generation, refused: refused.collect() });
                    }
                    Some(Subject::Service(service, generation)) => {
                        let reason = Refused::Unreadable(error.to_string());
                        self.answer(&service, Answer::Nack { generation, reason });
                    }
                    None => self.tell(format!("control says what cannot be read: {error}")),
                }
                Vec::new()
            }
        };
        self.perform(now, outputs)
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Step> {
        if self.lists_at.is_some_and(|at| at <= now) {
            self.lists_at = None;
            if self.link.is_open() {
                self.begin_anew(now, "hosts or names are in doubt, and all of them are asked for");
            }
        }
        let outputs = self.link.tick(now);
        for service in self.mirror.asks(now) {
            self.link.ask(&service);
        }
        self.perform(now, outputs)
    }

    /// When [`tick`](Self::tick) is wanted.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        [self.link.next_tick(), self.mirror.next_ask(), self.lists_at].into_iter().flatten().min()
    }

    /// What to send next on the connection that is there.
    pub(crate) fn next_message(&mut self, now: Instant, wall_clock: Duration) -> Option<FromAgent> {
        self.link.next_message(now, wall_clock)
    }

    /// What has to be written, since this was asked last.
    pub(crate) fn take_changed(&mut self) -> Changed {
        if self.changed.known {
            let link = &self.link;
            self.known.reported.retain(|service, instances| {
                instances.retain(|instance, at| at.is_some() || link.owes(service, *instance));
                !instances.is_empty()
            });
        }
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn joined(&self) -> &Joined {
        &self.joined
    }

    pub(crate) fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    pub(crate) fn known(&self) -> &Known {
        &self.known
    }

    pub(crate) fn refused(&self) -> &BTreeMap<ServiceName, (Generation, String)> {
        &self.refused
    }

    /// Whether control has all that this host reports.
    pub(super) fn has_reported(&self) -> bool {
        self.link.has_reported()
    }

    /// What control did not take of what was reported, and why not.
    pub(super) fn held(&self) -> &BTreeMap<ServiceName, String> {
        self.link.held()
    }

    /// The session, while one is open.
    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.as_ref().filter(|_| self.link.is_open())
    }

    /// Why there is none, when one was lost.
    pub(crate) fn lost(&self) -> Option<&str> {
        self.lost.as_deref().filter(|_| !self.link.is_open())
    }

    fn perform(&mut self, now: Instant, outputs: Vec<Output>) -> Vec<Step> {
        for output in outputs {
            match output {
                Output::Connect(connection, address) => {
                    self.connection = Some(connection);
                    let newest = self.known.revision().max(self.mirror.newest());
                    self.link.was_told(self.known.lineage.clone(), newest);
                    self.steps.push(Step::Connect(connection, address));
                }
                Output::Close(connection) => self.steps.push(Step::Close(connection)),
                Output::Ping(connection) => self.steps.push(Step::Ping(connection)),
                Output::Apply(message) => self.apply(now, message),
                Output::Dead(node) => {
                    self.tell(format!(
                        "host {node} was declared dead; connections to it are closed"
                    ));
                    self.steps.push(Step::News(News::Dead(node)));
                }
                Output::Open(welcome) => self.open(now, welcome),
                Output::Forget(service) => {
                    self.mirror.forget(&service);
                    self.refused.remove(&service);
                    self.no_room.remove(&service);
                    self.changed.mirror = true;
                }
                Output::Notice(notice) => self.notice(&notice),
            }
        }
        for notice in self.mirror.take_notices() {
            self.tell(notice.to_string());
        }
        self.ask_for_what_had_no_room();
        let services = self.take_services();
        self.changed.mirror |= services.is_some();
        self.steps.extend(services.map(Step::News));
        std::mem::take(&mut self.steps)
    }

    /// Control would not say it again by itself.
    fn ask_for_what_had_no_room(&mut self) {
        let holds = self.mirror.holds();
        for service in self.no_room.extract_if(.., |_, held| holds < *held) {
            self.link.ask(&service.0);
        }
    }

    fn open(&mut self, now: Instant, welcome: Welcome) {
        let Welcome { epoch, control, instances4, instances6, lineage, .. } = welcome;
        self.tell(format!("a session with control {control} is open"));
        self.lost = None;
        self.session = Some(Session { control, epoch, since: now });
        if let Some(lineage) = lineage {
            self.take_lineage(now, lineage);
        }
        // A slice is a host's for ever: what is not told is as it was.
        let told: Vec<Network> = [instances4, instances6].into_iter().flatten().collect();
        let is_told = |slice: &Network| {
            told.iter().any(|new| new.address().is_ipv4() == slice.address().is_ipv4())
        };
        let kept = self.known.slices.iter().filter(|slice| !is_told(slice)).copied();
        let slices: Vec<Network> = kept.chain(told.iter().copied()).collect();
        if slices != self.known.slices {
            self.known.slices = slices;
            self.tell_around();
        }
    }

    /// Generations of another lineage say nothing in this one. What is known stays, and is confirmed
    /// or refuted by what is told now: all of it.
    fn take_lineage(&mut self, now: Instant, Lineage { id, since }: Lineage) {
        let before = self.known.lineage.replace(id);
        if before == self.known.lineage {
            return;
        }
        (self.changed.known, self.changed.mirror) = (true, true);
        // Who was told of none was told in this one.
        if before.is_none() {
            return;
        }
        self.tell(
            "the store of control was restored as it was before: all is told anew, and what is known \
             stays until it is confirmed or refuted"
                .to_owned(),
        );
        self.quiet_until = Some(now + self.limits.interval);
        self.known.hosts.begin_lineage();
        self.known.names.begin_lineage();
        self.mirror.begin_lineage(now, since);
        self.link.begin_lineage();
    }

    fn apply(&mut self, now: Instant, message: FromControl) {
        match message {
            FromControl::Snapshot(snapshot) => {
                let service = snapshot.service.clone();
                let answer = self.mirror.snapshot(now, snapshot);
                self.answer(&service, answer);
            }
            FromControl::Delta(delta) => {
                let service = delta.service.clone();
                let answer = self.mirror.delta(now, delta);
                self.answer(&service, answer);
            }
            FromControl::Catalog(catalog) => {
                let turn = self.limits.turn(now, self.quiet_until);
                let taken = self.known.names.take(&turn, catalog);
                if self.took(now, &taken, "names of services") {
                    let names = self.known.names.all().clone();
                    self.steps.push(Step::News(News::Names(names.into())));
                }
            }
            FromControl::Hosts(hosts) => {
                let turn = self.limits.turn(now, self.quiet_until);
                let taken = self.known.hosts.take(&turn, hosts);
                if self.took(now, &taken, "hosts") {
                    self.tell_around();
                }
            }
            FromControl::Zones(zones) => {
                let changed = self.known.hosts.limit(zones);
                changed.then(|| self.tell_around());
            }
            FromControl::Assigned(assigned) => self.assigned(assigned),
            // The link keeps what else there is to itself.
            _ => {}
        }
    }

    /// A host that was not told to take what others place runs none of it.
    fn assigned(&mut self, mut assigned: Assigned) {
        self.unwanted.clear();
        if !self.joined.placement {
            let reason = "this host does not run what is placed: its agent wants --placement";
            let held = |service: ServiceName| Held { service, reason: reason.to_owned() };
            let services = std::mem::take(&mut assigned.services);
            self.unwanted = services.into_keys().map(held).collect();
        }
        self.steps.push(Step::News(News::Assigned(assigned.into())));
    }

    /// What became of what control has this host run.
    pub(crate) fn placed(&mut self, mut placed: Placed) {
        placed.refused.extend(self.unwanted.iter().cloned());
        for held in &placed.refused {
            self.tell(format!("{} is placed here and not run: {}", held.service, held.reason));
        }
        self.link.placed(placed);
    }

    fn answer(&mut self, service: &ServiceName, answer: Answer) {
        match &answer {
            Answer::Ack { .. } => {
                self.refused.remove(service);
                self.no_room.remove(service);
            }
            Answer::Nack { generation, reason } => {
                if matches!(reason, Refused::Full { .. }) {
                    self.no_room.insert(service.clone(), self.mirror.holds());
                }
                let reason = reason.to_string();
                let before = self.refused.insert(service.clone(), (*generation, reason.clone()));
                if before.is_none_or(|(_, before)| before != reason) {
                    self.tell(format!(
                        "what control says of {service} at generation {generation} is refused, and what \
                         was known stays: {reason}"
                    ));
                }
            }
        }
        self.link.answered(service, answer);
    }

    /// Whether a message about a list of `what` changed it.
    fn took(&mut self, now: Instant, taken: &Taken, what: &str) -> bool {
        match taken {
            Taken::Applied { changed, doubted } => {
                if *doubted > 0 {
                    self.tell(format!(
                        "{doubted} {what} are missing from what control tells, without a reason; they stay, \
                         and go by a few at a time when they are missing still"
                    ));
                }
                self.look_at_doubts(now);
                self.changed.known |= changed;
                *changed
            }
            Taken::Older { told, known, begins } => {
                if *begins {
                    self.tell(format!(
                        "control tells of {what} as of generation {told}, and {known} is known here, which \
                         stays: this control replica is behind, or its store was restored from a backup"
                    ));
                }
                false
            }
            Taken::Gap => {
                self.begin_anew(now, &format!("changes of {what} were missed"));
                false
            }
        }
    }

    /// Only a session that begins is told of all hosts and names.
    fn look_at_doubts(&mut self, now: Instant) {
        if self.known.doubted() == (0, 0) {
            self.lists_at = None;
            self.lists_after = self.limits.interval;
        } else if self.lists_at.is_none() {
            self.lists_at = Some(now + self.lists_after);
            self.lists_after = (2 * self.lists_after).min(LONGEST_DOUBT);
        }
    }

    /// The next session is told everything.
    fn begin_anew(&mut self, now: Instant, why: &str) {
        let Some(connection) = self.connection.take() else { return };
        self.steps.push(Step::Close(connection));
        let outputs = self.link.closed(now, connection, why);
        for output in outputs {
            if let Output::Notice(notice) = output {
                self.notice(&notice);
            }
        }
    }

    fn notice(&mut self, notice: &super::link::Notice) {
        let text = notice.to_string();
        if matches!(notice, super::link::Notice::Lost { .. }) {
            if self.lost.as_ref() == Some(&text) {
                return;
            }
            self.lost = Some(text.clone());
        }
        self.tell(text);
    }

    fn tell(&mut self, what: String) {
        self.steps.push(Step::Told(what));
    }

    fn tell_around(&mut self) {
        self.changed.known = true;
        let around = self.around().into();
        self.steps.push(Step::News(News::Around(around)));
    }

    pub(super) fn around(&self) -> Around {
        let node = &self.joined.node;
        let hosts = self.known.hosts.all();
        let peers: BTreeMap<_, Arc<datapath::Peer>> = hosts
            .iter()
            .filter(|(name, _)| *name != node)
            .map(|(name, host)| (name.clone(), peer(name, host).into()))
            .collect();
        let slices = self.known.slices.clone();
        let all = peers.values().flat_map(|peer| peer.slices.iter()).chain(&slices).copied();
        let networks = covering(&all.collect::<Vec<_>>());
        let seen = hosts.get(node);
        let seen = seen
            .iter()
            .flat_map(|host| [host.address4.map(IpAddr::from), host.address6.map(IpAddr::from)]);
        let own = match self.joined.addresses.as_slice() {
            [] => seen.flatten().collect(),
            given => given.to_vec(),
        };
        Around {
            node: node.clone(),
            zone: self.joined.zone.clone(),
            own,
            fleet: datapath::Fleet { networks, slices, peers },
            limited: self.known.hosts.limited().clone(),
        }
    }

    fn take_services(&mut self) -> Option<News> {
        let changed = self.mirror.take_changed();
        let remote = |name: ServiceName| {
            let known = self.mirror.remote(&name).and_then(Remote::of);
            (name, known.map(Arc::new))
        };
        let services: Vec<_> = changed.into_iter().map(remote).collect();
        (!services.is_empty()).then_some(News::Services(services))
    }
}

fn identity(joined: &Joined, boot_id: String, capacity: Resources) -> Identity {
    let (address4, address6) = by_family(&joined.addresses);
    Identity {
        capacity,
        node: joined.node.clone(),
        zone: joined.zone.clone(),
        labels: joined.labels.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id,
        address4,
        address6,
    }
}

#[cfg(test)]
mod tests;
